"""TeacherUpdateHook: one average per optimizer step, exact on resume, the same on all ranks."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS as ROOT_HOOKS

from mmdistill.core.compat import allow_mmengine_globals
from mmdistill.core.errors import UserError
from mmdistill.core.hooks import TeacherUpdateHook
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.testing import (
    ToyDataset,
    ToySemiModel,
    assert_same_state,
    captured_log,
    cpu_ranks,
    run_gloo,
    toy_runner,
)

ALL = ('sup', 'unsup_teacher', 'unsup_student')
RAMP = dict(type='mmdistill.LinearRampMomentum', keep_init=0.2, keep_final=0.9, ramp_iters=4)


def keep_at(step):
    return min(0.2 + 0.7 / 4 * step, 0.9)


class Recorder(Hook):
    """Notes the states of both branches after every iteration, and the model's position."""

    priority = 'LOWEST'

    def __init__(self):
        self.states, self.positions = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append(copy.deepcopy(bare_model(runner).state_dict()))
        self.positions.append(bare_model(runner).cur_iter)


class Poison(Hook):
    """Writes NaN into the student after some iteration, before the teacher looks."""

    priority = 'HIGH'

    def __init__(self, at, name='head.weight', rank=0):
        self.at, self.name, self.rank = at, name, rank

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.at and runner.rank == self.rank:
            bare_model(runner).student.state_dict()[self.name].view(-1)[0] = float('nan')


def semi_runner(folder, *hooks, max_iters=6, update=None, model=None, **settings):
    hook = {'type': 'mmdistill.TeacherUpdateHook', 'momentum': RAMP, **(update or {})}
    torch.manual_seed(0)
    return toy_runner(
        folder,
        model or ToySemiModel(),
        max_iters,
        ToyDataset(branches=ALL),
        hooks=[hook, *hooks],
        **settings,
    )


def accumulating(counts):
    return dict(
        constructor='mmdistill.StudentOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=0.1),
        accumulative_counts=counts,
    )


@pytest.mark.parametrize('buffers', ['copy', 'ema', 'skip'])
def test_follows_the_formula(buffers, tmp_path):
    recorder = Recorder()
    runner = semi_runner(tmp_path, recorder, update=dict(buffers=buffers))
    start = copy.deepcopy(runner.model.teacher.state_dict())
    runner.train()
    expected = {name: value.double() for name, value in start.items()}
    parameters = {name for name, _ in runner.model.teacher.named_parameters()}
    for step, state in enumerate(recorder.states):
        keep = keep_at(step)
        for name in expected:
            student = state[f'student.{name}'].double()
            floating = start[name].is_floating_point()
            if name in parameters or (buffers == 'ema' and floating):
                expected[name] = keep * expected[name] + (1 - keep) * student
            elif buffers != 'skip':
                expected[name] = student
            torch.testing.assert_close(
                state[f'teacher.{name}'].double(), expected[name], rtol=1e-5, atol=1e-6
            )
        assert int(state['teacher_steps']) == step + 1
    assert recorder.positions == list(range(6))


@pytest.mark.parametrize(
    'counts, max_iters, steps', [(3, 8, [3, 6, 8]), (2, 4, [2, 4]), (4, 3, [3])]
)
def test_moves_only_when_the_optimizer_did(counts, max_iters, steps, tmp_path):
    """The last incomplete cycle is a step too."""
    recorder = Recorder()
    runner = semi_runner(
        tmp_path, recorder, max_iters=max_iters, optim_wrapper=accumulating(counts)
    )
    runner.train()
    counted = [int(state['teacher_steps']) for state in recorder.states]
    assert counted == [sum(done >= step for step in steps) for done in range(1, max_iters + 1)]
    for done, (before, after) in enumerate(
        zip(recorder.states, recorder.states[1:], strict=False), start=2
    ):
        moved = not torch.equal(before['teacher.head.weight'], after['teacher.head.weight'])
        assert moved is (done in steps)


def test_ramp_fraction_counts_optimizer_steps(tmp_path):
    momentum = dict(type='mmdistill.LinearRampMomentum', ramp_fraction=0.5)
    runner = semi_runner(
        tmp_path, max_iters=9, optim_wrapper=accumulating(2), update=dict(momentum=momentum)
    )
    runner.train()
    hook = next(each for each in runner.hooks if isinstance(each, TeacherUpdateHook))
    assert hook.momentum.ramp_iters == 2  # half of the 5 steps that 9 iterations make, rounded
    assert int(runner.model.teacher_steps) == 5


@pytest.mark.parametrize('counts, stop', [(1, 3), (2, 4)])
def test_resume_equals_straight(counts, stop, tmp_path):
    """The ramp goes on where it was: a step counter that starts anew would reset the teacher."""
    allow_mmengine_globals()
    settings = dict(max_iters=7, optim_wrapper=accumulating(counts))
    straight = semi_runner(tmp_path, **settings)
    straight.train()
    first = semi_runner(tmp_path, **{**settings, 'max_iters': stop})
    first.train()
    first.save_checkpoint(str(tmp_path), 'half.pth')
    resumed = semi_runner(tmp_path, resume=True, load_from=str(tmp_path / 'half.pth'), **settings)
    resumed.train()
    assert_same_state(resumed.model, straight.model)


@pytest.mark.parametrize('where', ['head.weight', 'backbone.1.running_mean'])
def test_student_that_is_not_finite_is_refused_and_reported(where, tmp_path):
    recorder = Recorder()
    runner = semi_runner(tmp_path, Poison(2, where), recorder, update=dict(check_interval=4))
    with captured_log() as lines:
        runner.train()
    before, after = recorder.states[1], recorder.states[-1]
    for name in before:
        if name.startswith('teacher.'):
            assert_same_state(before[name], after[name])
    assert int(after['teacher_steps']) == 6 and int(after['skipped_steps']) == 4
    said = [line for line in lines if 'refused' in line]
    assert [line.split()[1] for line in said] == ['2', '2']  # at iteration 4 and at the end
    assert all(line.startswith('WARNING') and 'learning rate' in line for line in said)


def test_teacher_recovers_when_the_student_does(tmp_path):
    class Cure(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 2:
                for value in runner.model.student.state_dict().values():
                    value.nan_to_num_()

    runner = semi_runner(tmp_path, Poison(2), Cure())
    runner.train()
    assert int(runner.model.skipped_steps) == 1
    assert all(value.isfinite().all() for value in runner.model.teacher.state_dict().values())


def test_clear_errors(tmp_path):
    with pytest.raises(UserError, match="'average'"):
        TeacherUpdateHook(buffers='average')
    with pytest.raises(UserError, match='ToyModel'):
        toy_runner(tmp_path, hooks=[dict(type='mmdistill.TeacherUpdateHook')]).train()


def test_default_is_the_ramp_of_hssda():
    hook = ROOT_HOOKS.build(dict(type='mmdistill.TeacherUpdateHook'))
    assert hook.buffers == 'copy'
    assert [hook.momentum(t) for t in (0, 2000)] == [0.5, 0.9996]


def _train_on_a_rank(rank, folder, buffers, poison):
    hooks = [Poison(3, 'backbone.1.running_var', rank=1)] if poison else []
    runner = semi_runner(folder, *hooks, update=dict(buffers=buffers), **cpu_ranks())
    runner.train()
    return {name: value.numpy() for name, value in bare_model(runner).state_dict().items()}


@pytest.mark.parametrize('buffers, poison', [('copy', False), ('ema', False), ('copy', True)])
def test_two_ranks_have_one_teacher(buffers, poison, tmp_path):
    """Each rank has BatchNorm statistics of its own; the teacher has those of rank 0.

    A student that is bad on one rank alone is refused on both.
    """
    a, b = run_gloo(_train_on_a_rank, 2, str(tmp_path), buffers, poison)
    ours = [name for name in a if not name.startswith('student.')]
    assert_same_state({name: a[name] for name in ours}, {name: b[name] for name in ours})
    assert (a['student.backbone.1.running_mean'] != b['student.backbone.1.running_mean']).any()
    assert int(a['teacher_steps']) == 6 and int(a['skipped_steps']) == (3 if poison else 0)
    if buffers == 'copy' and not poison:
        name = 'backbone.1.running_mean'
        assert_same_state(a[f'teacher.{name}'], a[f'student.{name}'])
