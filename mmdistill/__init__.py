"""Teacher-student learning for OpenMMLab detectors, pose estimators and segmentors."""

from mmdistill.version import __version__

__all__ = ['__version__']
