"""Semi-supervised 2D pose estimation on mmpose."""

from mmdistill.pose.keypoint_mix import KeypointMix

__all__ = ['KeypointMix']
