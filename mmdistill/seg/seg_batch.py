"""Images of one step, and what the student and a network see of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.seg.seg_losses import heads_of


@dataclass(frozen=True)
class SegBatch:
    """Images of one step on the device.

    Attributes:
        labeled: (B_l, 3, H, W) normalised.
        labels: (B_l, H, W) long.
        unlabeled: (B_u, 3, H, W) normalised, or None.
        hidden: (B_u, H, W) labels of those, for the log only, or None.
    """

    labeled: Tensor
    labels: Tensor
    unlabeled: Tensor | None = None
    hidden: Tensor | None = None


@dataclass(frozen=True)
class StudentView:
    """What the student sees of the unlabelled images; it does not depend on the teacher.

    Attributes:
        images: (B_u, 3, H, W).
        mask: (B_u, 1, H, W) bool, pixels that came from elsewhere; None: none.
        partner: (B_u,) unlabelled image they came from; None: from the labelled one.
    """

    images: Tensor
    mask: Tensor | None = None
    partner: Tensor | None = None


@dataclass(frozen=True)
class Seen:
    """What a network made of some images.

    Attributes:
        features: levels of the backbone; None where two batches went through together.
        logits: by name of the head, see :func:`heads_of`.
    """

    features: Any
    logits: Mapping[str, Tensor]


def look(network: nn.Module, images: Tensor) -> Seen:
    """One forward pass of a segmentor: features of the backbone and logits of all heads."""
    features = network.backbone(images)
    necked = network.neck(features) if network.with_neck else features
    return Seen(features, {name: head(necked) for name, head in heads_of(network).items()})


def look_at_both(network: nn.Module, first: Tensor, second: Tensor) -> tuple[Seen, Seen]:
    """:func:`look` at two batches in one forward pass."""
    seen = look(network, torch.cat([first, second]))
    sizes = [len(first), len(second)]
    parts = {name: logits.split(sizes) for name, logits in seen.logits.items()}
    one, two = ({name: part[i] for name, part in parts.items()} for i in (0, 1))
    return Seen(None, one), Seen(None, two)


def annotations_of(data_samples: Any) -> Tensor | None:
    """(B, H, W) long labels of data samples; None where there are none, or one lacks them."""
    known = [each for each in data_samples if 'gt_sem_seg' in each]
    if not known or len(known) < len(data_samples):
        return None
    return torch.stack([each.gt_sem_seg.data for each in known]).squeeze(1).long()
