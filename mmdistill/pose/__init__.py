"""Semi-supervised 2D pose estimation on mmpose."""

from mmdistill.pose.collapse import CollapseAlarmHook
from mmdistill.pose.keypoint_mix import KeypointMix
from mmdistill.pose.reviewer import BestReviewer, EmaReviewer, RingReviewer, SnapshotReviewer
from mmdistill.pose.reviewer_update import ReviewerUpdateHook
from mmdistill.pose.semi_pose import SemiPose, SemiPosePreprocessor
from mmdistill.pose.trs import TRS

__all__ = [
    'TRS',
    'BestReviewer',
    'CollapseAlarmHook',
    'EmaReviewer',
    'KeypointMix',
    'ReviewerUpdateHook',
    'RingReviewer',
    'SemiPose',
    'SemiPosePreprocessor',
    'SnapshotReviewer',
]
