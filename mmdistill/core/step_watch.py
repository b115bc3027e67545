"""Tells whether an optimizer really stepped: not in the middle of gradient accumulation, not
when a loss scaler threw the gradients away.
"""

from typing import Any

import torch
from mmengine.optim import OptimWrapperDict


class StepWatch:
    """Watches the optimizers of a training through torch's own step hooks.

    Whether a step is due is nobody's guess here: an iteration counts when ``optimizer.step``
    ran. A fused optimizer runs even when the loss scaler found infinite gradients and skips
    the step on the device; only in that case the device is asked, which waits for it.
    """

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._unwatched: list[Any] = []
        self._steps = 0

    def attach(self, optim_wrapper: Any) -> None:
        """Starts watching.

        Args:
            optim_wrapper: mmengine's ``OptimWrapper`` or ``OptimWrapperDict``.
        """
        self.detach()
        several = isinstance(optim_wrapper, OptimWrapperDict)
        for wrapper in optim_wrapper.values() if several else [optim_wrapper]:
            optimizer = getattr(wrapper, 'optimizer', None)
            if isinstance(optimizer, torch.optim.Optimizer):
                self._handles.append(optimizer.register_step_post_hook(self._after_step))
            else:
                self._unwatched.append(wrapper)

    def detach(self) -> None:
        """Stops watching."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._unwatched, self._steps = [], [], 0

    def take(self) -> bool:
        """True when an optimizer stepped since the last call."""
        steps, self._steps = self._steps, 0
        return steps > 0 or any(_should_have_stepped(each) for each in self._unwatched)

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Counts a step; torch calls it behind ``optimizer.step``."""
        found_inf = getattr(optimizer, 'found_inf', None)
        if found_inf is None or not bool(found_inf):
            self._steps += 1


def _should_have_stepped(wrapper: Any) -> bool:
    """Guess for optimizers that are not torch's: what their wrapper says."""
    asked = getattr(wrapper, 'should_update', None)
    return True if asked is None else bool(asked())
