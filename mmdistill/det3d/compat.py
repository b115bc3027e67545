"""Differences between releases of this folder's hosts; nothing else here asks for versions."""

from importlib import import_module
from importlib.util import find_spec

import torch

from mmdistill.core.compat import Patch

PATCHES = (
    Patch(
        what='spconv.pytorch.ops.get_current_stream',
        defect='spconv 2.3.8 asks CUDA for a stream in the backward pass of CPU tensors and dies',
        until='the first spconv whose CPU backward pass runs without CUDA',
    ),
)


def fix_spconv_cpu_stream() -> bool:
    """Lets sparse convolutions train on the CPU; does nothing with a GPU or without spconv.

    Returns:
        True when spconv is there.
    """
    if find_spec('spconv') is None:
        return False
    if not torch.cuda.is_available():
        ops = import_module('spconv.pytorch.ops')
        ops.get_current_stream = _no_stream
    return True


def _no_stream() -> int:
    """The stream of a machine without CUDA."""
    return 0


def prepare() -> None:
    """All fixes that any training needs; the tools call it after reading a config.

    The CPU operators of PV-RCNN are not among them: ``mmdistill.PVRCNN`` installs them when it is
    built, so that other detectors keep their hosts' operators.
    """
    fix_spconv_cpu_stream()
