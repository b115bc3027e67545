"""Images in memory as networks see them: read once, and whitened where that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmdistill.core.errors import UserError, options_of
from mmkd.datasets.subsets import unchanged
from mmkd.datasets.zca import CHUNK, ZCA, Fingerprint, fitted
from mmkd.registry import DATASETS


@DATASETS.register_module()
class PreparedImages(Dataset):
    """All images of another data set as one tensor, as they are without random changes.

    A sample is ``dict(inputs=dict(pixel_values), labels)``: ``(C, H, W)`` float and the class.
    ``images`` ``(N, C, H, W)`` float32 and ``labels`` ``(N,)`` are all of them, ``whitening`` is
    the :class:`ZCA` or None. ``digest`` is a hash of labels, of images before the whitening, and of
    what that was fitted on: equal ones mean equal data.

    Args:
        dataset: config or built; samples of the same form, images of one size.
        zca: ``dict(fit=..., eps=0.1, cache=None)``; None: images stay as they are. ``fit`` is a
            data set as above whose images the whitening is fitted on, those to train with. ``eps``
            is in squared units of the pixels; it is meant for pixels in [0, 1]. ``cache`` is a
            file that the whitening is kept in, see :func:`mmkd.datasets.zca.fitted`.

    Raises:
        UserError: samples of another form or of different sizes, none at all, or a whitening that
            cannot be fitted.
    """

    changes_samples = False

    def __init__(
        self, dataset: Mapping[str, Any] | Dataset, zca: Mapping[str, Any] | None = None
    ) -> None:
        dataset = _built(dataset)
        self.metainfo = getattr(dataset, 'metainfo', {})
        self.images, self.labels = read_images(dataset)
        self.whitening: ZCA | None = None
        if zca is not None:
            options = options_of('zca', zca, dict(fit=None, eps=0.1, cache=None))
            if options['fit'] is None:
                raise UserError('zca needs fit: the data set whose images it is fitted on')
            seen, _ = read_images(_built(options['fit']))
            self.whitening = fitted(seen, options['eps'], options['cache'])
        self.digest = self._digest()
        if self.whitening is not None:
            for some in self.images.split(CHUNK):
                some.copy_(self.whitening.whiten(some))

    def _digest(self) -> str:
        """Of the data before the whitening, and of that."""
        fingerprints = [Fingerprint(), Fingerprint()]
        for each, values in zip(fingerprints, (self.labels, self.images), strict=True):
            each.add(values)
        labels, images = fingerprints
        whitening = None if self.whitening is None else self.whitening.digest
        return images.digest(labels.digest(), whitening)

    def view(self, images: Tensor) -> Tensor:
        """Images ``(n, C, H, W)`` as they are without whitening."""
        return images if self.whitening is None else self.whitening.colour(images)

    def unchanged(self) -> PreparedImages:
        """The data set itself."""
        return self

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        return dict(inputs=dict(pixel_values=self.images[index]), labels=int(self.labels[index]))


def read_images(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """All images and labels of a data set without its random changes.

    Args:
        dataset: of samples ``dict(inputs=dict(pixel_values), labels)``.

    Returns:
        Images ``(N, C, H, W)`` float32 and classes ``(N,)``.

    Raises:
        UserError: samples of another form or of different sizes, or none at all.
    """
    name = type(dataset).__name__
    if not len(dataset):
        raise UserError(f'{name} has no images')

    def collate(samples: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
        return _batch(samples, name)

    # its own generator: a loader would draw a seed from the global one
    loader = DataLoader(unchanged(dataset), CHUNK, collate_fn=collate, generator=torch.Generator())
    images, labels, start = torch.empty(0), torch.empty(len(dataset), dtype=torch.int64), 0
    for some, numbers in loader:
        if not start:
            images = torch.empty(len(dataset), *some.shape[1:])
        _check_size(some.shape[1:], images.shape[1:], name)
        images[start : start + len(some)], labels[start : start + len(some)] = some, numbers
        start += len(some)
    return images, labels


def _batch(samples: Sequence[Mapping[str, Any]], name: str) -> tuple[Tensor, Tensor]:
    """Images and labels of some samples."""
    images = []
    for sample in samples:
        inputs, label = sample['inputs'], sample.get('labels')
        image = inputs.get('pixel_values')
        if not isinstance(image, Tensor) or image.ndim != 3 or not image.is_floating_point():
            raise UserError(
                f'samples of {name} have no float images pixel_values (C, H, W), '
                f'only {sorted(inputs)}'
            )
        if not isinstance(label, Integral):
            raise UserError(f'labels of {name} are not one class per sample, got {label!r}')
        _check_size(image.shape, samples[0]['inputs']['pixel_values'].shape, name)
        images.append(image)
    return torch.stack(images), torch.tensor([int(each['labels']) for each in samples])


def _check_size(found: torch.Size, wanted: torch.Size, name: str) -> None:
    """Images of one data set have one size."""
    if found != wanted:
        raise UserError(
            f'images of {name} are {tuple(wanted)} and {tuple(found)}: bring them to one size'
        )


def _built(dataset: Mapping[str, Any] | Dataset) -> Dataset:
    """A data set, of a config or as it is."""
    return DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset
