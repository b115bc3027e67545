"""Logits of a segmentor at the size of its input."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.core.errors import UserError


def resize_logits(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Bilinear, (B, C, h, w) to (B, C, H, W); logits of that size come back as they are."""
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, tuple(size), mode='bilinear', align_corners=align_corners)


def single_head(segmentor: nn.Module) -> nn.Module:
    """The decode head of a segmentor.

    Raises:
        UserError: it has several in a row, as mmseg's ``CascadeEncoderDecoder``.
    """
    head = segmentor.decode_head
    if isinstance(head, nn.ModuleList):
        raise UserError(
            f'{type(segmentor).__name__} has {len(head)} decode heads in a row: use a segmentor '
            'with one, as EncoderDecoder'
        )
    return head


def decode_logits(
    segmentor: nn.Module, inputs: Tensor, features: list[Tensor] | None = None
) -> Tensor:
    """Logits of every pixel of a padded batch.

    mmseg's ``encode_decode`` resizes to ``img_shape`` of the first sample, its size before the
    padding: in a batch of crops of several sizes the logits then do not fit the pixels.

    Args:
        segmentor: mmseg's ``EncoderDecoder``; its mode stays as it is.
        inputs: (B, 3, H, W) images.
        features: what ``extract_feat(inputs)`` gave; computed when left out.

    Returns:
        (B, C, H, W).

    Raises:
        UserError: a segmentor without one decode head that gives one map of logits.
    """
    head = single_head(segmentor)
    logits = head(segmentor.extract_feat(inputs) if features is None else features)
    if not isinstance(logits, Tensor):
        raise UserError(f'{type(head).__name__} gives no single map of logits: use another head')
    return resize_logits(logits, inputs.shape[-2:], head.align_corners)
