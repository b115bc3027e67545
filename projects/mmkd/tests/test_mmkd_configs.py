"""All configs are read by the training script, and name our types with prefix; models build."""

from pathlib import Path

import pytest
from mmengine.config import Config

import mmkd.components  # noqa: F401
from mmdistill.core.launch import read_config
from mmkd.registry import MODELS

CONFIGS = sorted((Path(__file__).resolve().parents[1] / 'configs').rglob('*.py'))
WHOLE = [path for path in CONFIGS if path.parent.name != '_base_']


def types(node):
    """All types of a config."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        for each in node.values():
            yield from types(each)
    elif isinstance(node, (list, tuple)):
        for each in node:
            yield from types(each)


@pytest.mark.parametrize('path', WHOLE, ids=lambda path: path.stem)
def test_whole_configs_are_read_and_their_models_build(path):
    cfg = read_config(path)
    model = Config(cfg.model.to_dict())
    if 'teacher' in model:
        model.teacher.pop('checkpoint', None)  # of a training that has not been
    assert sum(each.numel() for each in MODELS.build(model).parameters()) > 10**4
    ours = {
        'Classifier',
        'TeacherIntervention',
        'TextDataset',
        'ClassificationMetric',
        'ImageDataset',
    }
    assert not ours & set(types(cfg.to_dict()))
    assert {each.split('.')[0] for each in types(cfg.to_dict()) if '.' in each} == {
        'mmkd', 'mmdistill',
    }  # fmt: skip


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_are_short(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize('task', ['bert-tiny_sst2', 'vit-tiny_cifar10'])
def test_the_baseline_differs_in_the_interventions_alone(task):
    folder = WHOLE[0].parent
    ti, qat = (read_config(folder / f'{name}_{task}.py') for name in ('ti-g', 'qat-kd'))
    assert ti.train_cfg.max_iters == qat.train_cfg.max_iters
    assert ti.optim_wrapper == qat.optim_wrapper and ti.train_dataloader == qat.train_dataloader
    differ = {key for key in ti.model if ti.model[key] != qat.model[key]}
    assert differ == {'schedule', 'intervention_steps'}
