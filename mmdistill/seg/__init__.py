"""Self-training for semantic segmentation on mmsegmentation."""

from mmdistill.seg.class_mix import ClassMix
from mmdistill.seg.cut_mix import CutMix
from mmdistill.seg.feature_distance import FeatureDistance
from mmdistill.seg.photometric import StrongPhotometric

__all__ = ['ClassMix', 'CutMix', 'FeatureDistance', 'StrongPhotometric']
