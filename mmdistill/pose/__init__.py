"""Semi-supervised 2D pose estimation on mmpose."""

from mmdistill.pose.collapse import CollapseAlarmHook
from mmdistill.pose.crops import ClippedBBoxTransform, PackSemiPose, SecondCrop
from mmdistill.pose.datasets import SemiPoseDataset
from mmdistill.pose.keypoint_mix import KeypointMix
from mmdistill.pose.labeled import LabeledInstancesHook, LabeledPoseDataset
from mmdistill.pose.preprocessor import SemiPosePreprocessor
from mmdistill.pose.reviewer import BestReviewer, EmaReviewer, RingReviewer, SnapshotReviewer
from mmdistill.pose.reviewer_update import ReviewerUpdateHook
from mmdistill.pose.semi_pose import SemiPose
from mmdistill.pose.trs import TRS
from mmdistill.pose.unlabeled import UnlabeledPoseDataset

__all__ = [
    'TRS',
    'BestReviewer',
    'ClippedBBoxTransform',
    'CollapseAlarmHook',
    'EmaReviewer',
    'KeypointMix',
    'LabeledInstancesHook',
    'LabeledPoseDataset',
    'PackSemiPose',
    'ReviewerUpdateHook',
    'RingReviewer',
    'SecondCrop',
    'SemiPose',
    'SemiPoseDataset',
    'SemiPosePreprocessor',
    'SnapshotReviewer',
    'UnlabeledPoseDataset',
]
