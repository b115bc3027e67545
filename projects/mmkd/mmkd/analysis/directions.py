"""Random directions in the space of weights, as long as the weights themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def filter_normalised(parameters: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """A Gaussian direction whose rows are as long as the rows of the weights (arXiv:1712.09913).

    A row is all that has the same index in the first dimension: the weights of an output, the
    filter of a channel, the vector of a word. So two networks can be compared that compute the same
    with weights of other sizes. Biases and weights of norms, which are vectors, do not move.

    Args:
        parameters: any shapes.
        generator: on the CPU, so that all devices get the same direction.

    Returns:
        A tensor like each parameter; 0 where it has fewer than two dimensions, or its row is 0.
    """
    return [_like(each.detach(), generator) for each in parameters]


def _like(weight: Tensor, generator: torch.Generator) -> Tensor:
    """The part of a direction that belongs to one parameter."""
    if weight.dim() < 2:
        return torch.zeros_like(weight)
    drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64).flatten(1)
    sizes = weight.flatten(1).double().norm(dim=1, keepdim=True).cpu()
    drawn *= sizes / drawn.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    return drawn.view(weight.shape).to(weight)
