"""The published-size configs of FST, read once, and networks without memory, for the tests."""

import re
from functools import cache
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.overrides import TorchFunctionMode

from mmdistill.core import launch
from mmdistill.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs' / 'fst'
NAMES = sorted(p.stem for p in FOLDER.glob('*.py') if re.search(r'_\dxb\d-\d+[ke]_', p.stem))
UDA = [name for name in NAMES if '_1xb2-40k_' in name]
VOC = [name for name in NAMES if '_voc-' in name]
CITY = [name for name in NAMES if '_cityscapes-' in name]
NETWORKS = sorted({(n.split('_')[1], n in VOC): n for n in reversed(NAMES)}.values())
"""One config for each network and kind of data."""


@cache
def config(name: str) -> Config:
    """A config, not to be changed."""
    return launch.read_config(FOLDER / f'{name}.py')


class HostNumbers(TorchFunctionMode):
    """Rates of stochastic depth are read by constructors, so they need memory."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs['device'] = 'cpu'
        return func(*args, **kwargs)


_MODELS: dict[str, nn.Module] = {}


def built(name: str) -> nn.Module:
    """The model of a config: shapes and modules, no values and no pretrained weights.

    Configs with the same model share it.
    """
    options = config(name).model.to_dict()
    key = repr(options)
    if key not in _MODELS:
        with torch.device('meta'), HostNumbers():
            _MODELS[key] = MODELS.build(options)
    return _MODELS[key]


def images(count: int, size: tuple[int, int]) -> torch.Tensor:
    """(count, 3, *size) without values."""
    return torch.empty(count, 3, *size, device='meta')


def samples(count: int, size: tuple[int, int]) -> list[SegDataSample]:
    """Labels of that size without values."""
    label = torch.empty(1, *size, dtype=torch.long, device='meta')
    return [SegDataSample(gt_sem_seg=PixelData(data=label)) for _ in range(count)]
