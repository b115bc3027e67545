"""Which students the teacher averages, with which factor, and when policies are the same."""

import pytest
import torch
from fst_cases import batch_of, fst, run, state_of, wrapper_of
from fst_probes import average, copied, joined, keeps_of, parameters

from mmdistill.seg.fst import POLICIES
from mmdistill.testing import assert_same_state

ISOLATED = dict(optimizer_state='isolated', buffers='isolated')
SSL = dict(policy='official_ssl', joint_forward=True, mix=None)


def trained(steps=4, batch=batch_of, **options):
    """State of model and optimizer after some steps."""
    model = fst(**options)
    optim = wrapper_of(model)
    run(model, optim, steps, batch=batch)
    return state_of(model, optim.optimizer)


def without_counts(state):
    """A state but for what counts passes and averages."""
    return {k: v for k, v in state.items() if k not in ('passes_done', 'teacher_steps')}


def inverse(*numbers):
    """``min(1 - 1 / (n + 1), 0.9)``."""
    return [min(1 - 1 / (n + 1), 0.9) for n in numbers]


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (dict(policy='mt'), [[0], [1], [2], [3]]),
        # by passes; the first step is a plain one that is averaged twice
        (dict(depth=1), [[0, 1], [1, 2], [3, 4], [5, 6]]),
        (dict(depth=3), [[0, 1], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]),
        (dict(policy='official_w', depth=1, width=2), [[0, 1], [3, 4], [6, 7], [9, 10]]),
        # by steps, all averages of one step alike
        (dict(depth=3, **SSL), [[0] * 5, [1] * 5, [2] * 5, [3] * 5]),
        (dict(policy='ephemeral', depth=2), [[0, 0], [1, 1], [2, 2], [3, 3]]),
    ],
    ids=['mt', 'deep-1', 'deep-3', 'wide-2', 'ssl-3', 'ephemeral'],
)
def test_the_factors_of_all_averages(options, expected):
    model = fst(**options)
    found, optim = keeps_of(model), wrapper_of(model)
    for index, numbers in enumerate(expected):
        run(model, optim, 1, start=index)
        assert found == pytest.approx(inverse(*numbers)), f'step {index}'
        found.clear()
    assert int(model.teacher_steps) == sum(map(len, expected))
    assert int(model.steps_done) == 4


def test_the_factor_ends_at_keep_and_that_of_virtual_students_is_their_own():
    model = fst(policy='ephemeral', depth=1, keep=0.6, virtual_keep=0.25)
    found = keeps_of(model)
    run(model, wrapper_of(model), 4)
    assert found == pytest.approx([0, 0.25, 0.5, 0.25, 0.6, 0.25, 0.6, 0.25])


@pytest.mark.parametrize(
    ('options', 'steps', 'passes'),
    [
        (dict(depth=3), 1 + 3 * 4, 13),
        (dict(depth=3, optimizer_state='isolated'), 4, 13),
        (dict(policy='official_w', depth=1, width=2), 1 + 3 * 3, 10),
        (dict(policy='mt'), 4, 4),
        (dict(policy='ephemeral', depth=2), 4 * 3, 12),
        (dict(policy='ephemeral', depth=2, optimizer_state='isolated'), 4, 12),
    ],
)
def test_steps_of_the_optimizer_and_forward_passes(options, steps, passes):
    """Leaky virtual steps are counted by the optimizer, isolated ones are not."""
    state = trained(**options)
    assert int(state['optimizer.0.step']) == steps
    assert int(state['passes_done']) == passes


@pytest.mark.parametrize('policy', list(POLICIES))
def test_no_virtual_step_is_the_mean_teacher(policy):
    assert_same_state(trained(policy=policy, depth=0), trained(policy='mt', depth=2))


@pytest.mark.parametrize('depth', [1, 2])
def test_a_future_that_adds_nothing_is_the_mean_teacher(depth):
    ours = trained(policy='ephemeral', virtual_keep=1.0, depth=depth, **ISOLATED)
    assert_same_state(without_counts(ours), without_counts(trained(policy='mt')))


def test_a_future_that_counts_is_not():
    ours = trained(policy='ephemeral', virtual_keep=0.0, depth=1, **ISOLATED)
    theirs = trained(policy='mt')
    name = 'student.decode_head.conv_seg.weight'
    assert not torch.equal(ours[name], theirs[name])


def test_the_teacher_of_the_clean_form_averages_real_students_alone():
    """Its factors are those of ``mt``; virtual students are forgotten, bit for bit."""
    model = fst(policy='ephemeral', depth=2, virtual_keep=0.1)
    optim = wrapper_of(model)
    own = fst().teacher
    for index in range(4):
        average(own, model.student, min(1 - 1 / (index + 1), 0.9))
        run(model, optim, 1, start=index)
        assert_same_state(copied(model.teacher), copied(own))


@pytest.mark.parametrize('policy', ['ephemeral', 'official_w'])
def test_a_mean_of_equal_virtual_students_is_one_of_them(policy):
    """Isolated, on the same images with the same draws: wide is deep with one step."""
    options = dict(policy=policy, depth=1, draws='share', **ISOLATED)
    one, two, four = (trained(width=width, **options) for width in (1, 2, 4))
    if policy == 'official_w':  # its factor counts passes
        one, two, four = (trained(width=w, keep=0.4, **options) for w in (1, 2, 4))
    for other in (two, four):
        assert_same_state(*(parameters(without_counts(each)) for each in (one, other)))


@pytest.mark.parametrize('form', [dict(depth=2), dict(depth=1, width=3)], ids=['deep', 'wide'])
def test_fresh_images_that_are_the_same_ones_change_nothing(form):
    policy = 'official_w' if 'width' in form else 'official_d'
    options = dict(policy=policy, draws='share', **form, **ISOLATED)
    parts = 1 + max(form.values())
    fresh = trained(
        virtual_data='fresh', batch=lambda index: joined([batch_of(index)] * parts), **options
    )
    assert_same_state(fresh, trained(**options))


@pytest.mark.parametrize('state', ['isolated', 'leaky'])
def test_the_order_of_parallel_students_matters_only_where_they_leak(state):
    def batch(*order):
        return lambda index: joined([batch_of(100 * each + index) for each in order])

    options = dict(
        policy='official_w', depth=1, width=2, virtual_data='fresh', mix=None,
        optimizer_state=state, buffers=state, pseudo=dict(rule='all'),
    )  # fmt: skip
    a, b = (parameters(trained(3, batch(0, *rest), **options)) for rest in ((1, 2), (2, 1)))
    gaps = [float((a[name] - b[name]).abs().max()) for name in a if name.startswith('student.')]
    assert (max(gaps) < 1e-4) is (state == 'isolated')


def test_the_teacher_of_the_wide_form_averages_the_mean():
    """With keep=0 the labels of the real pass come from the mean of two clones' real steps."""
    model = fst(policy='official_w', depth=1, width=2, keep=0.0, **ISOLATED)
    optim = wrapper_of(model)
    run(model, optim, 1)
    seen, students = [], []
    original = model._follower.follow
    model._follower.follow = lambda chunks, *a: original(_noted(chunks, seen), *a)
    step = model._virtual.stream
    model._virtual.stream = lambda *a: _noted(step(*a), students)
    run(model, optim, 1, start=1)
    count = len(list(model.student.parameters()))
    first, second, soup = dict(students[:count]), dict(students[count:]), dict(seen[:count])
    for index in range(count):
        mean = (first[index] + second[index]) / 2
        torch.testing.assert_close(soup[index], mean, rtol=1e-6, atol=1e-7)
    assert any(not torch.equal(first[index], second[index]) for index in range(count))


def _noted(chunks, into):
    """Passes chunks on and keeps copies of their tensors by index."""
    for indices, tensors in chunks:
        into += [(i, each.clone()) for i, each in zip(indices, tensors, strict=True)]
        yield indices, tensors
