"""Losses on heatmaps: teacher and reviewer in one mean squared error, and the masks for it.

TRS (arXiv:2501.09565) lets a teacher and a reviewer guide the student; its formulas are not
known. This is our completion. With ``MSE(p, q; m)`` the mean over samples, joints and pixels of
``m (p - q)^2``, a student's heatmaps ``s`` follow the teacher's ``t`` and the reviewer's ``r``:

    L = lam_t MSE(s, t; m_t) + lam_r MSE(s, r; m_r)

With equal masks this has the gradient of ``(lam_t + lam_r) MSE(s, f; m)``, where
``f = (lam_t t + lam_r r) / (lam_t + lam_r)``: one pass over the student's heatmaps instead of
two, and a proof that a plain squared error makes the reviewer a weighted ensemble member. The
values differ by ``lam_t lam_r / (lam_t + lam_r) MSE(t, r; m)``, which no student can change.
"""

import torch
from torch import Tensor

from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.views import Affine


def heatmap_mse(pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over B, K, h, w of ``w (p - t)^2``, mmpose's ``KeypointMSELoss`` with target weights.

    Half precision heatmaps are compared in float32.

    Args:
        pred: (B, K, h, w).
        target: (B, K, h, w).
        weight: (B, K) per joint, or (B, K, h, w) or (B, 1, h, w) per pixel, numbers or bool; all
            1 when left out. A weight of 0 drops a pixel, the mean still counts it.

    Returns:
        Scalar.

    Raises:
        ValueError: shapes that do not fit together.
    """
    if pred.shape != target.shape or pred.dim() != 4:
        raise ValueError(
            f'heatmaps are (B, K, h, w), got {tuple(pred.shape)} and {tuple(target.shape)}'
        )
    dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    gap = (pred.to(dtype) - target.to(dtype)) ** 2
    if weight is None:
        return gap.mean()
    batch, joints, height, width = pred.shape
    if weight.shape == (batch, joints):
        return (gap.mean((2, 3)) * weight.to(dtype)).mean()
    if weight.shape not in ((batch, joints, height, width), (batch, 1, height, width)):
        raise ValueError(f'no weight for heatmaps {tuple(pred.shape)}: {tuple(weight.shape)}')
    return (gap * weight.to(dtype)).mean()


def fused_target(
    teacher: Tensor, reviewer: Tensor, lam_t: float | Tensor, lam_r: float | Tensor
) -> Tensor:
    """The one target that stands for two, ``(lam_t t + lam_r r) / (lam_t + lam_r)``.

    Args:
        teacher: (B, K, h, w).
        reviewer: likewise.
        lam_t: weight of the teacher, at least 0.
        lam_r: weight of the reviewer, at least 0. At the number 0 the answer is the teacher
            itself, and the other way round.

    Returns:
        (B, K, h, w) without gradient, at least in single precision where two are mixed.

    Raises:
        ValueError: numbers that do not sum up to something positive. Tensors are not looked at,
            that would wait for the device.
    """
    teacher, reviewer = teacher.detach(), reviewer.detach()
    if not isinstance(lam_t, Tensor) and not isinstance(lam_r, Tensor):
        if lam_t < 0 or lam_r < 0 or not lam_t + lam_r > 0:
            raise ValueError(f'weights must be at least 0 and one positive: {lam_t}, {lam_r}')
        if lam_r == 0 or lam_t == 0:
            return teacher if lam_r == 0 else reviewer
    dtype = torch.promote_types(teacher.dtype, torch.float32)
    teacher, reviewer = teacher.to(dtype), reviewer.to(dtype)
    return teacher + (lam_r / (lam_t + lam_r)) * (reviewer - teacher)


def consistency(
    pred: Tensor,
    teacher: Tensor | None,
    reviewer: Tensor | None = None,
    mask_t: Tensor | None = None,
    mask_r: Tensor | None = None,
    lam_t: float | Tensor = 1.0,
    lam_r: float | Tensor = 0.5,
) -> Tensor:
    """The student follows teacher and reviewer, our completion, see the module's docstring.

    Equal masks are recognised by being the same object (or both None): then the fused target is
    used, else both terms are. Targets get no gradient.

    Args:
        pred: (B, K, h, w) of the student.
        teacher: (B, K, h, w), or None without a teacher.
        reviewer: (B, K, h, w), or None without a reviewer.
        mask_t: weights for the teacher, see :func:`heatmap_mse`.
        mask_r: weights for the reviewer.
        lam_t: weight of the teacher.
        lam_r: weight of the reviewer; the number 0 leaves the reviewer out.

    Returns:
        Scalar; its gradient is that of the two terms, its value only on the path of two terms.
    """
    if reviewer is not None and not isinstance(lam_r, Tensor) and lam_r == 0:
        reviewer = None
    if teacher is not None and not isinstance(lam_t, Tensor) and lam_t == 0:
        teacher = None
    if teacher is None and reviewer is None:
        return pred.sum() * 0
    if reviewer is None:
        return lam_t * heatmap_mse(pred, teacher.detach(), mask_t)
    if teacher is None:
        return lam_r * heatmap_mse(pred, reviewer.detach(), mask_r)
    if mask_t is mask_r:
        target = fused_target(teacher, reviewer, lam_t, lam_r)
        return (lam_t + lam_r) * heatmap_mse(pred, target, mask_t)
    first, second = consistency_terms(pred, teacher, reviewer, mask_t, mask_r)
    return lam_t * first + lam_r * second


def consistency_terms(
    pred: Tensor,
    teacher: Tensor,
    reviewer: Tensor,
    mask_t: Tensor | None = None,
    mask_r: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Both terms by themselves, unweighted; under ``no_grad`` they are numbers for the log."""
    return (
        heatmap_mse(pred, teacher.detach(), mask_t),
        heatmap_mse(pred, reviewer.detach(), mask_r),
    )


@torch.no_grad()
def confidence_mask(heatmaps: Tensor, tau: float) -> Tensor:
    """(B, K) bool: the peak of a joint's heatmap is at least ``tau``.

    Args:
        heatmaps: (B, K, h, w); a map with NaN has no peak.
        tau: least value of the highest pixel.
    """
    return heatmaps.amax((2, 3)) >= tau


@torch.no_grad()
def in_bounds_mask(view: Affine, grid: HeatmapGrid) -> Tensor:
    """(B, 1, h, w) bool: a pixel of the view's heatmap has its source on the old heatmap.

    Args:
        view: B maps in input pixels, from the old view to the new one.
        grid: the heatmaps of both views.
    """
    back = view.on_heatmap(grid).inverse()
    width, height = grid.heatmap_size
    device, dtype = view.shift.device, view.shift.dtype
    x = torch.arange(width, device=device, dtype=dtype).expand(height, width)
    y = torch.arange(height, device=device, dtype=dtype)[:, None].expand(height, width)
    pixels = torch.stack([x, y], -1).view(1, -1, 2)
    return grid.contains(back.points(pixels)).view(-1, 1, height, width)
