"""Knowledge distillation on mmengine: Transformers, images and text, no OpenMMLab host package."""

from mmkd.version import __version__

__all__ = ['__version__']
