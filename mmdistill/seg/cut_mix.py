"""CutMix within a batch: a rectangle of each image comes from the next one.

CutMix for segmentation (arXiv:1906.01916, arXiv:1905.04899) as in the published code of U2PL
(arXiv:2203.03884), which FST's semi-supervised part uses: a rectangle of half of the image's
area, its width a whole number of pixels in (W / 2, W), taken from image ``i + 1`` of the batch.
"""

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.registry import TASK_UTILS


def half_boxes(uniform: Tensor, size: tuple[int, int]) -> Tensor:
    """Rectangles of half of the image's area, to the rounding of the height.

    Args:
        uniform: (B, 3) numbers in [0, 1): width, left edge, top edge.
        size: (H, W) of the images in pixels.

    Returns:
        (B, 4) long: left, top, right, bottom; the last two lie outside.
    """
    height, width = size
    least = min(width // 2 + 1, width)
    uniform = uniform.double()  # so that rounding never reaches the end of a range

    def whole(share: Tensor, count: Tensor | int) -> Tensor:
        return (share * count).long()

    wide = least + whole(uniform[:, 0], max(width - least, 1))
    high = (height * width / 2 / wide.double()).round().long().clamp(1, height)
    left = whole(uniform[:, 1], width - wide + 1)
    top = whole(uniform[:, 2], height - high + 1)
    return torch.stack([left, top, left + wide, top + high], -1)


def box_mask(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, H, W) bool, true inside of (B, 4) boxes left, top, right, bottom."""
    left, top, right, bottom = boxes.view(-1, 1, 4).unbind(-1)
    row = torch.arange(size[0], device=boxes.device)
    column = torch.arange(size[1], device=boxes.device)
    rows = (row >= top) & (row < bottom)
    columns = (column >= left) & (column < right)
    return (rows[:, :, None] & columns[:, None])[:, None]


@TASK_UTILS.register_module()
class CutMix:
    """Draws rectangles and partners for a batch.

    Args:
        probability: share of the batches that are mixed; the decision is one per batch.

    Raises:
        UserError: a probability out of range.
    """

    NUMBERS = 4

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise UserError(f'probability of CutMix must lie in [0, 1], got {probability}')
        self.probability = probability

    def numbers(
        self,
        batch: int,
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(B, 4) uniform numbers in [0, 1): decision (the same in all rows), width, left, top."""
        uniform = torch.rand(batch, self.NUMBERS, device=device, generator=generator)
        uniform[:, 0] = uniform[0, 0].clone()
        return uniform

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        uniform: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks and partners: ``mix(mask, images[partner], images)``, labels likewise.

        Args:
            images: (B, C, H, W); only shape and device matter.
            uniform: (B, 4) numbers, see :meth:`numbers`; drawn when left out.
            generator: where they are drawn from, on the device of the images.

        Returns:
            (B, 1, H, W) bool, true where the partner's pixels come in, and (B,) long indices of
            the partners.
        """
        batch, size = len(images), images.shape[-2:]
        if uniform is None:
            uniform = self.numbers(batch, images.device, generator)
        inside = box_mask(half_boxes(uniform[:, 1:], size), size)
        mixed = uniform[:, 0] < self.probability
        partner = (torch.arange(batch, device=images.device) + 1) % batch
        return inside & mixed.view(-1, 1, 1, 1), partner
