"""Data sets made of another one: a part set aside, equal classes, samples spoilt on purpose."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import Dataset

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.registry import DATASETS

Labels = Sequence[int] | np.ndarray | Tensor


def meta_split(labels: Labels, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sets a share of every class aside, at random.

    Args:
        labels: classes ``(N,)``.
        share: of each class, in (0, 1), rounded; of a class with two samples or more, one at least
            goes to either part. The only sample of a class stays in the first part, with a warning.
        seed: of the draw.

    Returns:
        Indices of the rest, and of what is set aside: both sorted, together all from 0 to N - 1.

    Raises:
        UserError: a share out of (0, 1), labels that are no classes, or nothing to set aside.
    """
    _check_share(share)
    numbers = _as_classes(labels, 'meta_split')
    classes, where, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    single = classes[counts == 1]
    if len(single):
        message = f'class {single[0]} has one sample' + (
            f', and so have {len(single) - 1} others' if len(single) > 1 else ''
        )
        print_log(f'{message}: nothing of it is set aside', 'current', logging.WARNING)
    quota = np.rint(counts * share).astype(int).clip(1, np.maximum(counts - 1, 1))
    quota[counts == 1] = 0
    order = np.lexsort((np.random.default_rng(seed).random(len(numbers)), where))
    place = np.arange(len(numbers)) - np.repeat(counts.cumsum() - counts, counts)
    chosen = np.zeros(len(numbers), bool)
    chosen[order] = place < np.repeat(quota, counts)
    if not chosen.any():
        raise UserError(f'no class of {len(numbers)} samples has two: nothing can be set aside')
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def unchanged(dataset: Dataset) -> Dataset:
    """A data set whose samples are the same each time they are read.

    Raises:
        UserError: the data set changes its samples and has no method ``unchanged``.
    """
    if hasattr(dataset, 'unchanged'):
        return dataset.unchanged()
    if getattr(dataset, 'changes_samples', False):
        raise UserError(
            f'{type(dataset).__name__} changes its samples at random and has no unchanged(): '
            'switch its augmentation off'
        )
    return dataset


class _Wrapper(Dataset):
    """What all wrappers pass on from the data set inside."""

    def __init__(self, dataset: Mapping[str, Any] | Dataset) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        name = type(self.dataset).__name__
        self.labels = torch.from_numpy(
            _as_classes(getattr(self.dataset, 'labels', None), name)
        ).clone()
        self.metainfo = getattr(self.dataset, 'metainfo', {})

    @property
    def changes_samples(self) -> bool:
        """Whether a sample is another one each time."""
        return getattr(self.dataset, 'changes_samples', False)

    def unchanged(self) -> _Wrapper:
        """The same samples without what changes them at random."""
        same = copy.copy(self)
        same.dataset = unchanged(self.dataset)
        return same

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)


class _Selected(_Wrapper):
    """Samples of the data set inside by their indices, in this order."""

    def _select(self, indices: np.ndarray) -> None:
        """Keeps these."""
        self.indices = indices
        self.labels = self.labels[torch.from_numpy(indices)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        return self.dataset[int(self.indices[index])]


@DATASETS.register_module()
class SplitDataset(_Selected):
    """One part of a data set that :func:`meta_split` divides.

    Args:
        dataset: config or built, with ``labels``.
        share: of each class that is set aside, in (0, 1).
        seed: of the draw.
        part: ``train``, or ``meta``: what is set aside.
        record: JSON file that the split is written to. If it is there already, it must hold the
            same split: a training that goes on must not learn from what was set aside.

    Raises:
        UserError: see :func:`meta_split`; another part, or a record of another split.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | Dataset,
        share: float,
        seed: int = 0,
        part: str = 'train',
        record: str | None = None,
    ) -> None:
        if part not in ('train', 'meta'):
            raise UserError(f'part of SplitDataset is train or meta, got {part!r}')
        super().__init__(dataset)
        train, meta = meta_split(self.labels, share, seed)
        if record is not None:
            _record(Path(record), share, seed, self.labels.numpy(), meta)
        self._select(train if part == 'train' else meta)


@DATASETS.register_module()
class OverSampled(_Selected):
    """All samples, and then random ones of the smaller classes again until all are of one size.

    Args:
        dataset: config or built, with ``labels``; one to train with, never to test with.
        seed: of the draw.
    """

    def __init__(self, dataset: Mapping[str, Any] | Dataset, seed: int = 0) -> None:
        super().__init__(dataset)
        numbers = self.labels.numpy()
        draw = np.random.default_rng(seed)
        _, where, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        groups = np.split(np.argsort(where, kind='stable'), counts.cumsum()[:-1])
        again = [draw.choice(each, counts.max() - len(each)) for each in groups]
        self._select(np.concatenate([np.arange(len(numbers)), *again]))


@DATASETS.register_module()
class Corrupted(_Wrapper):
    """Spoils a fixed random share of samples, to see what a method makes of them.

    ``corrupted`` ``(N,)`` says which ones; they are the same for all kinds with the same seed.

    Args:
        dataset: config or built, with ``labels``.
        share: of the samples, in (0, 1), rounded.
        kind: ``inputs``: Gaussian noise in place of every float tensor of the inputs, the outliers
            of TGeo-KD (arXiv:2312.15112); ``labels``: another class, drawn evenly.
        seed: of the draw; the noise of a sample depends on it and on the index alone.
        noise: standard deviation of the noise.

    Raises:
        UserError: a share out of (0, 1) or that is no sample, another kind, one class only, or
            inputs without a float tensor.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | Dataset,
        share: float,
        kind: str = 'inputs',
        seed: int = 0,
        noise: float = 1.0,
    ) -> None:
        _check_share(share)
        if kind not in ('inputs', 'labels'):
            raise UserError(f'kind of Corrupted is inputs or labels, got {kind!r}')
        super().__init__(dataset)
        self.kind, self.seed, self.noise = kind, seed, noise
        count = round(share * len(self))
        if not count:
            raise UserError(f'share {share} of {len(self)} samples is none: raise it')
        draw = np.random.default_rng(seed)
        chosen = draw.permutation(len(self))[:count]
        self.corrupted = np.zeros(len(self), bool)
        self.corrupted[chosen] = True
        if kind == 'labels':
            classes = len(self.metainfo.get('classes', ())) or int(self.labels.max()) + 1
            if classes < 2:
                raise UserError('labels of one class alone cannot be corrupted')
            shift = torch.from_numpy(draw.integers(1, classes, count))
            where = torch.from_numpy(chosen)
            self.labels[where] = (self.labels[where] + shift) % classes

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample, spoilt or not."""
        index = range(len(self))[index]
        sample = {**self.dataset[index], 'labels': int(self.labels[index])}
        if self.kind == 'inputs' and self.corrupted[index]:
            sample['inputs'] = self._noise(sample['inputs'], index)
        return sample

    def _noise(self, inputs: Mapping[str, Any], index: int) -> dict[str, Any]:
        """Inputs whose float tensors are noise."""
        # index 0 would give the generator of the seed alone, which drew the share
        draw = np.random.default_rng((self.seed, index + 1))
        found = dict(inputs)
        names = [
            name
            for name, each in inputs.items()
            if isinstance(each, Tensor) and each.is_floating_point()
        ]
        if not names:
            raise UserError(f'inputs {sorted(inputs)} have no float tensor that could be noise')
        for name in names:
            values = torch.from_numpy(draw.standard_normal(inputs[name].shape))
            found[name] = (self.noise * values).to(inputs[name].dtype)
        return found


def _check_share(share: float) -> None:
    """Refuses all or nothing."""
    if not 0 < share < 1:
        raise UserError(f'share must be between 0 and 1, both excluded, got {share}')


def _as_classes(labels: Labels | None, owner: str) -> np.ndarray:
    """Labels as integers."""
    if labels is None:
        raise UserError(f'{owner} has no labels, but classes are needed')
    found = np.asarray(labels)
    if found.ndim != 1 or found.dtype.kind not in 'iu' or not len(found):
        raise UserError(f'labels of {owner} are not one class per sample')
    return found.astype(np.int64)


def _record(path: Path, share: float, seed: int, labels: np.ndarray, meta: np.ndarray) -> None:
    """Writes a split, or compares it with what was written."""
    digest = hashlib.sha256(labels.tobytes()).hexdigest()
    content = dict(share=share, seed=seed, samples=len(labels), labels=digest, meta=meta.tolist())
    if not path.exists():
        write_atomic(path, lambda file: file.write(json.dumps(content).encode()))
        return
    try:
        before = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(f'{path}: this is no record of a split: {error}') from error
    if before != content:
        raise UserError(
            f'{path}: another split was recorded (of other samples, share or seed); remove the '
            'file if the training starts anew'
        )
