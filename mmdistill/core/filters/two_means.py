"""Exact 1-D 2-means: sort, prefix sums, best split. Deterministic, O(n log n)."""

import numpy as np
import torch
from torch import Tensor


def two_means(values: Tensor | np.ndarray) -> tuple[float, float]:
    """Centres of the two clusters with the least within-cluster sum of squares.

    In one dimension optimal clusters are intervals, so the best of the n - 1 splits of the
    sorted values is the optimum that KMeans only searches for.

    Args:
        values: (n,) finite numbers below 1e150 in magnitude (they are squared), n >= 1.

    Returns:
        The smaller and the larger centre; both the same when all values are equal.

    Raises:
        ValueError: no value, or one that is not finite or too large.
    """
    x = torch.as_tensor(values, dtype=torch.float64).detach().cpu().flatten().sort().values
    if x.numel() == 0:
        raise ValueError('two_means needs at least one value')
    if not (x.abs() < 1e150).all():
        raise ValueError('two_means needs finite values below 1e150')
    if x[0] == x[-1]:
        return float(x[0]), float(x[0])
    origin = x.mean()
    total = (x - origin).cumsum(0)
    count = torch.arange(1, len(x), dtype=torch.float64)
    left, right = total[:-1], total[-1] - total[:-1]
    between = left.square() / count + right.square() / (len(x) - count)
    between = between.masked_fill(x[1:] == x[:-1], -1)
    split = int(between.argmax()) + 1
    return float(x[:split].mean()), float(x[split:].mean())
