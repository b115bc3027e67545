"""Online hard example mining of pixels, without asking the device.

mmseg's ``OHEMPixelSampler`` picks pixels by boolean indexing and compares a tensor in Python, so
the host waits for the device four times per call. The rule itself needs one order statistic.
"""

import torch
from torch import Tensor

from mmdistill.seg.selection import nth_smallest


@torch.no_grad()
def ohem_weights(
    logits: Tensor,
    labels: Tensor,
    thresh: float = 0.7,
    min_kept: int = 100000,
    ignore_index: int = 255,
) -> Tensor:
    """Weight 1 for pixels whose own class is less probable than a threshold, 0 elsewhere.

    The threshold is ``thresh``, or where that keeps too few the probability of rank
    ``B min_kept`` among the valid pixels of the batch, as in mmseg's sampler.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W) long.
        thresh: probability.
        min_kept: pixels per image to keep at least, on average.
        ignore_index: label without weight.

    Returns:
        (B, H, W) of the logits' precision.
    """
    valid = labels != ignore_index
    index = torch.where(valid, labels, 0)[:, None]
    prob = logits.softmax(1).gather(1, index).squeeze(1)
    least = nth_smallest(prob, valid, min_kept * len(labels))
    kept = valid & (prob < least.clamp(min=thresh))
    return kept.to(logits.dtype)
