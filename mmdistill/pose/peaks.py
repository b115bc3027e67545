"""Peaks of heatmaps in a batch: places and confidences, as mmpose's codecs find them one by one."""

import torch
from torch import Tensor
from torch.nn import functional

from mmdistill.pose.heatmaps import HeatmapGrid

# cv2.GaussianBlur without a sigma: fixed kernels for small sizes
_SMALL_KERNELS = {
    1: [1.0],
    3: [0.25, 0.5, 0.25],
    5: [0.0625, 0.25, 0.375, 0.25, 0.0625],
    7: [0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125],
    9: [each / 256 for each in (4, 13, 30, 51, 60, 51, 30, 13, 4)],
}


def peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest pixel of each heatmap.

    Args:
        heatmaps: (B, K, h, w).

    Returns:
        (B, K, 2) x and y in heatmap pixels, -1 where nothing is positive, and (B, K)
        confidences, the values there.
    """
    confidences, index = heatmaps.flatten(2).max(-1)
    width = heatmaps.shape[-1]
    dtype = torch.promote_types(heatmaps.dtype, torch.float32)
    places = torch.stack([index % width, index // width], -1).to(dtype)
    return places.masked_fill(confidences.le(0)[..., None], -1), confidences


@torch.no_grad()
def decode(
    heatmaps: Tensor, grid: HeatmapGrid, found: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Joints of a batch of heatmaps, as mmpose's codec decodes them one by one.

    Args:
        heatmaps: (B, K, h, w).
        grid: its ``refinement`` is used.
        found: their :func:`peaks`, where they are known already.

    Returns:
        (B, K, 2) places in heatmap pixels (``grid.to_input`` turns them into input pixels), -1
        where no pixel is positive, and (B, K) confidences (the highest values).
    """
    places, confidences = peaks(heatmaps) if found is None else found
    maps = heatmaps.to(places.dtype)
    if grid.refinement == 'quarter':
        shift = _quarter(maps, places)
    elif grid.refinement == 'dark':
        shift = _dark(_blur(maps, grid.blur_kernel_size).clamp(min=1e-10).log(), places)
    elif grid.refinement == 'dark_udp':
        shift = _dark_udp(_blur(maps, grid.blur_kernel_size).clamp(1e-3, 50).log(), places)
    else:
        return places, confidences
    return torch.where(confidences[..., None] > 0, places + shift, places), confidences


def _around(maps: Tensor, places: Tensor, dx: int, dy: int) -> Tensor:
    """(B, K) values of (B, K, h, w) maps beside whole-number places, the border continued."""
    height, width = maps.shape[-2:]
    x = (places[..., 0].long() + dx).clamp(0, width - 1)
    y = (places[..., 1].long() + dy).clamp(0, height - 1)
    return maps.flatten(2).gather(2, (y * width + x)[..., None])[..., 0]


def _slope(maps: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of the neighbours along x and y, (B, K) each."""
    dx = _around(maps, places, 1, 0) - _around(maps, places, -1, 0)
    dy = _around(maps, places, 0, 1) - _around(maps, places, 0, -1)
    return dx, dy


def _quarter(maps: Tensor, places: Tensor) -> Tensor:
    """A quarter pixel towards the higher neighbour (mmpose ``refine_keypoints``)."""
    height, width = maps.shape[-2:]
    x, y = places.unbind(-1)
    dx, dy = _slope(maps, places)
    dx = dx.sign() * ((x > 1) & (x < width - 1) & (y > 0))
    dy = dy.sign() * ((y > 1) & (y < height - 1) & (x > 0))
    return torch.stack([dx, dy], -1) / 4


def _newton(dx: Tensor, dy: Tensor, dxx: Tensor, dxy: Tensor, dyy: Tensor) -> Tensor:
    """``-H^-1 g`` of (B, K) derivatives as (B, K, 2), 0 where H is singular."""
    det = dxx * dyy - dxy * dxy
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1)
    flat = det.eq(0)[..., None]
    return (step / det[..., None].masked_fill(flat, 1)).masked_fill(flat, 0)


def _dark(logs: Tensor, places: Tensor) -> Tensor:
    """DarkPose's step (arXiv:1910.06278) on log heatmaps, none within 2 pixels of a border."""
    height, width = logs.shape[-2:]
    x, y = places.unbind(-1)

    def at(dx: int, dy: int) -> Tensor:
        return _around(logs, places, dx, dy)

    dx, dy = _slope(logs, places)
    step = _newton(
        dx / 2,
        dy / 2,
        (at(2, 0) - 2 * at(0, 0) + at(-2, 0)) / 4,
        (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4,
        (at(0, 2) - 2 * at(0, 0) + at(0, -2)) / 4,
    )
    return step * ((x > 1) & (x < width - 2) & (y > 1) & (y < height - 2))[..., None]


def _dark_udp(logs: Tensor, places: Tensor) -> Tensor:
    """UDP's step (arXiv:1911.07524) on log heatmaps."""

    def at(dx: int, dy: int) -> Tensor:
        return _around(logs, places, dx, dy)

    dx, dy = _slope(logs, places)
    cross = at(1, 1) - at(1, 0) - at(0, 1) + 2 * at(0, 0) - at(-1, 0) - at(0, -1) + at(-1, -1)
    tiny = torch.finfo(torch.float32).eps
    return _newton(
        dx / 2,
        dy / 2,
        at(1, 0) - 2 * at(0, 0) + at(-1, 0) + tiny,
        cross / 2,
        at(0, 1) - 2 * at(0, 0) + at(0, -1) + tiny,
    )


def _blur(maps: Tensor, size: int) -> Tensor:
    """Gaussian blur that keeps the highest value (mmpose ``gaussian_blur``), zeros outside."""
    if size in _SMALL_KERNELS:
        kernel = maps.new_tensor(_SMALL_KERNELS[size])
    else:
        sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
        distance = torch.arange(size, device=maps.device, dtype=maps.dtype) - (size - 1) / 2
        kernel = (-(distance**2) / (2 * sigma**2)).exp()
        kernel = kernel / kernel.sum()
    batch, joints, height, width = maps.shape
    with torch.autocast(maps.device.type, enabled=False):
        blurred = maps.reshape(batch * joints, 1, height, width)
        blurred = functional.conv2d(blurred, kernel.view(1, 1, 1, -1), padding=(0, size // 2))
        blurred = functional.conv2d(blurred, kernel.view(1, 1, -1, 1), padding=(size // 2, 0))
    blurred = blurred.view_as(maps)
    highest = blurred.amax((2, 3), keepdim=True)
    return blurred * (maps.amax((2, 3), keepdim=True) / highest.masked_fill(highest == 0, 1))
