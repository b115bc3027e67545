"""Semi-supervised and domain-adaptive semantic segmentation on mmseg."""

from mmdistill.seg.daformer_head import DAFormerHead
from mmdistill.seg.datasets import CamVidDataset, GTA5Dataset, SYNTHIADataset
from mmdistill.seg.dlv2_head import DLV2Head
from mmdistill.seg.loading import CheckedSegAnnotations, CheckedSegImage
from mmdistill.seg.rare_class import RareClassDataset
from mmdistill.seg.rare_class_crop import RareClassCrop
from mmdistill.seg.subset_iou import SubsetIoUMetric
from mmdistill.seg.unlabeled import UnlabeledSegDataset

__all__ = [
    'CamVidDataset',
    'CheckedSegAnnotations',
    'CheckedSegImage',
    'DAFormerHead',
    'DLV2Head',
    'GTA5Dataset',
    'RareClassCrop',
    'RareClassDataset',
    'SYNTHIADataset',
    'SubsetIoUMetric',
    'UnlabeledSegDataset',
]
