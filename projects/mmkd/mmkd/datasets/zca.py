"""ZCA whitening: pixels become uncorrelated, and images stay as near to themselves as they can."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError

CHUNK = 1000
"""Images that are looked at together."""


class Fingerprint:
    """Hash of images that come in chunks; the same ones in other chunks have the same."""

    def __init__(self) -> None:
        self._bytes = hashlib.sha256()
        self._seen: tuple[torch.dtype, torch.Size] | None = None
        self.count = 0

    def add(self, images: Tensor) -> None:
        """Takes ``(n, ...)`` in.

        Raises:
            UserError: images of another shape or type than those before.
        """
        seen = (images.dtype, images.shape[1:])
        if self._seen is not None and seen != self._seen:
            raise UserError(
                f'images of a whitening must be of one shape and type, got {tuple(seen[1])} '
                f'{seen[0]} after {tuple(self._seen[1])} {self._seen[0]}'
            )
        self._seen = seen
        self.count += len(images)
        self._bytes.update(np.ascontiguousarray(images.detach().cpu().numpy()))

    def digest(self, *about: object) -> str:
        """Hexadecimal, of the images and of plain values beside them."""
        kind = [] if self._seen is None else [str(self._seen[0]), list(self._seen[1])]
        content = json.dumps([self.count, kind, self._bytes.hexdigest(), *about])
        return hashlib.sha256(content.encode()).hexdigest()


def whitening_digest(chunks: Iterable[Tensor], eps: float) -> str:
    """The ``digest`` that a whitening fitted on these images has.

    Args:
        chunks: images ``(n, C, H, W)``.
        eps: see :meth:`ZCA.fit`.
    """
    fingerprint = Fingerprint()
    for images in chunks:
        fingerprint.add(images)
    return fingerprint.digest(float(eps))


@dataclass(frozen=True, eq=False)
class ZCA:
    """``x -> W (x - mean)`` with ``W = U diag((s + eps)^(-1/2)) U^T``, and its inverse.

    D is C H W; s and U are eigenvalues and eigenvectors of the images' covariance, in float64. W
    does not depend on the signs of eigenvectors.

    Attributes:
        mean: ``(D,)``.
        vectors: U, columns, ``(D, D)``.
        values: s, rising, ``(D,)``, not negative.
        shape: C, H, W.
        eps: is added to the eigenvalues, in squared units of the pixels.
        digest: hash of eps and of the images that it was fitted on.
    """

    mean: Tensor
    vectors: Tensor
    values: Tensor
    shape: tuple[int, ...]
    eps: float
    digest: str

    @classmethod
    def fit(cls, chunks: Iterable[Tensor], eps: float = 0.1) -> ZCA:
        """The whitening of images that come in chunks; memory is that of two ``(D, D)`` matrices.

        Moments of chunks are merged about their means, so that large means cost no accuracy.

        Args:
            chunks: images ``(n, C, H, W)``.
            eps: above 0.

        Raises:
            UserError: eps is not above 0, fewer than two images, images of different shapes, or
                values that are not finite.
        """
        if not (eps > 0 and math.isfinite(eps)):
            raise UserError(f'eps of a whitening must be above 0, got {eps}')
        fingerprint, count = Fingerprint(), 0
        mean = scatter = torch.zeros((), dtype=torch.float64)
        for images in chunks:
            fingerprint.add(images)
            if not len(images):
                continue
            flat, before, count = images.flatten(1).double(), count, fingerprint.count
            centre = flat.mean(0)
            apart, flat = centre - mean, flat - centre
            between = apart * (before * len(flat) / count)
            scatter = (flat.T @ flat).addr_(between, apart).add_(scatter)
            mean = mean + apart * (len(flat) / count)
            shape = tuple(images.shape[1:])
        if count < 2:
            raise UserError(f'a whitening needs at least two images, got {count}')
        if not scatter.isfinite().all():
            raise UserError('images of a whitening have values that are not finite')
        values, vectors = torch.linalg.eigh(scatter / (count - 1))
        digest = fingerprint.digest(float(eps))
        return cls(mean, vectors, values.clamp(min=0), shape, float(eps), digest)

    @cached_property
    def matrix(self) -> Tensor:
        """W, ``(D, D)``, symmetric."""
        return self._power(-0.5)

    @cached_property
    def inverse(self) -> Tensor:
        """Inverse of W."""
        return self._power(0.5)

    def _power(self, exponent: float) -> Tensor:
        """``U diag((s + eps)^exponent) U^T``."""
        return (self.vectors * (self.values + self.eps) ** exponent) @ self.vectors.T

    def whiten(self, images: Tensor) -> Tensor:
        """Whitened images, computed in float64.

        Args:
            images: ``(n, C, H, W)`` float.

        Returns:
            The same shape, type and device.

        Raises:
            UserError: images of another shape.
        """
        flat = self._flat(images) - self.mean.to(images.device)
        return (flat @ self.matrix.to(images.device)).view(images.shape).to(images.dtype)

    def colour(self, images: Tensor) -> Tensor:
        """Whitened images as they were; see :meth:`whiten`."""
        flat = self._flat(images) @ self.inverse.to(images.device)
        return (flat + self.mean.to(images.device)).view(images.shape).to(images.dtype)

    def _flat(self, images: Tensor) -> Tensor:
        """Images as rows of float64."""
        if tuple(images.shape[1:]) != self.shape:
            raise UserError(
                f'this whitening was fitted on images {self.shape}, got {tuple(images.shape[1:])}'
            )
        return images.flatten(1).double()

    def save(self, path: str | Path) -> None:
        """Writes an ``.npz`` file, whole or not at all."""
        about = json.dumps(dict(shape=self.shape, eps=self.eps, digest=self.digest)).encode()
        arrays = {name: getattr(self, name).numpy() for name in ('mean', 'vectors', 'values')}
        about = np.frombuffer(about, np.uint8)
        write_atomic(path, lambda file: np.savez(file, about=about, **arrays))

    @classmethod
    def load(cls, path: str | Path) -> ZCA:
        """What :meth:`save` wrote.

        Raises:
            UserError: there is no such file, or it is another one.
        """
        try:
            with np.load(path, allow_pickle=False) as found:
                about = json.loads(found['about'].tobytes())
                names = ('mean', 'vectors', 'values')
                arrays = {name: torch.from_numpy(found[name]) for name in names}
            about['shape'] = tuple(about['shape'])
            return cls(**arrays, **about)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            zipfile.BadZipFile,
        ) as error:
            raise UserError(f'{path}: this is no whitening that can be read: {error}') from error


def fitted(images: Tensor, eps: float = 0.1, cache: str | Path | None = None) -> ZCA:
    """The whitening of images, from a file if it was fitted on the same ones before.

    Args:
        images: ``(N, C, H, W)``.
        eps: see :meth:`ZCA.fit`.
        cache: file to read or to write; one of other images or another eps is replaced, with a
            warning.

    Raises:
        UserError: see :meth:`ZCA.fit`; the file is no whitening.
    """
    chunks = images.split(CHUNK)
    if cache is not None and Path(cache).exists():
        found = ZCA.load(cache)
        if found.digest == whitening_digest(chunks, eps):
            return found
        message = f'{cache}: this whitening is of other images or another eps and is replaced'
        print_log(message, 'current', logging.WARNING)
    found = ZCA.fit(chunks, eps)
    if cache is not None:
        found.save(cache)
    return found
