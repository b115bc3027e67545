"""Ramps the weight of the unsupervised loss."""

import math
from collections.abc import Callable
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model, require
from mmdistill.registry import HOOKS

SHAPES: dict[str, Callable[[float], float]] = {
    'constant': lambda part: 1.0,
    'linear': lambda part: part,
    'sigmoid': lambda part: math.exp(-5 * (1 - part) ** 2),
    'cosine': lambda part: (1 - math.cos(math.pi * part)) / 2,
}


def ramped_weight(step: int, weight: float, ramp_iters: int, begin: int, shape: str) -> float:
    """Weight before iteration ``step``: 0 before ``begin``, then the ramp, then ``weight``.

    Args:
        step: iteration from 0.
        weight: value at the end of the ramp.
        ramp_iters: length of the ramp in iterations; 0 is a step.
        begin: first iteration of the ramp.
        shape: ``'constant'`` (no ramp), ``'linear'``, ``'sigmoid'`` (``exp(-5 (1 - x)^2)``,
            arXiv:1610.02242) or ``'cosine'``.
    """
    if step < begin:
        return 0.0
    if step >= begin + ramp_iters:
        return float(weight)
    return weight * SHAPES[shape]((step - begin) / ramp_iters)


@HOOKS.register_module()
class UnsupWeightRampHook(Hook):
    """Sets the buffer ``unsup_weight`` of a :class:`SemiModel` as a function of the iteration.

    Beside it, ``unsup_active`` says whether the weight is positive, without asking the device.
    Nothing is counted here, so a resumed training has the weight of an unbroken one. The
    weight is logged as ``unsup_weight``.

    Args:
        ramp_iters: length of the ramp in iterations; 0 is the full weight at once.
        weight: weight at its end.
        begin: first iteration of the ramp; the weight is 0 before.
        shape: ``'constant'``, ``'linear'``, ``'sigmoid'`` or ``'cosine'``, see
            :func:`ramped_weight`.

    Raises:
        UserError: an unknown shape or a negative number.
    """

    priority = 'NORMAL'

    def __init__(
        self, ramp_iters: int = 0, weight: float = 1.0, begin: int = 0, shape: str = 'sigmoid'
    ) -> None:
        if shape not in SHAPES:
            raise UserError(f'shape must be one of {sorted(SHAPES)}, got {shape!r}')
        for name, value in dict(ramp_iters=ramp_iters, weight=weight, begin=begin).items():
            if value < 0:
                raise UserError(f'{name} must not be negative, got {value}')
        self.ramp_iters, self.weight, self.begin, self.shape = ramp_iters, weight, begin, shape

    def before_train(self, runner: Runner) -> None:
        """Looks whether the model fits."""
        require(runner, self, 'unsup_weight')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Sets and logs the weight of this iteration."""
        value = ramped_weight(runner.iter, self.weight, self.ramp_iters, self.begin, self.shape)
        model = bare_model(runner)
        model.unsup_weight.fill_(value)
        model.unsup_active = value > 0
        runner.message_hub.update_scalar('train/unsup_weight', value)
