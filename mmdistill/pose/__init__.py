"""Semi-supervised 2D pose estimation on mmpose."""

from mmdistill.pose.crops import ClippedBBoxTransform, PackSemiPose, SecondCrop
from mmdistill.pose.datasets import SemiPoseDataset
from mmdistill.pose.keypoint_mix import KeypointMix
from mmdistill.pose.labeled import LabeledInstancesHook, LabeledPoseDataset
from mmdistill.pose.unlabeled import UnlabeledPoseDataset

__all__ = [
    'ClippedBBoxTransform',
    'KeypointMix',
    'LabeledInstancesHook',
    'LabeledPoseDataset',
    'PackSemiPose',
    'SecondCrop',
    'SemiPoseDataset',
    'UnlabeledPoseDataset',
]
