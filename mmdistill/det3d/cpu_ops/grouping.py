"""Features gathered by index, with gradients."""

import torch
from torch import Tensor


def grouping_operation(
    features: Tensor,
    indices: Tensor,
    features_batch_cnt: Tensor | None = None,
    indices_batch_cnt: Tensor | None = None,
) -> Tensor:
    """Gathers features of groups of points.

    Args:
        features: ``(B, C, N)`` features, or stacked ``(N1 + N2 + ..., C)``.
        indices: ``(B, M, S)`` indices, or stacked ``(M1 + M2 + ..., S)``, counted from the first
            point of their own sample. In a sample without points every index is taken for that
            of any point; such rows come of empty balls and are blanked by who made them.
        features_batch_cnt: ``(B,)`` numbers of points of the samples, for the stacked form.
        indices_batch_cnt: ``(B,)`` numbers of groups of the samples, for the stacked form.

    Returns:
        ``(B, C, M, S)``, or ``(M1 + M2 + ..., C, S)`` as a view of a ``(..., S, C)`` tensor.
    """
    if features_batch_cnt is None or indices_batch_cnt is None:
        groups, size = indices.shape[1:]
        return gather_points(features, indices.flatten(1)).unflatten(2, (groups, size))
    counts = features_batch_cnt.long()
    first = (counts.cumsum(0) - counts).repeat_interleave(indices_batch_cnt.long())
    if not len(features):
        return features.new_zeros(len(indices), features.shape[1], indices.shape[1])
    rows = (indices.long() + first[:, None]).clamp(0, len(features) - 1)
    return features[rows].transpose(1, 2)


def gather_points(features: Tensor, indices: Tensor) -> Tensor:
    """Gathers features of points.

    Args:
        features: ``(B, C, N)`` features.
        indices: ``(B, M)`` indices.

    Returns:
        ``(B, C, M)`` features.
    """
    rows = indices.long()[:, None].expand(-1, features.shape[1], -1)
    return torch.gather(features, 2, rows)
