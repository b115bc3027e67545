"""FST's step is the published one, and the formula, bit for bit; what costs less is the same."""

import copy
from functools import partial

import pytest
import torch
from fst_cases import PublishedSchedule, batch_of, fst, run, segmentor_config, state_of, wrapper_of
from fst_probes import (
    around_passes,
    copied,
    images_of,
    joined,
    parameters,
    part,
    published_formula,
)

from mmdistill.testing import assert_same_state

CUT = dict(mix=dict(type='mmdistill.CutMix', probability=0.7), pseudo=dict(rule='entropy'))
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)
NESTEROV = partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True)
KINDS = dict(adamw=None, sgd=SGD)
RICH = dict(
    segmentor=segmentor_config(dropout=0.3, auxiliary=True),
    strong=dict(type='mmdistill.StrongPhotometric'),
    feature_distance=dict(thing_classes=(1, 3), loss_weight=0.5),
    weight_auxiliary=False,
)


def both(depth, options, kind=None, steps=5, batch=batch_of, virtual=None, **schedule):
    """States after training with FST and with real steps and copies."""
    states = []
    for ours in (True, False):
        model = fst(teacher_buffers='skip', **options)
        optim = wrapper_of(model, kind)
        torch.manual_seed(7)  # of dropout
        if ours:
            run(model, optim, steps, batch=batch)
        else:
            other = PublishedSchedule(model, optim.optimizer, depth, **schedule)
            for index in range(steps):
                model.cur_iter = index
                more = virtual and [images_of(model, each) for each in virtual(index)]
                other.train_step(batch(index) if virtual is None else batch_of(index), more)
        states.append(part(state_of(model, optim.optimizer), 'student.', 'teacher.', 'optimizer'))
    return states


@pytest.mark.parametrize('kind', list(KINDS))
@pytest.mark.parametrize('depth', [1, 2, 3])
def test_the_deep_form_is_the_published_schedule(depth, kind):
    assert_same_state(*both(depth, dict(depth=depth), KINDS[kind]))


def test_the_deep_form_with_everything_at_once():
    """Dropout, colours, an auxiliary head without weights, feature distance, Nesterov momentum."""
    assert_same_state(*both(2, dict(depth=2, **RICH), NESTEROV, steps=4))


@pytest.mark.parametrize('width', [1, 3])
def test_the_wide_form_is_the_published_schedule(width):
    options = dict(policy='official_w', depth=1, width=width)
    assert_same_state(*both(width, options, wide=True))


def test_the_wide_form_with_images_of_its_own():
    def virtual(index):
        return [batch_of(1000 * each + index) for each in (1, 2)]

    options = dict(policy='official_w', depth=1, width=2, virtual_data='fresh')
    states = both(
        2, options, steps=4, virtual=virtual, wide=True,
        batch=lambda index: joined([batch_of(index), *virtual(index)]),
    )  # fmt: skip
    assert_same_state(*states)


@pytest.mark.parametrize('pseudo_bn', ['running', 'batch'])
def test_the_semi_supervised_form_is_the_published_schedule(pseudo_bn):
    options = dict(
        policy='official_ssl', depth=3, joint_forward=True, pseudo_bn=pseudo_bn, **CUT
    )  # fmt: skip
    assert_same_state(*both(3, options, SGD, steps=4, last=True))


def note_futures(model, into):
    """Keeps the parameters of every future teacher."""
    around_passes(model, lambda number: number or into.append(copied(model.teacher)))


@pytest.mark.parametrize('kind', list(KINDS))
@pytest.mark.parametrize('depth', [1, 3])
def test_isolated_steps_are_the_formula(depth, kind):
    """Virtual students are clones that step; the student never hears of them."""
    states, futures = [], ([], [])
    for ours in (True, False):
        model = fst(
            policy='ephemeral', depth=depth, optimizer_state='isolated', buffers='isolated',
            teacher_buffers='skip', virtual_keep=0.3,
        )  # fmt: skip
        optim = wrapper_of(model, KINDS[kind])
        if ours:
            note_futures(model, futures[0])
        for index in range(4):
            model.cur_iter = index
            if ours:
                model.train_step(batch_of(index), optim)
            else:
                future = published_formula(model, optim, KINDS[kind], batch_of(index), depth)
                futures[1].append(future)
        states.append(part(state_of(model, optim.optimizer), 'student.', 'teacher.', 'optimizer'))
    assert len(futures[0]) == 4
    assert_same_state(*futures)
    assert_same_state(*states)


@pytest.mark.parametrize(
    'options',
    [
        dict(depth=1, optimizer_state='isolated', buffers='isolated'),
        dict(depth=3),
        dict(policy='official_w', depth=1, width=3),
        dict(policy='ephemeral', depth=2, optimizer_state='isolated'),
        dict(depth=1, feature_distance=dict(thing_classes=(0, 2), loss_weight=1.0)),
    ],
    ids=['isolated', 'leaky', 'wide', 'ephemeral', 'distance'],
)
def test_one_gradient_of_labelled_images_serves_all_passes(options):
    states = []
    for reuse in (False, True):
        model = fst(reuse=reuse, **options)
        optim = wrapper_of(model)
        run(model, optim, 4)
        states.append(parameters(state_of(model, optim.optimizer)))
    assert_same_state(*states)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(reuse=True),
        dict(policy='official_ssl', joint_forward=True, **CUT),
        dict(policy='ephemeral', strong=dict(type='mmdistill.StrongPhotometric')),
        dict(depth=3, reuse=True),
        dict(policy='official_ssl', depth=2, joint_forward=True, **CUT),
    ],
    ids=['plain', 'reuse', 'joint', 'ephemeral', 'series', 'joint series'],
)
def test_one_look_at_the_mixed_images_serves_both_passes(options):
    given = dict(depth=1, draws='share', optimizer_state='isolated', buffers='isolated')
    states = []
    for keeps in (True, False):
        model = fst(**{**given, **options})
        assert model._keeps_graph(True)
        if not keeps:
            model._keeps_graph = lambda common: False
        optim = wrapper_of(model)
        run(model, optim, 4)
        states.append(parameters(state_of(model, optim.optimizer)))
        counted = model.student.state_dict()['backbone.stem.0.bn.num_batches_tracked']
        states[-1]['counted'] = counted.clone()
    assert_same_state(*states)


@pytest.mark.parametrize('leaky', ['leaky', 'isolated'])
def test_virtual_steps_clip_as_real_ones_do(leaky):
    """With a tiny norm everywhere, plain SGD moves by exactly that much, virtual steps too."""
    plain = partial(torch.optim.SGD, lr=1.0)
    model = fst(depth=1, keep=0.0, optimizer_state=leaky, teacher_buffers='skip')
    params = list(model.student.parameters())
    optim = wrapper_of(model, lambda groups: plain(params), clip_grad=dict(max_norm=1e-2))
    run(model, optim, 1)
    before = [each.detach().clone() for each in params]
    run(model, optim, 1, start=1)

    def moved(now):
        return torch.sqrt(sum((a - b).square().sum() for a, b in zip(now, before, strict=True)))

    # with keep=0 the teacher is the virtual student
    assert float(moved(model.teacher.parameters())) == pytest.approx(1e-2, rel=1e-3)
    assert float(moved(params)) == pytest.approx(1e-2, rel=1e-3)


def test_a_teacher_that_keeps_nothing_is_the_virtual_student():
    """Its labels are those of a clone of the student after a real step."""
    model = fst(depth=1, keep=0.0, optimizer_state='isolated', teacher_buffers='skip')
    optim = wrapper_of(model)
    run(model, optim, 2)
    twin = copy.deepcopy(model)
    other = wrapper_of(twin)
    other.load_state_dict(copy.deepcopy(optim.state_dict()))
    twin.policy, twin.ahead = fst(policy='mt').policy, 0
    twin.student_view = lambda batch, purpose: model.student_view(batch, 1)  # of the virtual pass
    run(model, optim, 1, start=2)
    run(twin, other, 1, start=2)
    params = [dict(each.named_parameters()) for each in (model.teacher, twin.student)]
    assert_same_state(*params)
    batch = images_of(model, batch_of(5))
    twin.teacher.load_state_dict(twin.student.state_dict())
    assert torch.equal(model.pseudo_targets(batch)[0], twin.pseudo_targets(batch)[0])


@pytest.mark.parametrize(
    'options',
    [
        dict(depth=1),
        dict(depth=3),
        dict(policy='official_w', depth=1, width=2),
        dict(policy='official_ssl', joint_forward=True, **CUT),
    ],
    ids=['one', 'series', 'wide', 'joint'],
)
def test_the_log_tells_how_many_labels_the_look_ahead_has_changed(options):
    model, made = fst(keep=0.5, **options), []
    original = model.pseudo_targets

    def noted(batch):
        made.append(original(batch))
        return made[-1]

    model.pseudo_targets = noted
    optim = wrapper_of(model)
    run(model, optim, 1)
    made.clear()
    found = model.train_step(batch_of(1), optim)['future/changed_labels']
    share = (made[0][0] != made[-1][0]).double().mean()
    assert float(found) == pytest.approx(float(share)) and share > 0


@pytest.mark.parametrize(
    'options', [dict(policy='mt'), dict(depth=1, virtual_data='fresh', mix=None)]
)
def test_without_the_same_images_there_is_nothing_to_tell(options):
    model = fst(**options)
    parts = 2 if 'virtual_data' in options else 1
    optim = wrapper_of(model)
    for seed in range(2):
        found = model.train_step(batch_of(seed, 2 * parts, 2 * parts), optim)
        assert 'future/changed_labels' not in found
