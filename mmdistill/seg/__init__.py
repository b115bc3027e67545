"""Semi-supervised and domain-adaptive semantic segmentation on mmseg."""

from mmdistill.seg.daformer_head import DAFormerHead
from mmdistill.seg.dlv2_head import DLV2Head

__all__ = ['DAFormerHead', 'DLV2Head']
