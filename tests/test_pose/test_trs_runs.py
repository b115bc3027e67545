"""TRS in a Runner: who moves when, what is saved, what is logged, what is exported."""

import contextlib
import copy
import importlib.util
import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from semi_cases import batch, of, plain, semi, trs
from torch.utils.data import Dataset

from mmdistill.core import launch
from mmdistill.core.compat import safe_load
from mmdistill.testing import assert_same_state, captured_log, toy_runner
from mmdistill.testing.resume_check import run

pytestmark = pytest.mark.usefixtures('mmpose_scope')
ROOT = Path(__file__).resolve().parents[2]
MOMENTUM = dict(type='mmdistill.InverseMomentum', keep_final=0.6)


class People(Dataset):
    """Six labelled people, then six others."""

    source_sizes, metainfo = (6, 6), {}

    def __init__(self):
        self.data = batch(6, 6)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return copy.deepcopy({key: value[index] for key, value in self.data.items()})


class Recorder(Hook):
    """Copies of the state after every iteration, and the iteration that the model knew."""

    priority = 'LOWEST'

    def __init__(self):
        self.states, self.known, self.views = [], [], []

    def before_train(self, runner):
        self.states.append(copy.deepcopy(dict(runner.model.state_dict())))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append(copy.deepcopy(dict(runner.model.state_dict())))
        self.known.append(runner.model.cur_iter)
        self.views.append(float(torch.rand(1, generator=runner.model.generator(0))))


def runner_of(folder, model, *hooks, iters=6, teacher=True, **settings):
    """A runner over the people, with the teacher's hook."""
    update = dict(type='mmdistill.TeacherUpdateHook', momentum=MOMENTUM, buffers='ema')
    given = dict(
        train_dataloader=dict(
            dataset=People(),
            sampler=dict(type='mmdistill.RatioSampler', batch_size=4, ratios=(1, 1)),
            collate_fn=dict(type='pseudo_collate'),
            batch_size=4,
            num_workers=0,
        ),
        train_cfg=dict(type='mmdistill.IterTrainLoop', max_iters=iters),
        default_scope='mmpose',
    )
    hooks = [*([update] if teacher else []), *hooks]
    return toy_runner(folder, model, iters, hooks=hooks, **{**given, **settings})


def trained(folder, model, *hooks, **settings):
    """Trains; returns what was recorded."""
    notes = Recorder()
    runner = runner_of(folder, model, *hooks, notes, **settings)
    runner.train()
    notes.runner = runner
    return notes


def follower(**policy):
    """The reviewer's hook, every two steps."""
    given = dict(type='mmdistill.ReviewerUpdateHook', interval=2)
    return dict(given, policy=policy) if policy else given


def test_teacher_is_the_weighted_history_of_the_student(tmp_path):
    states = trained(tmp_path, trs()).states
    expected = of(states[0], 'teacher')
    for step, state in enumerate(states[1:]):
        keep, student = min(1 - 1 / (step + 1), 0.6), of(state, 'student')
        found = of(state, 'teacher')
        for name, value in expected.items():
            if value.is_floating_point():
                expected[name] = keep * value.double() + (1 - keep) * student[name].double()
                assert (found[name] - expected[name]).abs().max() < 1e-5, name
            else:
                assert torch.equal(found[name], student[name]), name
    running = [name for name in expected if 'running_var' in name]
    assert any(not torch.equal(expected[n].float(), student[n]) for n in running)


@pytest.mark.parametrize('kind', ['Snapshot', 'Ring', 'Ema'])
def test_reviewer_moves_at_its_interval_alone(kind, tmp_path):
    options = dict(size=2) if kind == 'Ring' else {}
    hook = follower(type=f'mmdistill.{kind}Reviewer', **options)
    states = trained(tmp_path, trs(), hook, iters=5).states
    parts = [of(state, 'reviewer') for state in states]
    students = [of(state, 'student') for state in states]
    for step in (1, 3, 5):
        assert_same_state(parts[step], parts[step - 1])
    name = 'backbone.layer1.0.conv1.weight'
    wanted = dict(
        Snapshot=students[4][name],
        Ring=(students[2][name] + students[4][name]) / 2,
        Ema=(parts[2][name] + students[4][name]) / 2,
    )[kind]
    assert torch.allclose(parts[4][name], wanted, atol=1e-7)
    assert not torch.equal(parts[4][name], parts[2][name])
    if kind == 'Snapshot':
        assert_same_state(parts[4], students[4])
    assert int(states[-1]['reviewer_steps']) == 5


def test_the_optimizer_holds_the_student_and_its_levels_alone(tmp_path):
    model = trs()
    optim = trained(tmp_path, model, follower(), iters=2).runner.optim_wrapper
    held = {id(p) for group in optim.param_groups for p in group['params']}
    mine = [*model.student.parameters(), *model.levels.parameters()]
    assert held == {id(p) for p in mine} == {id(p) for p in optim.optimizer.state}
    assert not any(p.grad is not None for n in ('teacher', 'reviewer')
                   for p in model.branch(n).parameters())  # fmt: skip


def test_a_reviewer_without_weight_changes_nothing(tmp_path):
    with_one = trained(tmp_path / 'a', trs(reviewer=dict(weight=0), heads=0), follower())
    without = trained(tmp_path / 'b', trs(reviewer=None, heads=0))
    for name, value in without.states[-1].items():
        assert torch.equal(value, with_one.states[-1][name]), name


def test_without_weights_it_is_the_baseline(tmp_path):
    off = trs(teacher=dict(weight=0), reviewer=None, aux=())
    states = [trained(tmp_path / n, m).states for n, m in (('a', off), ('b', semi()))]
    for name, value in states[1][-1].items():
        assert torch.equal(value, states[0][-1][name]) or 'collapse' in name, name


def test_every_iteration_has_draws_of_its_own_whoever_moves_the_teacher(tmp_path):
    notes = trained(tmp_path, trs(teacher=dict(mode='grad'), reviewer=None), teacher=False)
    assert notes.known == list(range(6)) and len(set(notes.views)) == 6


def test_a_checkpoint_at_the_start_keeps_its_networks_and_a_plain_one_fills_all(tmp_path):
    old = trs(seed=4)
    torch.save(dict(meta={}, state_dict=old.state_dict()), tmp_path / 'old.pth')
    torch.save(dict(meta={}, state_dict=plain(seed=3).state_dict()), tmp_path / 'plain.pth')
    start = trained(tmp_path / 'a', trs(), follower(), iters=1,
                    load_from=str(tmp_path / 'old.pth')).states[0]  # fmt: skip
    for name in ('student', 'teacher', 'reviewer'):
        assert_same_state(of(start, name), old.branch(name).state_dict())
    start = trained(tmp_path / 'b', trs(), follower(), iters=1,
                    load_from=str(tmp_path / 'plain.pth')).states[0]  # fmt: skip
    for name in ('student', 'teacher', 'reviewer'):
        assert_same_state(of(start, name), plain(seed=3).state_dict())


def test_an_empty_teacher_raises_the_alarm_in_time(tmp_path):
    alarm = dict(type='mmdistill.CollapseAlarmHook', interval=1, patience=2, stop=True)
    model = trs()
    notes = Recorder()
    runner = runner_of(tmp_path / 'a', model, alarm, notes)
    plain_maps = model.heatmaps
    model.heatmaps = lambda net, x: plain_maps(net, x) * (0 if net is model.teacher else 1)
    with captured_log() as lines:
        runner.train()
    assert len(notes.known) == 2 and any('the teacher is collapsing' in line for line in lines)
    healthy = trs()
    healthy.heatmaps = lambda net, x: plain_maps(net, x) * 0 + 0.8
    assert len(trained(tmp_path / 'b', healthy, alarm).known) == 6


# ---------------------------------------------------------------- on drawn people


def config(drawn, work_dir):
    """The smoke config over drawn people."""
    cfg = launch.read_config(ROOT / 'configs/trs/trs_people_smoke.py')
    cfg.work_dir = str(work_dir)
    train = cfg.train_dataloader.dataset
    for source in (train.labeled.dataset, train.unlabeled, cfg.val_dataloader.dataset,
                   cfg.test_dataloader.dataset):  # fmt: skip
        source.data_root = f'{drawn}/'
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = f'{drawn}/{cfg.val_file}'
    return cfg


class Kept(Hook):
    """Metrics of the last validation, how often its data were read, and predictions."""

    def __init__(self):
        self.metrics, self.batches = None, 0

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.batches += 1

    def after_val_epoch(self, runner, metrics=None):
        self.metrics, self.runner = dict(metrics), runner


@pytest.fixture(scope='module')
def finished(drawn, tmp_path_factory):
    """A finished smoke run: its config, hook and last checkpoint."""
    folder, kept = tmp_path_factory.mktemp('trs'), Kept()
    cfg = config(drawn, folder)
    logging.getLogger('mmengine').setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(cfg.to_dict(), kept) == 0
    return cfg, kept, folder / 'iter_8.pth'


def exported(checkpoint, out, branch):
    """Writes a branch with the tool."""
    path = ROOT / 'tools/model_converters/export_branch.py'
    spec = importlib.util.spec_from_file_location('export_branch', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.export_branch(checkpoint, out, branch)
    return str(out)


def plain_config(cfg, work_dir):
    """What a user of mmpose writes for the exported network."""
    parts = dict(
        default_scope='mmpose',
        data_mode='topdown',
        dataset_type='CocoDataset',
        model=cfg.model.estimator,
        test_dataloader=cfg.test_dataloader,
        test_cfg={},
        test_evaluator=cfg.test_evaluator,
        work_dir=str(work_dir),
        visualizer=dict(type='PoseLocalVisualizer', vis_backends=[]),
        log_level='ERROR',
        env_cfg=cfg.env_cfg,
    )
    return Config(
        copy.deepcopy({k: getattr(v, 'to_dict', lambda v=v: v)() for k, v in parts.items()})
    )


def predictions(model, loader):
    """Joints and scores of all people of a loader."""
    found = []
    with torch.no_grad():
        for data in loader:
            found += [each.pred_instances for each in model.val_step(data)]
    return [
        np.concatenate([each[key] for each in found]) for key in ('keypoints', 'keypoint_scores')
    ]


def test_validation_reads_the_data_once_and_equals_separate_ones(finished):
    _, kept, _ = finished
    names = ('student', 'teacher', 'reviewer')
    assert {key.split('/')[0] for key in kept.metrics} == set(names)
    loader, model = kept.runner.val_dataloader, kept.runner.model.eval()
    assert kept.batches == 2 * len(names) * len(loader)  # two validations in the run
    evaluator = kept.runner.val_loop.evaluator
    evaluator.dataset_meta = loader.dataset.metainfo
    for name in names:
        model.predict_on = name
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            for data in loader:
                evaluator.process(data_samples=model.val_step(data), data_batch=data)
            found = evaluator.evaluate(len(loader.dataset))
        assert found and all(kept.metrics[f'{name}/{k}'] == v for k, v in found.items())
    model.predict_on = 'student'


@pytest.mark.parametrize('branch', ['student', 'teacher', 'reviewer'])
def test_an_exported_branch_is_mmposes_own(finished, branch, tmp_path, drawn):
    cfg, kept, checkpoint = finished
    file = exported(checkpoint, tmp_path / 'plain.pth', branch)
    content = torch.load(file, map_location='cpu', weights_only=True)
    own = plain_config(cfg, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        runner = Runner.from_cfg(own)
        runner.model.load_state_dict(content['state_dict'], strict=True)
        metrics = runner.test()
    assert not any(key.startswith(('levels', 'aux')) for key in content['state_dict'])
    semi_model = kept.runner.model.eval()
    semi_model.predict_on = branch
    loader = runner.test_loop.dataloader
    found = [predictions(each, loader) for each in (runner.model.eval(), semi_model)]
    semi_model.predict_on = 'student'
    for ours, theirs in zip(*found, strict=True):
        assert np.abs(ours - theirs).max() < 1e-6 and ours.size
    assert metrics['coco/AP'] == kept.metrics[f'{branch}/coco/AP']


def test_the_exported_file_works_with_mmposes_own_calls(finished, tmp_path, drawn):
    from mmpose.apis import MMPoseInferencer, inference_topdown, init_model

    cfg, _, checkpoint = finished
    file = exported(checkpoint, tmp_path / 'plain.pth', 'teacher')
    own = plain_config(cfg, tmp_path)
    own.dump(tmp_path / 'plain.py')
    image = str(next(Path(drawn, 'images', 'val').glob('*.jpg')))
    model = init_model(str(tmp_path / 'plain.py'), file, device='cpu')
    assert model.dataset_meta['dataset_name'] == 'coco'
    boxes = np.array([[5.0, 5, 60, 90]])
    found = inference_topdown(model, image, boxes)[0].pred_instances
    assert found.keypoints.shape == (1, 17, 2) and np.isfinite(found.keypoints).all()
    inferencer = MMPoseInferencer(
        str(tmp_path / 'plain.py'), file, det_model='whole_image', device='cpu'
    )
    with contextlib.redirect_stdout(io.StringIO()):
        answer = next(inferencer(image))['predictions']
    assert np.shape(answer[0][0]['keypoints']) == (17, 2)


def test_the_smoke_run_reaches_every_part(finished):
    _, _, checkpoint = finished
    saved = safe_load(checkpoint)
    state, scalars = saved['state_dict'], saved['message_hub']['log_scalars']
    assert int(state['teacher_steps']) == int(state['reviewer_steps']) == 8
    assert float(state['unsup_weight']) == 1 and len(saved['reviewer']['state']['ring']) == 2
    for name in ('unsup_weight', 'unsup_loss_stage3', 'pseudo/precision', 'pseudo/teacher_peak'):
        assert f'train/{name}' in scalars, name
    weight = 'head.final_layer.weight'
    tensors = [state[f'{name}.{weight}'] for name in ('student', 'teacher', 'reviewer')]
    assert not any(torch.equal(tensors[i], tensors[i - 1]) for i in range(3))


class LossNotes(Hook):
    """The total loss of every step."""

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs['loss'].item())


def test_half_precision_learns_what_full_precision_learns(tmp_path, monkeypatch):
    def losses(name):
        notes = LossNotes()
        runner_of(tmp_path / name, trs(), follower(), notes, iters=100).train()
        return np.array(notes.values)

    full, original = losses('full'), OptimWrapper.optim_context

    @contextlib.contextmanager
    def half(self, model):
        with original(self, model), torch.autocast('cpu', torch.bfloat16):
            yield

    monkeypatch.setattr(OptimWrapper, 'optim_context', half)
    short = losses('half')
    assert np.isfinite(short).all() and len(short) == 100 and (short != full).all()
    assert full[-20:].mean() < 0.7 * full[:20].mean()
    assert abs(short[-20:].mean() / full[-20:].mean() - 1) < 0.05
