"""Hooks of teacher-student training."""

from mmdistill.core.hooks.loss_weight import UnsupWeightRampHook
from mmdistill.core.hooks.preempt import PreemptHook
from mmdistill.core.hooks.pseudo_quality import PseudoQualityHook
from mmdistill.core.hooks.safe_checkpoint import SafeCheckpointHook
from mmdistill.core.hooks.teacher_update import TeacherUpdateHook
from mmdistill.core.hooks.threshold_refresh import ThresholdRefreshHook

__all__ = [
    'PreemptHook',
    'PseudoQualityHook',
    'SafeCheckpointHook',
    'TeacherUpdateHook',
    'ThresholdRefreshHook',
    'UnsupWeightRampHook',
]
