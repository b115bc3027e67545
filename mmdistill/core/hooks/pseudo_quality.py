"""Logs how many pseudo labels there are and how good they are."""

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor

from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.registry import HOOKS


@HOOKS.register_module()
class PseudoQualityHook(Hook):
    """Accumulates ``model.pseudo_stats`` (:class:`PseudoStats`) on the device, logs at intervals.

    Scalars: ``pseudo/kept_ratio``, ``pseudo/count_<class>`` per iteration, thresholds of
    ``model.filter`` as ``pseudo/threshold_<score>_<class>``, and with hidden ground truth
    ``pseudo/precision`` and ``pseudo/recall``.

    Args:
        interval: iterations between two logs.
        patience: iterations without any kept label before a warning that shows the
            distribution of scores beside the thresholds.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50, patience: int = 200) -> None:
        self.interval, self.patience = interval, patience
        self._sums: dict[str, Tensor] = {}
        self._count, self._empty = 0, 0
        self._scores: Tensor | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Adds the step's counts; reads them only when a log is due."""
        model = bare_model(runner)
        stats, model.pseudo_stats = model.pseudo_stats, None
        if stats is not None:
            for name in ('kept', 'total', 'true_positive', 'hidden'):
                value = getattr(stats, name)
                if value is not None:
                    self._sums[name] = self._sums.get(name, 0) + value
            if stats.scores is not None and len(stats.scores):
                self._scores = stats.scores
            self._count += 1
        if self.every_n_train_iters(runner, self.interval) and self._count:
            self._log(runner, model)

    def _log(self, runner: Runner, model: object) -> None:
        """Writes the scalars of the interval and starts a new one."""
        hub = runner.message_hub
        sums = {name: value.cpu() for name, value in self._sums.items()}
        kept, total = int(sums['kept'].sum()), int(sums['total'].sum())
        names = getattr(model, 'class_names', range(len(sums['kept'])))
        hub.update_scalar('train/pseudo/kept_ratio', kept / max(total, 1))
        for name, count in zip(names, sums['kept'].tolist(), strict=True):
            hub.update_scalar(f'train/pseudo/count_{name}', count / self._count)
        if 'hidden' in sums:
            right = int(sums['true_positive'].sum())
            hub.update_scalar('train/pseudo/precision', right / max(kept, 1))
            hub.update_scalar('train/pseudo/recall', right / max(int(sums['hidden'].sum()), 1))
        for score, name, value in self._thresholds(model, names):
            hub.update_scalar(f'train/pseudo/threshold_{score}_{name}', value)
        self._empty = self._empty + self.interval if kept == 0 else 0
        if self._empty >= self.patience:
            self._warn(model, names)
            self._empty = 0
        self._sums, self._count = {}, 0

    @staticmethod
    def _thresholds(model: object, names: object) -> list[tuple[str, str, float]]:
        """(score, class, value) of the model's filter; the low threshold of dual ones."""
        found = getattr(model, 'filter', None)
        low = getattr(found, 'low', None)
        if low is None:
            threshold = getattr(found, 'threshold', None)
            if threshold is None:
                return []
            values = threshold.expand(len(list(names))).tolist()
            return [('cls', name, value) for name, value in zip(names, values, strict=True)]
        rows = zip(found.score_names, low.tolist(), strict=True)
        return [(s, n, v) for s, row in rows for n, v in zip(names, row, strict=True)]

    def _warn(self, model: object, names: object) -> None:
        """Shows the distribution of scores beside the thresholds."""
        limits = ', '.join(f'{s} {n} {v:.2f}' for s, n, v in self._thresholds(model, names))
        shown = 'none'
        if self._scores is not None:
            points = torch.tensor([0.0, 0.25, 0.5, 0.75, 0.95, 1.0])
            quantiles = self._scores.float().cpu().quantile(points).tolist()
            shown = ', '.join(
                f'{p:.0%} {q:.2f}' for p, q in zip(points.tolist(), quantiles, strict=True)
            )
        print_log(
            f'no pseudo label was kept for {self._empty} iterations; score quantiles of the last '
            f'batch: {shown}; thresholds: {limits or "unknown"}',
            logger='current',
            level=30,
        )
