"""An exported branch is a plain model of mmseg that labels pixels as it did in training."""

import contextlib
import copy
import importlib.util
import io
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from doc_configs import ROOT, documented, draw_streets
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import MODELS

from mmdistill.testing.resume_check import run

MINE = """
_base_ = [{config!r}]
root = {data!r}
source = dict(_base_.source, class_stats=root + '/source/class_stats.json')
source['dataset'] = dict(source['dataset'], data_root=root + '/source')
source['min_pixels'] = 20
target = dict(_base_.target)
target['dataset'] = dict(target['dataset'], data_root=root + '/target')
train_dataloader = dict(dataset=dict(datasets=[source, target]))
val_dataloader = dict(batch_size=2, dataset=dict(data_root=root + '/target'))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=4, val_interval=4)
"""


class Keep(Hook):
    """Keeps the trained model, and the metrics of both branches."""

    def after_val_epoch(self, runner, metrics=None):
        self.runner, self.metrics = runner, metrics


@pytest.fixture(autouse=True)
def quiet(mmseg_scope):
    """Hosts' banners stay out of the output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A short training: folder with its config ``my_config.py``, the hook, the checkpoint."""
    folder, keep = tmp_path_factory.mktemp('fst'), Keep()
    data = draw_streets(folder / 'data')
    smoke = str(ROOT / 'configs' / 'fst' / 'fst_streets_smoke.py')
    (folder / 'my_config.py').write_text(MINE.format(config=smoke, data=str(data)))
    (folder / 'plain.py').write_text(documented('plain'))
    cfg = Config.fromfile(folder / 'my_config.py')
    cfg.merge_from_dict(dict(work_dir=str(folder / 'run'), log_level='ERROR'))
    logging.getLogger('mmengine').setLevel(logging.ERROR)
    with DefaultScope.overwrite_default_scope('mmseg'), contextlib.redirect_stdout(io.StringIO()):
        assert run(cfg.to_dict(), keep) == 0
    return folder, keep, folder / 'run' / 'iter_4.pth'


def exported(checkpoint, out, branch):
    """Writes a branch with the tool."""
    path = ROOT / 'tools/model_converters/export_branch.py'
    spec = importlib.util.spec_from_file_location('export_branch', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.export_branch(checkpoint, out, branch)
    return str(out)


@torch.no_grad()
def labels_of(model, loader):
    """Labels of all images of a loader, by path."""
    found = {}
    for data in loader:
        for each in model.eval().val_step(copy.deepcopy(data)):
            found[each.img_path] = each.pred_sem_seg.data[0].numpy()
    return found


def in_training(keep, branch):
    """Labels of a branch inside of the trained model."""
    semi = keep.runner.model.eval()
    semi.predict_on = branch
    try:
        return labels_of(semi, keep.runner.val_dataloader)
    finally:
        semi.predict_on = 'student'


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_the_plain_config_loads_all_of_it_and_labels_alike(finished, branch, tmp_path):
    folder, keep, checkpoint = finished
    content = torch.load(exported(checkpoint, tmp_path / 'plain.pth', branch), weights_only=True)
    cfg = Config.fromfile(folder / 'plain.py')
    assert cfg.model.type == 'EncoderDecoder' and 'segmentor' not in cfg.model
    model = MODELS.build(cfg.model)
    model.load_state_dict(content['state_dict'], strict=True)
    wanted = in_training(keep, branch)
    found = labels_of(model, keep.runner.val_dataloader)
    assert wanted.keys() == found.keys() and len(found) == 2
    assert all(np.array_equal(found[path], wanted[path]) for path in wanted)
    assert any(len(np.unique(each)) > 1 for each in wanted.values())


def test_branches_differ(finished, tmp_path):
    _, _, checkpoint = finished
    student, teacher = (
        torch.load(exported(checkpoint, tmp_path / f'{name}.pth', name), weights_only=True)
        for name in ('student', 'teacher')
    )
    assert student['state_dict'].keys() == teacher['state_dict'].keys()
    name = 'decode_head.conv_seg.weight'
    assert not torch.equal(student['state_dict'][name], teacher['state_dict'][name])


def test_mmsegs_own_test_gives_the_metrics_of_the_training(finished, tmp_path):
    folder, keep, checkpoint = finished
    cfg = Config.fromfile(folder / 'plain.py')
    unused = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'custom_hooks')
    for key in (*unused, 'val_dataloader', 'val_cfg', 'val_evaluator', 'default_hooks'):
        cfg.pop(key)
    cfg.load_from = exported(checkpoint, tmp_path / 'plain.pth', 'teacher')
    cfg.work_dir, cfg.log_level, cfg.experiment_name = str(tmp_path), 'ERROR', 'export'
    metrics = Runner.from_cfg(cfg).test()
    assert metrics['mIoU'] == keep.metrics['teacher/mIoU']


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_mmsegs_inferencer_runs_it(finished, branch, tmp_path):
    from mmseg.apis import MMSegInferencer

    folder, keep, checkpoint = finished
    weights = exported(checkpoint, tmp_path / 'plain.pth', branch)
    segment = MMSegInferencer(model=str(folder / 'plain.py'), weights=weights, device='cpu')
    assert list(segment.visualizer.dataset_meta['classes'])[:2] == ['road', 'sidewalk']
    wanted = in_training(keep, branch)
    answers = segment(list(wanted), show=False)['predictions']
    for found, labels in zip(answers, wanted.values(), strict=True):
        assert np.array_equal(found, labels)


def test_a_printed_config_stands_alone(finished, tmp_path, monkeypatch):
    from mmseg.apis import inference_model, init_model

    folder, keep, checkpoint = finished
    alone = tmp_path / 'elsewhere' / 'alone.py'
    alone.parent.mkdir()
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'misc'))
    import print_config

    words = ['print_config', str(folder / 'plain.py'), '--save-path', str(alone)]
    monkeypatch.setattr(sys, 'argv', words)
    print_config.main()
    assert '_base_' not in alone.read_text()
    weights = exported(checkpoint, tmp_path / 'plain.pth', 'student')
    model = init_model(str(alone), weights, device='cpu')
    assert tuple(model.dataset_meta['classes'])[0] == 'road' and model.dataset_meta['palette']
    path, labels = next(iter(in_training(keep, 'student').items()))
    assert Path(path).is_file()
    found = inference_model(model, path).pred_sem_seg.data[0].numpy()
    assert np.array_equal(found, labels)
