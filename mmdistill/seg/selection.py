"""Order statistics of the valid entries of a map, without a sort and without asking the device.

How many entries are valid is known on the device alone, so ``kthvalue`` cannot be told its k, and
``quantile`` ends at 16 million entries. Here the bits of the floats are read as integers in the
same order; one count of their upper and one of their lower halves find the value.
"""

import torch
from torch import Tensor

_HALF = 1 << 16


def _place(counts: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """The bin that holds the entry of this rank, and how many entries lie in the bins below."""
    reached = counts.cumsum(0)
    place = torch.searchsorted(reached, rank + 1).clamp(max=_HALF - 1)
    return place, reached.index_select(0, place) - counts.index_select(0, place)


def nth_smallest(values: Tensor, valid: Tensor, rank: Tensor | int) -> Tensor:
    """The valid entry of a rank, exactly.

    Args:
        values: Floats of any shape and number; compared in single precision.
        valid: bool of the same shape.
        rank: 0 is the smallest entry; an integer or a scalar integer tensor. Ranks beyond the
            last entry give the largest one.

    Returns:
        Scalar float32; nan where nothing is valid.

    Raises:
        ValueError: shapes that differ.
    """
    if values.shape != valid.shape:
        raise ValueError(f'values {tuple(values.shape)} and valid {tuple(valid.shape)} differ')
    ones = valid.flatten().to(torch.int32)
    last = ones.sum() - 1
    rank = torch.minimum(rank, last) if isinstance(rank, Tensor) else last.clamp(max=rank)
    rank = rank.clamp(min=0).view(1)
    bits = values.detach().to(torch.float32).flatten().view(torch.int32)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats in reverse: ordered as integers
    upper = (key >> 16).long() + _HALF // 2
    counts = ones.new_zeros(_HALF).scatter_add_(0, upper, ones)
    high, below = _place(counts, rank)
    ones = ones * (upper == high)
    counts = ones.new_zeros(_HALF).scatter_add_(0, (key & 0xFFFF).long(), ones)
    low, _ = _place(counts, rank - below)
    key = (((high - _HALF // 2) << 16) | low).to(torch.int32)
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).view(torch.float32)[0]


def percentile(values: Tensor, valid: Tensor, percent: float) -> Tensor:
    """``np.percentile(values[valid], percent)``: linear between the two nearest entries.

    Args:
        values: Floats of any shape and number.
        valid: bool of the same shape.
        percent: 0 to 100.

    Returns:
        Scalar float32; nan where nothing is valid.

    Raises:
        ValueError: shapes that differ, or a percentage out of range.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f'a percentage lies in [0, 100], got {percent}')
    position = (valid.sum() - 1).clamp(min=0).double() * (percent / 100)
    lower = position.floor()
    low = nth_smallest(values, valid, lower.long())
    high = nth_smallest(values, valid, position.ceil().long())
    return torch.lerp(low, high, (position - lower).float())
