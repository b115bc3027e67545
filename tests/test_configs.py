"""Every config of the repository loads, and trains with a loop that resumes exactly."""

import inspect
from pathlib import Path

import pytest

from mmdistill.core import launch
from mmdistill.core.loops import EpochTrainLoop, IterTrainLoop
from mmdistill.registry import LOOPS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path for path in (ROOT / 'configs').glob('[!_]*/*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_it_loads_and_its_train_loop_is_ours(path):
    cfg = launch.read_config(path)
    options, data = dict(cfg.train_cfg), cfg.train_dataloader
    loop = LOOPS.get(options.pop('type'))
    assert loop in (EpochTrainLoop, IterTrainLoop)
    inspect.signature(loop).bind(runner=None, dataloader=None, **options)
    assert data.sampler.get('batch_size', data.batch_size) == data.batch_size
