"""Reviewer policies: averages, copies, rings and records of a network's past."""

import copy

import pytest
import torch
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS

from mmdistill.core.errors import UserError
from mmdistill.pose.reviewer import (
    BestReviewer,
    EmaReviewer,
    ReviewerPolicy,
    RingReviewer,
    SnapshotReviewer,
)
from mmdistill.testing import ToyModel, assert_same_state, state_differences

POLICIES = dict(
    ema=lambda: EmaReviewer(0.5),
    snapshot=lambda: SnapshotReviewer(),
    ring=lambda: RingReviewer(3),
    best=lambda: BestReviewer('acc'),
)


def networks(count, seed=0):
    """Different networks, their buffers too, as a training makes them."""
    torch.manual_seed(seed)
    made = [ToyModel() for _ in range(count)]
    for number, each in enumerate(made):
        each.train()(torch.randn(8, 4))
        each.seen.fill_(number)
    return made


def moved(policy, reviewer, source, value=1.0):
    """One update, whatever the policy waits for."""
    if isinstance(policy, BestReviewer):
        return policy.review(reviewer, source, dict(acc=value))
    return policy.update(reviewer, source)


def floats(module):
    return {k: v.double() for k, v in module.state_dict().items() if v.is_floating_point()}


@pytest.mark.parametrize('buffers', ['ema', 'copy', 'skip'])
def test_ema_is_the_weighted_sum_of_the_history(buffers):
    reviewer, *history = networks(5)
    start, trained = floats(reviewer), {name for name, _ in reviewer.named_parameters()}
    policy = EmaReviewer(0.5, buffers)
    for source in history:
        assert policy.update(reviewer, source)
    for name, value in floats(reviewer).items():
        expected = start[name] / 16
        for age, source in enumerate(reversed(history)):
            expected = expected + floats(source)[name] / 2 ** (age + 1)
        if name not in trained and buffers != 'ema':
            expected = start[name] if buffers == 'skip' else floats(history[-1])[name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    assert int(reviewer.seen) == (0 if buffers == 'skip' else 4)


def test_a_snapshot_is_bit_for_bit():
    reviewer, source = networks(2)
    with torch.no_grad():
        source.head.weight[0, :2] = torch.tensor([-0.0, 1e-42])
        reviewer.head.weight[0, :2] = torch.tensor([3.0, -0.0])
    assert SnapshotReviewer().update(reviewer, source)
    assert_same_state(reviewer, source)
    assert torch.equal(
        reviewer.head.weight.detach().view(torch.int32),
        source.head.weight.detach().view(torch.int32),
    )
    source.head.weight.data.zero_()
    assert reviewer.head.weight.any(), 'it is a copy'


def test_a_ring_is_the_mean_of_the_last_snapshots():
    reviewer, *history = networks(6)
    policy = RingReviewer(3)
    for count, source in enumerate(history, start=1):
        assert policy.update(reviewer, source)
        last = history[max(count - 3, 0) : count]
        for name, value in floats(reviewer).items():
            mean = sum(floats(each)[name] for each in last) / len(last)
            torch.testing.assert_close(value, mean.float().double(), rtol=0, atol=0)
        assert int(reviewer.seen) == count
    assert len(policy.ring) == 3


def test_a_ring_of_one_is_a_snapshot():
    first, second, source = networks(3)
    RingReviewer(1).update(first, source)
    SnapshotReviewer().update(second, source)
    assert_same_state(first, second)


def test_a_ring_of_equals_is_what_it_holds():
    reviewer, source = networks(2)
    policy = RingReviewer(3)
    for _ in range(3):
        policy.update(reviewer, source)
    assert_same_state(reviewer, source)


@pytest.mark.parametrize('rule', ['greater', 'less'])
def test_best_moves_when_the_metric_is_better_than_ever(rule):
    reviewer, *history = networks(6)
    policy, sign = BestReviewer('acc', rule), 1 if rule == 'greater' else -1
    held = None
    values = [0.3, 0.2, 0.3, 0.5, float('nan')]
    for source, value in zip(history, values, strict=True):
        assert policy.update(reviewer, source) is None
        found = policy.review(reviewer, source, dict(acc=sign * value, other=9))
        better = value == value and value > max([0, *values[: history.index(source)]])
        assert (found is not None) is better
        held = source if better else held
        assert_same_state(reviewer, held)
    assert policy.best == sign * 0.5


@pytest.mark.parametrize('where', ['head.weight', 'backbone.1.running_var'])
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
@pytest.mark.parametrize('name', sorted(POLICIES))
def test_a_source_that_is_not_finite_is_refused(name, bad, where):
    reviewer, good, source, later = networks(4)
    policy = POLICIES[name]()
    assert moved(policy, reviewer, good, 0.5)
    source.state_dict()[where].view(-1)[-1] = bad
    before, memory = copy.deepcopy(reviewer.state_dict()), copy.deepcopy(policy.state_dict())
    assert not moved(policy, reviewer, source, 0.9)
    assert_same_state(reviewer, before)
    assert not state_differences(policy.state_dict(), memory)
    assert moved(policy, reviewer, later, 0.7), 'the next good one is taken'
    assert state_differences(reviewer.state_dict(), before)


@pytest.mark.parametrize('name', sorted(POLICIES))
def test_a_restored_policy_goes_on_bit_for_bit(name, tmp_path):
    """Through a file, as a checkpoint is read by those who trust nobody."""
    reviewer, *history = networks(7)
    policy = POLICIES[name]()
    for value, source in enumerate(history[:4]):
        moved(policy, reviewer, source, value)
    torch.save(policy.state_dict(), tmp_path / 'policy.pth')
    other, twin = POLICIES[name](), copy.deepcopy(reviewer)
    other.load_state_dict(torch.load(tmp_path / 'policy.pth', weights_only=True))
    for value, source in zip((2.0, 9.0), history[4:], strict=False):
        moved(policy, reviewer, source, value)
        moved(other, twin, source, value)
        assert_same_state(reviewer, twin)


def test_a_smaller_ring_takes_the_newest_snapshots():
    reviewer, *history = networks(6)
    large, small = RingReviewer(4), RingReviewer(2)
    for source in history:
        large.update(reviewer, source)
    small.load_state_dict(large.state_dict())
    kept = [int(each['seen']) for each in small.ring]
    assert kept == [4, 5]


def test_the_source_stays_as_it_is():
    for name, make in POLICIES.items():
        reviewer, source = networks(2)
        before = copy.deepcopy(source.state_dict())
        assert moved(make(), reviewer, source), name
        assert_same_state(source, before)
        reviewer.head.weight.data.add_(1)
        assert_same_state(source, before)


def test_the_base_leaves_the_reviewer_alone():
    reviewer, source = networks(2)
    before, policy = copy.deepcopy(reviewer.state_dict()), ReviewerPolicy()
    assert policy.update(reviewer, source) is policy.review(reviewer, source, {}) is None
    assert_same_state(reviewer, before)


def test_clear_errors():
    for make, message in (
        (lambda: EmaReviewer(1.5), 'keep'),
        (lambda: EmaReviewer(float('nan')), 'keep'),
        (lambda: EmaReviewer(0.5, 'mean'), 'buffers'),
        (lambda: RingReviewer(0), 'size'),
        (lambda: BestReviewer('acc', 'more'), 'rule'),
        (lambda: BestReviewer('acc').review(*networks(2), dict(loss=1)), r"'acc'.*\['loss'\]"),
        (lambda: RingReviewer().load_state_dict({}), 'another reviewer policy'),
        (lambda: BestReviewer('acc').load_state_dict(dict(best=1, metric='b')), "'b', not 'acc'"),
    ):
        with pytest.raises(UserError, match=message):
            make()


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='mmdistill.EmaReviewer', keep=0.9),
        dict(type='mmdistill.SnapshotReviewer'),
        dict(type='mmdistill.RingReviewer', size=2),
        dict(type='mmdistill.BestReviewer', metric='student/coco/AP'),
    ],
)
def test_policies_are_registered(cfg):
    assert type(ROOT_TASK_UTILS.build(cfg)).__name__ == cfg['type'].split('.')[1]
