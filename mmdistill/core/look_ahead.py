"""Two ways to move parameters along an optimizer and come back."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from mmdistill.core.gradients import Gradients
from mmdistill.core.virtual_step import VirtualOptimizer

Chunk = tuple[Sequence[int], Sequence[Tensor]]
"""Indices of parameters, and where these are now."""


class LookAhead(Protocol):
    """A series of steps that ends where it began.

    Attributes:
        params: where the series is, for :class:`NetworkAt`; None: look at the network itself.
        moved: the series has left its start.
    """

    params: list[Tensor] | None
    moved: bool

    def step(self, grads: Gradients, finite: Tensor, more: bool) -> Iterable[Chunk]:
        """One step; ``more``: another one follows from there. The chunks are read once."""
        ...

    def home(self) -> None:
        """Goes back to the start."""
        ...


class IsolatedSteps:
    """Steps as functions: the network and the optimizer never know.

    Args:
        virtual: looks along the optimizer.
    """

    def __init__(self, virtual: VirtualOptimizer) -> None:
        self.virtual = virtual
        self.home()

    def step(self, grads: Gradients, finite: Tensor, more: bool) -> Iterable[Chunk]:
        """See :class:`LookAhead`; a single step is a stream that needs no memory of its own."""
        if not (more or self.moved):
            return self.virtual.stream(grads, finite)
        self.params, self.moved = self.virtual.advance(grads, finite), True
        return [(range(len(self.params)), self.params)]

    def home(self) -> None:
        """Forgets the series."""
        self.virtual.restart()
        self.params, self.moved = None, False


class LeakySteps:
    """Real steps, after which only the parameters are put back: the optimizer remembers them.

    Args:
        optimizer: steps.
        trained: the parameters; their ``.grad`` is used and cleared.
    """

    params = None

    def __init__(self, optimizer: torch.optim.Optimizer, trained: Sequence[Tensor]) -> None:
        self.optimizer, self.trained = optimizer, list(trained)
        self.saved = [each.detach().clone() for each in trained]
        self.moved = False

    def step(self, grads: Gradients, finite: Tensor, more: bool) -> Iterable[Chunk]:
        """See :class:`LookAhead`; waits for the device to know whether to step."""
        if bool(finite):
            for param, grad in zip(self.trained, grads, strict=True):
                param.grad = grad
            self.optimizer.step()
            for param in self.trained:
                param.grad = None
            torch.clear_autocast_cache()  # it knows tensors, not their values
        self.moved = True
        return [(range(len(self.trained)), [each.detach() for each in self.trained])]

    @torch.no_grad()
    def home(self) -> None:
        """Puts the parameters back."""
        if self.moved:
            torch._foreach_copy_(self.trained, self.saved)
            torch.clear_autocast_cache()
        self.moved = False
