"""Collapse: consistency alone can drive every heatmap to background. This watches for it.

A mean squared error on sparse heatmaps has the empty map as a fixed point, and heads start there
(arXiv:2011.12498). What is watched is our completion: the mean height of the teacher's peaks, the
share of joints whose peak is above 0.1, and how far teacher and reviewer put a joint apart.

A model leaves :class:`CollapseStats` of a step in its attribute ``collapse_stats`` and owns a
:class:`CollapseMonitor` called ``collapse_monitor``; :class:`CollapseAlarmHook` adds the one to
the other. Sums are kept on the device, and looked at once per interval.
"""

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model, require
from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.peaks import decode, peaks
from mmdistill.registry import HOOKS

ALIVE = 0.1


@dataclass(frozen=True)
class CollapseStats:
    """Sums of one step.

    Attributes:
        sums: (5,) float64 without gradient: heights of the teacher's peaks, joints with a peak
            above 0.1, joints, distances in input pixels between teacher and reviewer where both
            have such a peak, number of those joints.
    """

    sums: Tensor


@torch.no_grad()
def collapse_stats(
    teacher: Tensor,
    reviewer: Tensor | None = None,
    grid: HeatmapGrid | None = None,
    valid: Tensor | None = None,
    found: tuple[Tensor, Tensor] | None = None,
) -> CollapseStats:
    """Measures heatmaps; does not wait for the device.

    Args:
        teacher: (B, K, h, w).
        reviewer: (B, K, h, w) of the same view, or None.
        grid: the heatmaps' grid, needed with a reviewer.
        valid: (B, K) bool, which joints count; all when left out.
        found: the teacher's :func:`mmdistill.pose.peaks.peaks`, where they are known already.

    Raises:
        ValueError: a reviewer without a grid.
    """
    found = peaks(teacher) if found is None else found
    peak = found[1].double()
    counted = torch.ones_like(peak, dtype=torch.bool) if valid is None else valid
    alive = counted & (peak > ALIVE)
    parts = [peak.masked_fill(~counted, 0), alive, counted]
    if reviewer is not None:
        if grid is None:
            raise ValueError('a distance in input pixels needs the grid')
        points = grid.to_input(decode(teacher, grid, found)[0])
        others, height = decode(reviewer, grid)
        both = alive & (height > ALIVE)
        gap = (points - grid.to_input(others)).double().norm(dim=-1)
        parts += [gap.masked_fill(~both, 0), both]
    else:
        parts += [torch.zeros_like(peak)] * 2
    return CollapseStats(torch.stack([part.sum(dtype=torch.float64) for part in parts]))


class CollapseMonitor(nn.Module):
    """Running sums over an interval and the alarm's memory, all in buffers.

    Attributes:
        sums: (5,) see :class:`CollapseStats`.
        low_intervals: intervals in a row that were too low.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('sums', torch.zeros(5, dtype=torch.float64))
        self.register_buffer('low_intervals', torch.zeros((), dtype=torch.long))

    def add(self, stats: CollapseStats) -> None:
        """Adds one step, on the device."""
        self.sums += stats.sums.to(self.sums)

    def take(self) -> dict[str, float]:
        """What the interval was like on all ranks, which all have to call it; starts a new one.

        Returns:
            ``teacher_peak`` and ``alive_ratio`` if there were joints, ``disagreement_px`` if
            there were joints to compare.
        """
        total = self.sums.clone()
        self.sums.zero_()
        if get_world_size() > 1:
            all_reduce(total)
        height, alive, joints, gap, compared = total.tolist()
        found = {}
        if joints:
            found.update(teacher_peak=height / joints, alive_ratio=alive / joints)
        if compared:
            found.update(disagreement_px=gap / compared)
        return found


@HOOKS.register_module()
class CollapseAlarmHook(Hook):
    """Logs what the monitor saw, and warns when it stays low.

    Scalars over the interval and all ranks: ``pseudo/teacher_peak``, ``pseudo/alive_ratio``,
    ``pseudo/disagreement_px``. Steps without stats (burn-in) count for nothing. An interval whose
    values are not numbers is a low one.

    Args:
        interval: iterations between two looks.
        patience: low intervals in a row before the alarm; it is repeated after as many more.
        min_peak: least mean height of the teacher's peaks.
        min_share: least share of joints with a peak above 0.1.
        begin: iterations that pass before a low interval counts: heads start with empty maps.
        stop: end the training at the alarm.

    Raises:
        UserError: a number out of range, or a model without a monitor.
    """

    priority = 'NORMAL'  # before the logger

    def __init__(
        self,
        interval: int = 50,
        patience: int = 5,
        min_peak: float = 0.05,
        min_share: float = 0.05,
        begin: int = 0,
        stop: bool = False,
    ) -> None:
        for name, value, least in (
            ('interval', interval, 1),
            ('patience', patience, 1),
            ('begin', begin, 0),
        ):
            if value < least:
                raise UserError(f'{name} must be at least {least}, got {value}')
        for name, value in (('min_peak', min_peak), ('min_share', min_share)):
            if not 0 <= value <= 1:
                raise UserError(f'{name} must lie in [0, 1], got {value}')
        self.interval, self.patience, self.begin, self.stop = interval, patience, begin, stop
        self.min_peak, self.min_share = min_peak, min_share

    def before_train(self, runner: Runner) -> None:
        """Looks whether the model fits."""
        require(runner, self, 'collapse_stats', 'collapse_monitor')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Adds the step's sums; reads them only when a look is due."""
        model = bare_model(runner)
        stats, model.collapse_stats = model.collapse_stats, None
        if stats is not None:
            model.collapse_monitor.add(stats)
        if self.every_n_train_iters(runner, self.interval):
            self._look(runner, model.collapse_monitor)

    def _look(self, runner: Runner, monitor: CollapseMonitor) -> None:
        """Logs, and decides the same on all ranks."""
        found = monitor.take()
        for name, value in found.items():
            runner.message_hub.update_scalar(f'train/pseudo/{name}', value)
        if 'teacher_peak' not in found or runner.iter + 1 <= self.begin:
            return
        good = found['teacher_peak'] >= self.min_peak and found['alive_ratio'] >= self.min_share
        low = 0 if good else int(monitor.low_intervals) + 1
        monitor.low_intervals.fill_(low)
        if low and low % self.patience == 0:
            self._alarm(runner, found, low)

    def _alarm(self, runner: Runner, found: dict[str, float], low: int) -> None:
        """Says what is wrong and what helps; ends the training if it shall."""
        print_log(
            f'the teacher is collapsing: for {low} intervals of {self.interval} iterations its '
            f'peaks were low, now {found["teacher_peak"]:.3f} on average (least '
            f'{self.min_peak:g}) and above {ALIVE:g} in {found["alive_ratio"]:.1%} of the joints '
            f'(least {self.min_share:.1%}). A longer burn-in, a smaller unsupervised weight or '
            'an easier view for the teacher help'
            + ('; the training ends here' if self.stop else ''),
            logger='current',
            level=30,
        )
        if self.stop:
            runner.train_loop.stop_training = True
