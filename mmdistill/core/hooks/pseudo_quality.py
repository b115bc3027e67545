"""Logs how many pseudo labels there are and how good they are."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdistill.core.dist import gather_objects
from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model, require
from mmdistill.core.pseudo import PseudoStats
from mmdistill.registry import HOOKS

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


def filter_thresholds(found: Any, names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Thresholds of a filter as (name of the score, class name, value).

    A dual filter gives its low thresholds, and the high ones with the score name
    ``high_<score>``; an object without ``low``, ``high`` or ``threshold`` gives none.

    Args:
        found: a filter module, or None.
        names: class names in label order.
    """
    rows: dict[str, list[float]] = {}
    if getattr(found, 'low', None) is not None:
        scores = found.score_names
        rows.update(zip(scores, found.low.tolist(), strict=True))
        rows.update(zip([f'high_{score}' for score in scores], found.high.tolist(), strict=True))
    elif getattr(found, 'threshold', None) is not None:
        rows['cls'] = found.threshold.expand(len(names)).tolist()
    return [
        (score, name, value)
        for score, row in rows.items()
        for name, value in zip(names, row, strict=True)
    ]


@HOOKS.register_module()
class PseudoQualityHook(Hook):
    """Adds up ``model.pseudo_stats`` (:class:`PseudoStats`) on the device, logs at intervals.

    Scalars, over the interval and all ranks: ``pseudo/kept_ratio`` (kept / predicted),
    ``pseudo/count_<class>`` (kept per iteration), ``pseudo/threshold_<score>_<class>`` and
    ``pseudo/threshold_high_<score>_<class>`` of ``model.filter``, and where hidden ground truth
    was present ``pseudo/precision`` and ``pseudo/recall``. Class names come from
    ``model.class_names``, else indices stand for them.

    Args:
        interval: iterations between two logs.
        patience: iterations without any kept label before a warning that shows the
            distribution of scores beside the thresholds; likewise without any stats.

    Raises:
        UserError: a number below 1.
    """

    priority = 'NORMAL'  # before the logger

    def __init__(self, interval: int = 50, patience: int = 200) -> None:
        for name, value in dict(interval=interval, patience=patience).items():
            if value < 1:
                raise UserError(f'{name} must be at least 1, got {value}')
        self.interval, self.patience = interval, patience
        self._sums: dict[str, Tensor] = {}
        self._scores: deque[Tensor] = deque(maxlen=20)
        self._count = self._empty = self._silent = 0

    def before_train(self, runner: Runner) -> None:
        """Looks whether the model fits."""
        require(runner, self, 'pseudo_stats')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Adds the step's counts; reads them only when a log is due."""
        model = bare_model(runner)
        stats, model.pseudo_stats = model.pseudo_stats, None
        if stats is not None:
            self._add(stats)
        if self.every_n_train_iters(runner, self.interval):
            self._log(runner, model)

    def _add(self, stats: PseudoStats) -> None:
        """Adds one step."""
        parts = dict(kept=stats.kept, total=stats.total)
        if stats.hidden is not None:
            parts.update(right=stats.true_positive, hidden=stats.hidden, checked=stats.kept)
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        if stats.scores is not None and stats.scores.numel():
            self._scores.append(stats.scores.detach())
        self._count += 1

    def _log(self, runner: Runner, model: nn.Module) -> None:
        """Writes the scalars of the interval on rank 0 and starts a new one."""
        own = {name: value.cpu() for name, value in self._sums.items()}
        ranks = gather_objects((own, self._count))
        self._sums, self._count = {}, 0
        if ranks is None:
            return
        sums: dict[str, Tensor] = {}
        for part, _ in ranks:
            for name, value in part.items():
                sums[name] = sums.get(name, 0) + value
        hub, steps = runner.message_hub, max(count for _, count in ranks)
        if not steps:
            self._silent += self.interval
            self._warn_silent(model)
            return
        self._silent = 0
        names = [str(name) for name in getattr(model, 'class_names', range(len(sums['kept'])))]
        kept = int(sums['kept'].sum())
        hub.update_scalar('train/pseudo/kept_ratio', kept / max(int(sums['total'].sum()), 1))
        for name, count in zip(names, sums['kept'].tolist(), strict=True):
            hub.update_scalar(f'train/pseudo/count_{name}', count / steps)
        if 'hidden' in sums:
            right, checked, hidden = (int(sums[n].sum()) for n in ('right', 'checked', 'hidden'))
            if checked:
                hub.update_scalar('train/pseudo/precision', right / checked)
            if hidden:
                hub.update_scalar('train/pseudo/recall', right / hidden)
        thresholds = filter_thresholds(getattr(model, 'filter', None), names)
        for score, name, value in thresholds:
            hub.update_scalar(f'train/pseudo/threshold_{score}_{name}', value)
        self._empty = 0 if kept else self._empty + self.interval
        if self._empty >= self.patience:
            self._warn_empty(thresholds)
            self._empty = 0

    def _warn_silent(self, model: nn.Module) -> None:
        """Says that the model reports nothing."""
        if self._silent >= self.patience:
            print_log(
                f'{type(model).__name__} left no pseudo_stats for {self._silent} iterations: are '
                'there unlabelled samples in the batches?',
                logger='current',
                level=30,
            )
            self._silent = 0

    def _warn_empty(self, thresholds: list[tuple[str, str, float]]) -> None:
        """Shows the distribution of scores beside the thresholds."""
        limits = ', '.join(f'{score} {name} {value:.2f}' for score, name, value in thresholds)
        shown = 'the teacher predicts nothing'
        if self._scores:
            scores = torch.cat([each.flatten() for each in self._scores]).double().cpu()
            values = scores.sort().values
            picked = [values[round(part * (len(values) - 1))] for part in QUANTILES]
            shown = ', '.join(
                f'{part:.0%} {float(value):.2f}'
                for part, value in zip(QUANTILES, picked, strict=True)
            )
        print_log(
            f'no pseudo label was kept for {self._empty} iterations; quantiles of the latest '
            f'scores: {shown}; thresholds: {limits or "unknown"}',
            logger='current',
            level=30,
        )
