"""Every config of the repository loads, and trains with a loop that resumes exactly."""

import inspect
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

from mmdistill.core import launch
from mmdistill.core.loops import EpochTrainLoop, IterTrainLoop
from mmdistill.registry import LOOPS, MODELS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path for path in (ROOT / 'configs').glob('[!_]*/*.py'))
POSE = [path for path in CONFIGS if path.parent.name == 'trs']
FULL_SIZE = [path for path in POSE if 'tiny' not in path.stem and 'smoke' not in path.stem]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_it_loads_and_its_train_loop_is_ours(path):
    cfg = launch.read_config(path)
    options, data = dict(cfg.train_cfg), cfg.train_dataloader
    loop = LOOPS.get(options.pop('type'))
    assert loop in (EpochTrainLoop, IterTrainLoop)
    inspect.signature(loop).bind(runner=None, dataloader=None, **options)
    assert data.sampler.get('batch_size', data.batch_size) == data.batch_size


@pytest.mark.parametrize('path', POSE, ids=lambda path: path.stem)
def test_pose_models_fit_their_data(path):
    """Built without any weights or data: sizes and joints agree, and so do hooks and branches."""
    cfg = launch.read_config(path)
    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(cfg.model)
    assert model.grid.input_size == tuple(cfg.codec.input_size)
    assert model.grid.heatmap_size == tuple(cfg.codec.heatmap_size)
    for branch in cfg.val_cfg.branches:
        model.branch(branch)
    has_reviewer = getattr(model, 'reviewer', None) is not None
    kinds = {hook.type.removeprefix('mmdistill.') for hook in cfg.custom_hooks}
    assert ('ReviewerUpdateHook' in kinds) == has_reviewer == ('reviewer' in cfg.val_cfg.branches)
    assert ('TeacherUpdateHook' in kinds) == model.teacher_frozen
    assert ('UnsupWeightRampHook' in kinds) == (cfg.model.type == 'mmdistill.TRS')


@pytest.mark.parametrize('path', FULL_SIZE, ids=lambda path: path.stem)
def test_full_size_budgets_are_whole(path):
    cfg = launch.read_config(path)
    iterations = cfg.train_cfg.max_iters
    assert iterations % cfg.train_cfg.val_interval == 0
    assert iterations % cfg.default_hooks.checkpoint.interval == 0
    first, second = cfg.param_scheduler[-1].milestones
    assert 0.6 * iterations < first < second < 0.9 * iterations
    assert cfg.model.estimator.backbone.init_cfg.type == 'Pretrained'
    sampler = cfg.train_dataloader.sampler
    labeled = sampler.batch_size * sampler.ratios[0] // sum(sampler.ratios)
    assert labeled == (8 if 'w48' in path.stem else 16 if 'w32' in path.stem else 32)
