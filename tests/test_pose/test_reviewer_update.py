"""The reviewer moves after real steps, at its interval, and goes on where it was."""

import copy

import pytest
import torch
from reviewer_cases import (
    ALL,
    Cure,
    Poison,
    Recorder,
    ReviewedModel,
    accumulating,
    part,
    reviewed,
    validating,
)

from mmdistill.core.compat import allow_mmengine_globals
from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.pose.reviewer_update import ReviewerUpdateHook, steps_of_a_pass
from mmdistill.testing import (
    ToyDataset,
    ToyModel,
    assert_same_state,
    captured_log,
    cpu_ranks,
    run_gloo,
    state_differences,
    toy_runner,
)

POLICIES = dict(
    ema=dict(type='mmdistill.EmaReviewer', keep=0.5),
    snapshot=dict(type='mmdistill.SnapshotReviewer'),
    ring=dict(type='mmdistill.RingReviewer', size=3),
    best=dict(type='mmdistill.BestReviewer', metric='student/toy/accuracy'),
)
SNAPSHOT = POLICIES['snapshot']


def hook_of(runner):
    return next(each for each in runner.hooks if isinstance(each, ReviewerUpdateHook))


@pytest.mark.parametrize('source', ['student', 'teacher'])
def test_a_new_reviewer_starts_as_the_source(source, tmp_path):
    runner = reviewed(tmp_path, source=source, interval=3)
    with torch.no_grad():
        runner.model.teacher.head.weight.add_(1)
    start = copy.deepcopy(getattr(runner.model, source).state_dict())
    assert state_differences(runner.model.reviewer.state_dict(), start)
    hook_of(runner).before_train(runner)
    assert_same_state(runner.model.reviewer, start)
    assert int(runner.model.reviewer_steps) == 0


@pytest.mark.parametrize('source', ['student', 'teacher'])
def test_a_snapshot_is_the_source_at_multiples_of_the_interval(source, tmp_path):
    """And the teacher has moved before it is copied, though its hook stands behind."""
    recorder = Recorder()
    runner = reviewed(tmp_path, recorder, policy=SNAPSHOT, source=source, interval=3)
    held = copy.deepcopy(getattr(runner.model, source).state_dict())
    runner.train()
    for step, state in enumerate(recorder.states, start=1):
        held = part(state, source) if step % 3 == 0 else held
        assert_same_state(part(state, 'reviewer'), held)
        assert int(state['reviewer_steps']) == step
    assert not any(value.requires_grad for value in runner.model.reviewer.parameters())


def test_one_update_per_step_is_a_slower_average(tmp_path):
    recorder = Recorder()
    policy = dict(type='mmdistill.EmaReviewer', keep=0.99)
    runner = reviewed(tmp_path, recorder, policy=policy, interval=1)
    expected = runner.model.student.head.weight.detach().double()
    runner.train()
    for state in recorder.states:
        expected = 0.99 * expected + 0.01 * state['student.head.weight'].double()
        torch.testing.assert_close(
            state['reviewer.head.weight'].double(), expected, rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize('counts, steps', [(3, [3, 6, 7]), (2, [2, 4, 6, 7])])
def test_only_real_steps_count(counts, steps, tmp_path):
    recorder = Recorder()
    settings = dict(policy=SNAPSHOT, interval=2, optim_wrapper=accumulating(counts))
    reviewed(tmp_path, recorder, **settings).train()
    counted = [int(state['reviewer_steps']) for state in recorder.states]
    assert counted == [sum(done >= step for step in steps) for done in range(1, 8)]
    for before, after, done in zip(recorder.states, recorder.states[1:], range(2, 8), strict=False):
        moved = state_differences(part(before, 'reviewer'), part(after, 'reviewer'))
        assert bool(moved) is (done in steps[1::2])


@pytest.mark.parametrize('stop', [3, 4])
@pytest.mark.parametrize('name', sorted(POLICIES))
def test_resume_equals_straight(name, stop, tmp_path):
    """Stopped within an interval and at its end; a second start would copy the source again."""
    allow_mmengine_globals()
    settings = dict(policy=POLICIES[name], interval=2, source='student', **validating())
    straight = reviewed(tmp_path, **settings)
    straight.train()
    first = reviewed(tmp_path, **copy.deepcopy(settings))
    first.train_loop._max_iters = stop
    first.train()
    first.save_checkpoint(str(tmp_path), 'half.pth')
    resumed = reviewed(
        tmp_path, resume=True, load_from=str(tmp_path / 'half.pth'), seed=5, **settings
    )
    resumed.train()
    assert resumed.iter == 7
    assert_same_state(resumed.model, straight.model)
    mine, theirs = hook_of(resumed).policy.state_dict(), hook_of(straight).policy.state_dict()
    assert not state_differences(mine, theirs)


def test_a_ring_is_in_the_checkpoint_of_the_safe_hook(tmp_path):
    """Which is read without trusting it."""
    hooks = dict(
        checkpoint=dict(type='mmdistill.SafeCheckpointHook', interval=5, by_epoch=False),
        logger=None,
        timer=None,
    )
    settings = dict(policy=POLICIES['ring'], interval=2, default_hooks=hooks)
    train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=7)
    straight = reviewed(tmp_path / 'a', train_cfg=train_cfg, **settings)
    straight.train()
    first = reviewed(tmp_path / 'b', train_cfg=dict(train_cfg, max_iters=5), **settings)
    first.train()
    resumed = reviewed(tmp_path / 'b', train_cfg=train_cfg, resume=True, **settings)
    resumed.train()
    assert len(hook_of(resumed).policy.ring) == 3
    assert_same_state(resumed.model, straight.model)


def saved(folder, change):
    """A checkpoint of a trained model, changed."""
    allow_mmengine_globals()
    runner = reviewed(folder, policy=SNAPSHOT, interval=2)
    runner.train()
    runner.save_checkpoint(str(folder), 'full.pth')
    content = torch.load(folder / 'full.pth', weights_only=True)
    content = change(content) or content
    torch.save(content, folder / 'changed.pth')
    return content


@pytest.mark.parametrize('kind', ['whole', 'no counter', 'bare'])
def test_a_loaded_reviewer_is_not_overwritten(kind, tmp_path):
    def change(content):
        if kind == 'no counter':
            del content['state_dict']['reviewer_steps']
        return content['state_dict'] if kind == 'bare' else content

    content = saved(tmp_path, change)
    runner = reviewed(tmp_path, interval=99, load_from=str(tmp_path / 'changed.pth'), seed=4)
    runner.train()
    expected = part(content.get('state_dict', content), 'reviewer')
    assert_same_state(runner.model.reviewer, expected)
    assert int(runner.model.reviewer_steps) == (7 if kind == 'no counter' else 14)


@pytest.mark.parametrize('kind', ['plain', 'without reviewer'])
def test_a_checkpoint_without_reviewer_fills_it_through_the_source(kind, tmp_path):
    def change(content):
        state = content['state_dict']
        if kind == 'plain':
            return dict(state_dict=part(state, 'student'))
        content['state_dict'] = {k: v for k, v in state.items() if 'reviewer' not in k}
        return content

    saved(tmp_path, change)
    runner = reviewed(tmp_path, interval=99, load_from=str(tmp_path / 'changed.pth'), seed=4)
    runner.load_or_resume()
    hook_of(runner).before_train(runner)
    assert_same_state(runner.model.reviewer, runner.model.student)
    content = torch.load(tmp_path / 'full.pth', weights_only=True)
    assert_same_state(runner.model.reviewer, part(content['state_dict'], 'student'))


def test_another_policy_says_so_and_keeps_the_weights(tmp_path):
    content = saved(tmp_path, lambda content: None)
    settings = dict(policy=POLICIES['ring'], interval=99)
    runner = reviewed(tmp_path, load_from=str(tmp_path / 'changed.pth'), **settings)
    with captured_log() as lines:
        runner.train()
    said = [line for line in lines if 'SnapshotReviewer' in line and 'WARNING' in line]
    assert len(said) == 1 and 'RingReviewer' in said[0]
    assert_same_state(runner.model.reviewer, part(content['state_dict'], 'reviewer'))


def test_without_a_reviewer_the_hook_rests(tmp_path):
    torch.manual_seed(1)
    model = ReviewedModel(reviewer=False)
    runner = reviewed(tmp_path, model=model, interval=2, **validating(3))
    runner.train()
    assert model.reviewer is None and int(model.reviewer_steps) == -1
    runner.save_checkpoint(str(tmp_path), 'none.pth')
    assert not any('reviewer.' in key for key in torch.load(tmp_path / 'none.pth')['state_dict'])


def test_without_a_reviewer_there_need_be_no_counter(tmp_path):
    """A method that has switched its reviewer off keeps no counter for it."""
    model = ReviewedModel(reviewer=False)
    del model.reviewer_steps
    reviewed(tmp_path, model=model, interval=2).train()


def test_a_reviewer_that_nobody_reads_changes_no_training(tmp_path):
    models = []
    for given in (True, False):
        torch.manual_seed(1)
        models.append(ReviewedModel(reviewer=given))
        reviewed(tmp_path, model=models[-1], interval=2, policy=SNAPSHOT).train()
    assert_same_state(models[0].student, models[1].student)
    assert_same_state(models[0].teacher, models[1].teacher)


def test_best_follows_the_validation(tmp_path):
    recorder = Recorder()
    runner = reviewed(tmp_path, recorder, policy=POLICIES['best'], **validating())
    values, states, hook = [], [], hook_of(runner)
    theirs = hook.after_val_epoch

    def spy(runner, metrics=None):
        values.append(metrics['student/toy/accuracy'])
        states.append(copy.deepcopy(runner.model.student.state_dict()))
        theirs(runner, metrics)

    hook.after_val_epoch = spy
    runner.train()
    best = max(range(len(values)), key=lambda i: (values[i], -i))
    assert len(values) == 7 and hook.policy.best == values[best]
    assert_same_state(runner.model.reviewer, states[best])
    before = copy.deepcopy(runner.model.reviewer.state_dict())
    hook.policy.best = None
    runner.val()
    # a validation beside the training
    assert_same_state(runner.model.reviewer, before)


def test_a_student_that_is_not_finite_is_refused_and_reported(tmp_path):
    poison, recorder = Poison(3), Recorder()
    runner = reviewed(tmp_path, poison, recorder, Cure(poison), policy=SNAPSHOT, interval=2)
    with captured_log() as lines:
        runner.train()
    second, fourth, sixth = (part(recorder.states[i - 1], 'reviewer') for i in (2, 4, 6))
    assert_same_state(second, fourth)
    assert_same_state(sixth, part(recorder.states[5], 'student'))
    said = [line for line in lines if 'reviewer updates were refused' in line]
    assert len(said) == 1 and '1 reviewer' in said[0] and said[0].startswith('WARNING')


def _train_on_a_rank(rank, folder, name, poison):
    bad = Poison(3, rank=1, name='backbone.1.running_var')
    hooks = [bad, Cure(bad)] if poison else []
    settings = dict(validating(2), **cpu_ranks())
    runner = reviewed(folder, *hooks, policy=POLICIES[name], interval=2, **settings)
    runner.train()
    state = {key: value.numpy() for key, value in bare_model(runner).state_dict().items()}
    return state, len(getattr(hook_of(runner).policy, 'ring', ()))


@pytest.mark.parametrize(
    'name, poison', [('ema', False), ('ring', False), ('ring', True), ('best', False)]
)
def test_two_ranks_have_one_reviewer(name, poison, tmp_path):
    (a, rings), (b, others) = run_gloo(_train_on_a_rank, 2, str(tmp_path), name, poison)
    assert rings == others == (0 if name != 'ring' else 2 if poison else 3)
    ours = [key for key in a if key.startswith('reviewer')]
    assert_same_state({key: a[key] for key in ours}, {key: b[key] for key in ours})
    assert (a['student.backbone.1.running_mean'] != b['student.backbone.1.running_mean']).any()
    assert int(a['reviewer_steps']) == 7


@pytest.mark.parametrize(
    ('sampler', 'cycle', 'steps'),
    [
        (dict(type='mmdistill.NaturalSampler'), 1, 6),
        (dict(type='mmdistill.RatioSampler', ratios=(1, 3), source_sizes=(4, 20)), 1, 7),
        (dict(type='mmdistill.RatioSampler', ratios=(1, 3), source_sizes=(4, 20)), 2, 4),
        (dict(type='InfiniteSampler'), 1, 6),
        (dict(type='DefaultSampler'), 4, 2),
    ],
)
@pytest.mark.parametrize('loop', ['IterBasedTrainLoop', 'mmdistill.IterTrainLoop'])
def test_a_pass_over_the_unlabelled_data(loop, sampler, cycle, steps, tmp_path):
    if 'RatioSampler' in sampler['type']:
        sampler = dict(sampler, batch_size=4)
    loader = dict(
        dataset=ToyDataset(branches=ALL),
        sampler=sampler,
        collate_fn=dict(type='mmdistill.branch_collate'),
        batch_size=4,
        num_workers=0,
    )
    runner = reviewed(
        tmp_path,
        train_dataloader=loader,
        optim_wrapper=accumulating(cycle),
        train_cfg=dict(type=loop, max_iters=2),
    )
    runner.train()
    assert steps_of_a_pass(runner) == hook_of(runner)._every == steps


def test_clear_errors(tmp_path):
    for wrong, message in (
        (dict(source='reviewer'), 'source'),
        (dict(interval=0), 'interval'),
        (dict(interval='epoch'), 'epoch_equivalent'),
        (dict(interval=True), 'interval'),
    ):
        with pytest.raises(UserError, match=message):
            ReviewerUpdateHook(**wrong)
    runner = toy_runner(tmp_path, ToyModel(), hooks=[dict(type='mmdistill.ReviewerUpdateHook')])
    with pytest.raises(UserError, match='without reviewer, reviewer_steps'):
        runner.train()
    metric = dict(type='mmdistill.BestReviewer', metric='student/coco/AP')
    with pytest.raises(UserError, match="'student/coco/AP'.*student/toy/accuracy"):
        reviewed(tmp_path, policy=metric, **validating()).train()


def test_default_is_an_average_per_pass():
    hook = ReviewerUpdateHook()
    assert (hook.source, hook.interval, hook.policy.keep) == ('student', 'epoch_equivalent', 0.5)
