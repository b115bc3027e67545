"""The host's decode losses with a weight per pixel.

mmseg's ``BaseDecodeHead.loss_by_feat`` takes weights from its sampler alone, so pseudo labels
cannot be weighted. The functions here do what it does and multiply with a weight. mmseg's
``CrossEntropyLoss`` divides by all pixels, ignored ones too, unless ``avg_non_ignore=True``: its
value is ``(CE * weight).mean()``, the one of DAFormer and FST.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from mmseg.structures.sampler import OHEMPixelSampler
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.seg.logits import resize_logits, single_head
from mmdistill.seg.ohem import ohem_weights


def check_head(head: nn.Module) -> None:
    """Refuses heads whose loss is not the loop over ``loss_decode``.

    Raises:
        UserError: such a head.
    """
    own = getattr(type(head), 'loss_by_feat', None)
    if own is not BaseDecodeHead.loss_by_feat:
        raise UserError(
            f'{type(head).__name__} has a loss of its own that takes no weight per pixel: use a '
            "head with mmseg's BaseDecodeHead.loss_by_feat"
        )


def weighted_decode_losses(
    head: nn.Module,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None = None,
    with_accuracy: bool = False,
) -> dict[str, Tensor]:
    """All losses of ``head.loss_decode`` at the size of the labels.

    Args:
        head: a decode head; its ``ignore_index``, ``align_corners`` and ``sampler`` apply. The
            weights of the sampler are multiplied with ``weight``.
        logits: (B, C, h, w).
        labels: (B, H, W) or (B, 1, H, W) long.
        weight: (B, H, W), all 1 when left out.
        with_accuracy: also ``acc_seg`` in percent, which waits for the device.

    Returns:
        Losses by ``loss_name``, those of one name summed up, as mmseg names them.

    Raises:
        UserError: a head with a loss of its own.
        ValueError: weights of another shape than the labels.
    """
    check_head(head)
    labels = labels.squeeze(1) if labels.dim() == 4 else labels
    if weight is not None and weight.shape != labels.shape:
        raise ValueError(f'weight {tuple(weight.shape)} of labels {tuple(labels.shape)}')
    logits = resize_logits(logits, labels.shape[-2:], head.align_corners)
    if head.sampler is not None:
        picked = _sampled(head, logits, labels)
        weight = picked if weight is None else weight * picked
    several = isinstance(head.loss_decode, nn.ModuleList)
    losses: dict[str, Tensor] = {}
    for loss in head.loss_decode if several else [head.loss_decode]:
        value = loss(logits, labels, weight=weight, ignore_index=head.ignore_index)
        name = loss.loss_name
        losses[name] = losses[name] + value if name in losses else value
    if with_accuracy:
        losses['acc_seg'] = accuracy(logits, labels, ignore_index=head.ignore_index)
    return losses


def heads_of(segmentor: nn.Module) -> dict[str, nn.Module]:
    """Decode head and auxiliary heads by mmseg's prefixes: ``decode``, ``aux`` or ``aux_0``, ...

    Raises:
        UserError: a segmentor with several decode heads, or a head with a loss of its own.
    """
    heads = {'decode': single_head(segmentor)}
    if segmentor.with_auxiliary_head:
        extra = segmentor.auxiliary_head
        several = isinstance(extra, nn.ModuleList)
        heads |= {f'aux_{i}': h for i, h in enumerate(extra)} if several else {'aux': extra}
    for head in heads.values():
        check_head(head)
    return heads


def losses_of_heads(
    segmentor: nn.Module,
    logits: Mapping[str, Tensor],
    labels: Tensor,
    weight: Tensor | None = None,
    weight_auxiliary: bool = True,
    with_accuracy: bool = False,
) -> dict[str, Tensor]:
    """Losses of the decode head and of the auxiliary heads, named as mmseg names them.

    Args:
        segmentor: mmseg's ``EncoderDecoder``.
        logits: (B, C, h, w) by name of the head, see :func:`heads_of`.
        labels: (B, H, W) or (B, 1, H, W) long.
        weight: (B, H, W), all 1 when left out.
        weight_auxiliary: the auxiliary heads are weighted too. The published code of FST leaves
            a single auxiliary head without weights.
        with_accuracy: see :func:`weighted_decode_losses`.

    Returns:
        ``decode.loss_ce``, ``aux.loss_ce`` (``aux_0.loss_ce`` in a list of heads) and so on.
    """
    losses = {}
    for prefix, head in heads_of(segmentor).items():
        of_head = weight if prefix == 'decode' or weight_auxiliary else None
        values = weighted_decode_losses(head, logits[prefix], labels, of_head, with_accuracy)
        losses |= {f'{prefix}.{name}': value for name, value in values.items()}
    return losses


def pixel_cross_entropy(
    head: nn.Module, logits: Tensor, labels: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Cross entropy of every pixel times its weight, the mean over all pixels.

    Args:
        head: its ``ignore_index`` and ``align_corners`` apply, its losses and sampler do not.
        logits: (B, C, h, w).
        labels: (B, H, W) long; ignored pixels count 0.
        weight: (B, H, W), all 1 when left out.
    """
    logits = resize_logits(logits, labels.shape[-2:], head.align_corners)
    loss = F.cross_entropy(logits, labels, ignore_index=head.ignore_index, reduction='none')
    return (loss if weight is None else loss * weight).mean()


def _sampled(head: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """(B, H, W) weights of the head's sampler; mmseg's OHEM by its batched equal."""
    sampler = head.sampler
    if type(sampler) is OHEMPixelSampler and sampler.thresh is not None:
        return ohem_weights(logits, labels, sampler.thresh, sampler.min_kept, head.ignore_index)
    with torch.no_grad():
        return sampler.sample(logits, labels[:, None])
