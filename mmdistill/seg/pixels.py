"""Pseudo labels of pixels, and how much each of them counts.

Two rules. Domain adaptation (DACS, arXiv:2007.08702; DAFormer, arXiv:2111.14887; FST,
arXiv:2209.06993) gives all pixels of a batch one weight, the share of confident pixels, and none
to rows that show the car or the border. Semi-supervised learning after U2PL (arXiv:2203.03884)
keeps the pixels whose entropy is below a percentile.
"""

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.seg.selection import percentile

SCOPES = ('batch', 'image')


@torch.no_grad()
def pseudo_labels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable class of each pixel and its probability.

    Args:
        logits: (B, C, H, W), one channel per class; half precision is read in float32.

    Returns:
        (B, H, W) long classes and (B, H, W) probabilities in [1 / C, 1].

    Raises:
        UserError: a single channel, as of a binary head with ``out_channels=1``.
    """
    if logits.shape[1] < 2:
        raise UserError(
            'pseudo labels need one logit per class, the head gives one channel: '
            'set its out_channels to num_classes'
        )
    prob, label = logits.softmax(1, dtype=_precise(logits)).max(1)
    return label, prob


@torch.no_grad()
def batch_share(prob: Tensor, threshold: float) -> Tensor:
    """Share of pixels with ``prob >= threshold`` in the batch, as a scalar."""
    return (prob >= threshold).sum() / prob.numel()


@torch.no_grad()
def image_share(prob: Tensor, threshold: float) -> Tensor:
    """(B,) share of pixels with ``prob >= threshold`` in each image."""
    return (prob >= threshold).flatten(1).sum(1) / prob[0].numel()


@torch.no_grad()
def pixel_weights(
    prob: Tensor,
    threshold: float = 0.968,
    top_rows: int = 0,
    bottom_rows: int = 0,
    scope: str = 'batch',
) -> Tensor:
    """Weights of pseudo labels: the share of confident pixels, 0 on ignored rows.

    The ignored rows still count in the share, as in the published code, whose values are 15 rows
    at the top and 120 at the bottom.

    Args:
        prob: (B, H, W) probabilities of the pseudo labels.
        threshold: a pixel is confident from this probability on.
        top_rows: rows without weight at the top, in pixels.
        bottom_rows: rows without weight at the bottom, in pixels.
        scope: ``batch``, one share for all images (published), or ``image``.

    Returns:
        (B, H, W) float32.

    Raises:
        UserError: an unknown scope or negative rows.
    """
    if scope not in SCOPES:
        raise UserError(f'scope of the pixel weights must be one of {SCOPES}, got {scope!r}')
    if top_rows < 0 or bottom_rows < 0:
        raise UserError(f'ignored rows must be 0 or more, got {top_rows} and {bottom_rows}')
    share = batch_share(prob, threshold) if scope == 'batch' else image_share(prob, threshold)
    row = torch.arange(prob.shape[1], device=prob.device)[:, None]
    counted = (row >= top_rows) & (row < prob.shape[1] - bottom_rows)
    return (share.view(-1, 1, 1) * counted).expand(prob.shape).contiguous()


@torch.no_grad()
def entropy(logits: Tensor) -> Tensor:
    """(B, H, W) entropy in nats of the softmax of (B, C, H, W) logits, in [0, ln C]."""
    prob = logits.softmax(1, dtype=_precise(logits))
    return torch.special.entr(prob, out=prob).sum(1)


@torch.no_grad()
def entropy_keep(entropy: Tensor, valid: Tensor, drop_percent: float) -> Tensor:
    """Pixels whose entropy is below a percentile of the valid pixels.

    As in the published code, whose name we keep, ``drop_percent=80`` *keeps* about 80 % of the
    pixels; pixels that equal the percentile are dropped, with 100 the most uncertain one.

    Args:
        entropy: (B, H, W).
        valid: (B, H, W) bool, pixels with a label.
        drop_percent: 0 to 100; equal to ``np.percentile`` over the valid pixels.

    Returns:
        (B, H, W) bool.
    """
    return valid & (entropy < percentile(entropy, valid, drop_percent))


@torch.no_grad()
def unsup_scale(keep: Tensor) -> Tensor:
    """``B H W / #kept``, the factor of the unsupervised loss; finite where nothing is kept.

    With ``l`` the loss of a pixel, ``unsup_scale(keep) * (l * keep).mean()`` is the mean over the
    kept pixels. The published code multiplies that mean with the factor once more.

    Args:
        keep: (B, H, W) bool.

    Returns:
        Scalar.
    """
    return keep.numel() / keep.sum().clamp(min=1)


def _precise(logits: Tensor) -> torch.dtype:
    """Single precision at least."""
    return torch.promote_types(logits.dtype, torch.float32)
