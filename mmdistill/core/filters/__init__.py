"""Pseudo-label filters."""

from mmdistill.core.filters.dual_threshold import DualThresholdFilter
from mmdistill.core.filters.score import NamedScoresFilter, PerClassFilter, ScoreFilter
from mmdistill.core.filters.two_means import two_means

__all__ = [
    'DualThresholdFilter',
    'NamedScoresFilter',
    'PerClassFilter',
    'ScoreFilter',
    'two_means',
]
