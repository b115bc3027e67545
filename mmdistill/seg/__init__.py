"""Self-training for semantic segmentation on mmsegmentation."""

from mmdistill.seg.class_mix import ClassMix
from mmdistill.seg.cut_mix import CutMix
from mmdistill.seg.daformer_head import DAFormerHead
from mmdistill.seg.datasets import CamVidDataset, GTA5Dataset, SYNTHIADataset
from mmdistill.seg.dlv2_head import DLV2Head
from mmdistill.seg.feature_distance import FeatureDistance
from mmdistill.seg.fst import FST
from mmdistill.seg.loading import CheckedSegAnnotations, CheckedSegImage
from mmdistill.seg.photometric import StrongPhotometric
from mmdistill.seg.rare_class import RareClassDataset
from mmdistill.seg.rare_class_crop import RareClassCrop
from mmdistill.seg.semi_seg import SemiSeg
from mmdistill.seg.subset_iou import SubsetIoUMetric
from mmdistill.seg.unlabeled import UnlabeledSegDataset

__all__ = [
    'CamVidDataset',
    'CheckedSegAnnotations',
    'CheckedSegImage',
    'ClassMix',
    'CutMix',
    'DAFormerHead',
    'DLV2Head',
    'FST',
    'FeatureDistance',
    'GTA5Dataset',
    'RareClassCrop',
    'RareClassDataset',
    'SYNTHIADataset',
    'SemiSeg',
    'StrongPhotometric',
    'SubsetIoUMetric',
    'UnlabeledSegDataset',
]
