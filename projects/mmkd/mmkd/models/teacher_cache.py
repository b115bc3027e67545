"""What a teacher says of fixed samples, asked once before a training.

Worth its memory where samples are seen several times and do not change: no augmentation, and for
texts either logits alone or batches of one width. It is filled in the order of the data set, in
batches of its own, so that a training that is resumed finds the same values, bit for bit.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmkd.models.frozen_teacher import FrozenTeacher
from mmkd.registry import HOOKS
from mmkd.signals.observer import Signals


class TeacherCache:
    """Signals of all samples of a data set, in memory.

    Args:
        samples: how many there are.
        kinds: of signals beside the logits.
        limit: bytes that they may take.

    Attributes:
        kinds: see above.
    """

    def __init__(self, samples: int, kinds: Collection[str], limit: int) -> None:
        self.samples, self.kinds, self.limit = samples, frozenset(kinds), limit
        self._kept: dict[str, list[Tensor]] = {}

    def put(self, start: int, signals: Signals) -> None:
        """Keeps a batch.

        Args:
            start: number of its first sample; its others follow.
            signals: of the teacher.

        Raises:
            UserError: they do not fit into the limit, or are not as wide as those before.
        """
        for name, values in self._lists(signals).items():
            if name not in self._kept:
                self._kept[name] = [
                    torch.empty(self.samples, *each.shape[1:], dtype=each.dtype)
                    for each in self._affordable(name, values)
                ]
            for kept, each in zip(self._kept[name], values, strict=True):
                if kept.shape[1:] != each.shape[1:]:
                    raise UserError(
                        f'{name} of the teacher have shape {tuple(each.shape[1:])} in one batch '
                        f'and {tuple(kept.shape[1:])} in another: give texts one width, '
                        "collate_fn=dict(type='mmkd.pad_collate', width=...)"
                    )
                kept[start : start + len(each)] = each.cpu()

    def _lists(self, signals: Signals) -> dict[str, list[Tensor]]:
        """What is kept, by kind."""
        return {'logits': [signals.logits], **{k: getattr(signals, k) for k in sorted(self.kinds)}}

    def _affordable(self, name: str, values: list[Tensor]) -> list[Tensor]:
        """The same, when there is room for as much of every sample."""
        had = sum(each.nbytes for kept in self._kept.values() for each in kept)
        more = sum(each.nbytes // len(each) for each in values) * self.samples
        if had + more > self.limit:
            raise UserError(
                f"the teacher's {name} of {self.samples} samples need {more / 2**30:.1f} GiB "
                f'beside {had / 2**30:.1f}: raise limit_gb of TeacherCacheHook, or do without it'
            )
        return values

    def get(self, index: Tensor, device: torch.device) -> Signals:
        """Signals of some samples.

        Args:
            index: ``(B,)`` their numbers.
            device: where they are wanted.
        """
        index = index.cpu()
        found = {
            name: [each[index].to(device, non_blocking=True) for each in kept]
            for name, kept in self._kept.items()
        }
        logits = found.pop('logits')[0]
        return Signals(logits=logits, **found)


@torch.no_grad()
def filled_cache(
    teacher: FrozenTeacher,
    dataset: Dataset,
    collate: Any,
    kinds: Collection[str],
    limit: int,
    batch_size: int = 64,
    device: torch.device | str = 'cpu',
) -> TeacherCache:
    """Asks a teacher about all samples of a data set; logs how far it is.

    Args:
        teacher: see :class:`FrozenTeacher`.
        dataset: whose samples have an ``index``.
        collate: makes batches of samples.
        kinds: of signals beside the logits.
        limit: bytes.
        batch_size: of the passes.
        device: where the teacher runs.

    Raises:
        UserError: samples have no number or change at random, or their signals do not fit.
    """
    if getattr(dataset, 'changes_samples', False):
        raise UserError(
            'TeacherCacheHook: the training set changes its samples at random (pad, flip): what a '
            'teacher said of one does not hold for the next; remove the hook or the augmentation'
        )
    cache, done = TeacherCache(len(dataset), kinds, limit), 0
    # a generator of its own: a loader draws from the global one, which a resumed training restored
    loader = DataLoader(dataset, batch_size, collate_fn=collate, generator=torch.Generator())
    for number, batch in enumerate(loader):
        if 'index' not in batch:
            raise UserError(
                'TeacherCacheHook needs samples with an index: wrap the data set in '
                "dict(type='mmkd.IndexedDataset', dataset=...)"
            )
        inputs = {name: each.to(device) for name, each in batch['inputs'].items()}
        cache.put(done, teacher(inputs, kinds))
        done += len(batch['index'])
        if number % 50 == 0 or done == len(dataset):
            print_log(f'teacher cache: {done} of {len(dataset)} samples', 'current', logging.INFO)
    return cache


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Fills ``model.teacher_cache`` before a training; see :mod:`mmkd.models.teacher_cache`.

    The model says by ``cached_kinds()`` what it needs of a teacher when nothing intervenes. Every
    process keeps all samples.

    Args:
        batch_size: of the teacher's passes.
        limit_gb: GiB that the cache may take.
    """

    def __init__(self, batch_size: int = 64, limit_gb: float = 4.0) -> None:
        self.batch_size, self.limit = batch_size, int(limit_gb * 2**30)

    def before_train(self, runner: Runner) -> None:
        """Asks the teacher."""
        model: Any = bare_model(runner)
        loader = runner.train_dataloader
        model.teacher_cache = filled_cache(
            model.teacher,
            loader.dataset,
            loader.collate_fn,
            model.cached_kinds(),
            self.limit,
            self.batch_size,
            next(model.parameters()).device,
        )


def said(
    cache: TeacherCache | None,
    index: Tensor | None,
    teacher: FrozenTeacher,
    inputs: Mapping[str, Tensor],
    kinds: Collection[str],
) -> Signals:
    """Signals of a batch: from the cache when it has them, else from the teacher.

    Args:
        cache: None: there is none.
        index: ``(B,)`` numbers of the samples, if they have any.
        teacher: asked otherwise.
        inputs: of the batch.
        kinds: of signals beside the logits.
    """
    if cache is None or index is None or not cache.kinds.issuperset(kinds):
        return teacher(inputs, kinds)
    return cache.get(index, next(iter(inputs.values())).device)
