"""Reviewer policies: what an update makes of the reviewer.

TRS (arXiv:2501.09565) adds a reviewer beside teacher and student that keeps important historical
parameters; how it is computed is not known. These are our completions, for a reviewer ``R`` and
a source ``S`` (the student or the teacher):

=====================  =====================================================================
``EmaReviewer``        ``R <- keep R + (1 - keep) S``
``SnapshotReviewer``   ``R <- S``, bit for bit (what SSPCM does once per epoch)
``RingReviewer``       ``R <- mean of the last snapshots of S``, which are kept on the CPU
``BestReviewer``       ``R <- S`` when a validation metric of the source got better
=====================  =====================================================================

When and from what is the business of
:class:`mmdistill.pose.reviewer_update.ReviewerUpdateHook`. A source with NaN or infinite numbers
is refused by all of them, on all ranks when it happens on one.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.dist import broadcast_object, on_all_ranks
from mmdistill.core.ema import (
    BUFFER_POLICIES,
    PairedTensors,
    all_finite,
    apply_ema,
    paired_tensors,
)
from mmdistill.core.errors import UserError
from mmdistill.registry import TASK_UTILS


def copy_finite(reviewer: nn.Module, source: nn.Module) -> Tensor:
    """Copies all parameters and buffers, bit for bit, if the source is finite on all ranks.

    Args:
        reviewer: changed in place.
        source: of the same structure.

    Returns:
        Scalar bool tensor: it was. When it was not, the reviewer is bitwise what it was.
    """
    pairs = paired_tensors(reviewer, source)
    parts = (pairs.trained, pairs.steady, pairs.copied)
    olds, news = ([each for part in parts for each in part[side]] for side in (0, 1))
    finite = on_all_ranks(all_finite(pairs))
    apply_ema(PairedTensors(copied=(olds, news)), 0.0, finite)
    return finite


class ReviewerPolicy:
    """What all policies offer; by itself it leaves the reviewer alone."""

    def update(self, reviewer: nn.Module, source: nn.Module) -> Tensor | None:
        """Called when an interval of optimizer steps is over.

        Args:
            reviewer: changed in place.
            source: student or teacher, unchanged.

        Returns:
            Scalar bool tensor, False when the source was refused; None when the policy does
            nothing here.
        """
        return None

    def review(
        self, reviewer: nn.Module, source: nn.Module, metrics: Mapping[str, float]
    ) -> Tensor | None:
        """Called after a validation, likewise.

        Args:
            reviewer: changed in place.
            source: unchanged.
            metrics: of the validation, by name.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs beside the model's state: tensors and plain types."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave.

        Raises:
            UserError: it is another policy's, or another setting's.
        """
        if set(state) != set(self.state_dict()):
            raise UserError(
                f'the checkpoint holds {sorted(state)} of another reviewer policy, '
                f'{type(self).__name__} has {sorted(self.state_dict())}'
            )


@TASK_UTILS.register_module()
class EmaReviewer(ReviewerPolicy):
    """An average over updates; every single step with ``keep=0.9999`` is a second, slower EMA.

    Args:
        keep: share of the old reviewer that an update keeps, in [0, 1].
        buffers: ``'copy'``, ``'ema'`` or ``'skip'``, see
            :func:`mmdistill.core.ema.ema_update`.

    Raises:
        UserError: a share out of range or an unknown buffer policy.
    """

    def __init__(self, keep: float = 0.5, buffers: str = 'ema') -> None:
        if not 0 <= keep <= 1:
            raise UserError(f'keep must lie in [0, 1], got {keep}')
        if buffers not in BUFFER_POLICIES:
            raise UserError(f'buffers must be one of {BUFFER_POLICIES}, got {buffers!r}')
        self.keep, self.buffers = keep, buffers

    def update(self, reviewer: nn.Module, source: nn.Module) -> Tensor:
        """``R <- keep R + (1 - keep) S``."""
        pairs = paired_tensors(reviewer, source, self.buffers)
        finite = on_all_ranks(all_finite(pairs))
        apply_ema(pairs, self.keep, finite)
        return finite


@TASK_UTILS.register_module()
class SnapshotReviewer(ReviewerPolicy):
    """The source as it was at the last update."""

    def update(self, reviewer: nn.Module, source: nn.Module) -> Tensor:
        """``R <- S``."""
        return copy_finite(reviewer, source)


@TASK_UTILS.register_module()
class RingReviewer(ReviewerPolicy):
    """The mean of the last snapshots; buffers that are no floats are those of the last one.

    The mean is taken in double precision from the snapshots alone, so a resumed training has
    it bit for bit. The snapshots take ``size`` times the memory of the model, on the CPU and
    in the checkpoint.

    Args:
        size: number of snapshots; as long as there are fewer, the mean of those.

    Raises:
        UserError: a size below 1.
    """

    def __init__(self, size: int = 5) -> None:
        if type(size) is not int or size < 1:
            raise UserError(f'size of RingReviewer must be a number from 1 on, got {size!r}')
        self.size = size
        self.ring: deque[dict[str, Tensor]] = deque(maxlen=size)

    @torch.no_grad()
    def update(self, reviewer: nn.Module, source: nn.Module) -> Tensor:
        """Takes a snapshot, ``R <- mean``."""
        finite = on_all_ranks(all_finite(paired_tensors(reviewer, source)))
        if not finite:
            return finite
        self.ring.append({name: _on_cpu(each) for name, each in _named_tensors(source).items()})
        newest = self.ring[-1]
        for name, target in _named_tensors(reviewer).items():
            value = newest[name]
            if value.is_floating_point() and len(self.ring) > 1:
                rows = [each[name].double() for each in self.ring]
                value = sum(rows[1:], rows[0]) / len(rows)
            target.copy_(value)
        return finite

    def state_dict(self) -> dict[str, Any]:
        """The snapshots, oldest first."""
        return dict(ring=[dict(each) for each in self.ring])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over snapshots, of a longer ring the newest."""
        super().load_state_dict(state)
        self.ring = deque((dict(each) for each in state['ring']), maxlen=self.size)


@TASK_UTILS.register_module()
class BestReviewer(ReviewerPolicy):
    """The best source so far, by a metric of the validation: validation data decides here.

    Args:
        metric: name of the metric, such as ``student/coco/AP``.
        rule: ``'greater'`` or ``'less'`` is better.

    Raises:
        UserError: another rule; later, a validation without the metric.
    """

    def __init__(self, metric: str, rule: str = 'greater') -> None:
        if rule not in ('greater', 'less'):
            raise UserError(f"rule must be 'greater' or 'less', got {rule!r}")
        self.metric, self.rule = metric, rule
        self.best: float | None = None

    def review(
        self, reviewer: nn.Module, source: nn.Module, metrics: Mapping[str, float]
    ) -> Tensor | None:
        """``R <- S`` if the metric is better than ever."""
        if self.metric not in metrics:
            raise UserError(
                f'BestReviewer: the validation gives no {self.metric!r}, it gives {sorted(metrics)}'
            )
        value = broadcast_object(float(metrics[self.metric]))
        better = value == value and (
            self.best is None
            or (value > self.best if self.rule == 'greater' else value < self.best)
        )
        if not better:
            return None
        finite = copy_finite(reviewer, source)
        if finite:
            self.best = value
        return finite

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return dict(best=self.best, metric=self.metric)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the best value.

        Raises:
            UserError: it is another metric's.
        """
        super().load_state_dict(state)
        if state['metric'] != self.metric:
            raise UserError(
                f'the checkpoint holds the best {state["metric"]!r}, not {self.metric!r}'
            )
        self.best = state['best']


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, also those that no checkpoint holds."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _on_cpu(tensor: Tensor) -> Tensor:
    """A copy of its own on the CPU."""
    return tensor.detach().to('cpu', copy=True)
