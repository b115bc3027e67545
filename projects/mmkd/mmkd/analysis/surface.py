"""The loss on a plane through the weights (Li et al., NeurIPS 2018, arXiv:1712.09913).

The weights that move are the latent ones, of full precision; a quantized network quantizes them
anew at each point, so its surface has steps where codes change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmdistill.core.errors import UserError

Progress = Callable[[int, int], None]
"""Gets the number of points (or batches) done, and of all."""


@dataclass(frozen=True)
class Surface:
    """Losses on a square.

    Attributes:
        steps: ``(G,)`` float64, lengths along both directions, 0 in the middle.
        losses: ``(G, G)`` float64, rows go along the first direction.
    """

    steps: Tensor
    losses: Tensor

    @property
    def centre(self) -> float:
        """The loss of the unchanged weights."""
        middle = len(self.steps) // 2
        return float(self.losses[middle, middle])

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return dict(centre=self.centre, steps=self.steps.tolist(), losses=self.losses.tolist())


def grid_steps(grid: int, extent: float) -> Tensor:
    """Points from ``-extent`` to ``extent``, 0 exactly in the middle.

    Args:
        grid: number of points, odd.
        extent: above 0; 1 moves each row of weights by its own length.

    Raises:
        UserError: an even number, fewer than 3, or no extent.
    """
    if grid < 3 or grid % 2 == 0:
        raise UserError(f'grid must be odd and at least 3, for a point in the middle, got {grid}')
    if not 0 < extent < float('inf'):
        raise UserError(f'extent must be above 0 and finite, got {extent}')
    half = grid // 2
    return torch.arange(-half, half + 1, dtype=torch.float64) / half * extent


@contextmanager
def restored(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gives copies of parameters; after the block these have their values again, bit for bit.

    Parameters are changed by operations in place that autograd counts, never through ``data``:
    quantized layers keep what they have quantized until that count changes.
    """
    copies = [each.detach().clone() for each in parameters]
    try:
        yield copies
    finally:
        with torch.no_grad():
            for each, copy in zip(parameters, copies, strict=True):
                each.copy_(copy)


@torch.no_grad()
def move(
    parameters: Sequence[Tensor],
    start: Sequence[Tensor],
    directions: Sequence[tuple[float, Sequence[Tensor]]],
) -> None:
    """Sets parameters to ``start + sum_i length_i direction_i``.

    Args:
        parameters: changed in place.
        start: where they start, tensors of their shapes.
        directions: pairs of length and direction.
    """
    for number, each in enumerate(parameters):
        each.copy_(start[number])
        for length, direction in directions:
            each.add_(direction[number], alpha=length)


def loss_surface(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    grid: int = 21,
    extent: float = 1.0,
    progress: Progress | None = None,
) -> Surface:
    """The loss at ``theta + a first + b second`` for all ``a`` and ``b`` of a grid.

    Args:
        loss: gives the loss of the parameters as they are now, a scalar; the same data each time,
            in evaluation mode.
        parameters: theta; they are as before afterwards, bit for bit, after an error too.
        first: tensors of their shapes.
        second: the same.
        grid: points along each direction, odd.
        extent: from ``-extent`` to ``extent``.
        progress: called after each point.

    Raises:
        UserError: see :func:`grid_steps`.
    """
    steps = grid_steps(grid, extent)
    found = []
    with restored(parameters) as start, torch.no_grad():
        for number in range(grid * grid):
            a, b = (float(steps[index]) for index in divmod(number, grid))
            move(parameters, start, [(a, first), (b, second)])
            found.append(loss().detach().double())
            if progress is not None:
                progress(number + 1, grid * grid)
    return Surface(steps, torch.stack(found).cpu().view(grid, grid))
