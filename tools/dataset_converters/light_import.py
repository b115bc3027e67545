"""Data modules without the detectors that their packages register on import.

``mmdistill.det3d`` and ``mmdistill.core`` import torch and the OpenMMLab hosts
to register their classes, which takes many seconds and needs all of them. The
converters need numpy only; here the packages become plain folders of modules.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path


def make_light(*packages: str) -> None:
    """Lets modules of ``packages`` (``mmdistill.x``) be imported without their ``__init__``.

    For a process that uses nothing else of these packages; ones that are
    imported already stay as they are.
    """
    spec = importlib.util.find_spec('mmdistill')
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError('mmdistill is not installed: run make setup, or pip install -e .')
    root = Path(next(iter(spec.submodule_search_locations)))
    for package in packages:
        if package not in sys.modules:
            module = types.ModuleType(package)
            module.__path__ = [str(root.joinpath(*package.split('.')[1:]))]
            sys.modules[package] = module
