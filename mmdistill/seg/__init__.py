"""Self-training for semantic segmentation on mmsegmentation."""

from mmdistill.seg.class_mix import ClassMix
from mmdistill.seg.cut_mix import CutMix
from mmdistill.seg.feature_distance import FeatureDistance
from mmdistill.seg.fst import FST
from mmdistill.seg.photometric import StrongPhotometric
from mmdistill.seg.semi_seg import SemiSeg

__all__ = ['FST', 'ClassMix', 'CutMix', 'FeatureDistance', 'SemiSeg', 'StrongPhotometric']
