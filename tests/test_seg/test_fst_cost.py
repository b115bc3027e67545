"""What a step costs: forward passes, memory, and no waiting for the device in the teacher."""

import pytest
from fst_cases import batch_of, fst, run, segmentor_config, wrapper_of
from fst_probes import forward_counts, images_of
from no_wait import NoWait

from mmdistill.core import virtual_step
from mmdistill.seg.seg_batch import look
from mmdistill.testing import LiveMemory

ISOLATED = dict(optimizer_state='isolated', buffers='isolated')
JOINT = dict(policy='official_ssl', joint_forward=True, mix=None)
THINGS = dict(thing_classes=(1, 2))


@pytest.mark.parametrize(
    ('options', 'student', 'teacher', 'reference'),
    [
        (dict(policy='mt'), 2, 1, 1),
        (dict(depth=1), 4, 2, 1),
        (dict(depth=3), 8, 4, 1),
        (dict(policy='official_w', depth=1, width=2), 6, 3, 1),
        (dict(depth=1, reuse=True), 3, 2, 1),
        (dict(depth=3, reuse=True), 1 + 2 + 2 + 1 + 1, 4, 1),
        (dict(policy='official_w', depth=1, width=3, reuse=True), 1 + 4, 4, 1),
        (dict(depth=1, reuse=True, draws='share', **ISOLATED), 2, 2, 1),
        (dict(depth=1, draws='share', **ISOLATED), 3, 2, 1),
        (dict(depth=3, reuse=True, draws='share', **ISOLATED), 1 + 2 + 2 + 1, 4, 1),
        (dict(depth=2, virtual_data='fresh', mix=None), 6, 3, 3),
        (dict(depth=3, **JOINT), 4, 4, 0),
        (dict(depth=1, draws='share', **JOINT, **ISOLATED), 1, 2, 0),
        (dict(depth=3, draws='share', **JOINT, **ISOLATED), 3, 4, 0),
    ],
)
def test_forward_passes_of_a_step(options, student, teacher, reference):
    more = {} if reference == 0 else dict(feature_distance=THINGS)
    model = fst(**options, **more)
    parts = 3 if options.get('virtual_data') else 1
    optim, networks = wrapper_of(model), dict(student=model.student.backbone)
    networks |= dict(teacher=model.teacher.backbone)
    networks |= dict(reference=model.reference) if reference else {}

    def batch(seed):
        return batch_of(seed, 2 * parts, 2 * parts)

    run(model, optim, 1, batch=batch)
    counts = forward_counts(**networks)
    run(model, optim, 1, start=1, batch=batch)
    assert [counts[name] for name in ('student', 'teacher', 'reference')] == [
        student, teacher, reference,
    ]  # fmt: skip


def heavy() -> dict:
    """A segmentor that is nearly all parameters: many small layers on tiny maps."""
    config = segmentor_config()
    config['decode_head'].update(num_convs=24, channels=48)
    return config


def peak(monkeypatch, **options):
    """Bytes at the worst moment of the third step, beyond those before it; and the model."""
    monkeypatch.setattr(virtual_step, 'CHUNK', 1 << 14)
    model = fst(segmentor=heavy(), **options)
    optim = wrapper_of(model)
    run(model, optim, 2)
    with LiveMemory() as live:
        run(model, optim, 1, start=2)
    return live.peak, model


def test_a_single_virtual_step_needs_no_copy_of_the_parameters(monkeypatch):
    """Not even one: only the gradient of labelled images waits for the real pass."""
    plain, model = peak(monkeypatch, policy='mt')
    size = sum(each.nbytes for each in model.student.parameters())
    buffers = sum(each.nbytes for each in model.student.buffers())
    ahead, _ = peak(monkeypatch, depth=1, reuse=True, **ISOLATED)
    assert plain > 2 * size  # two gradients: the measure sees what is there
    assert ahead - plain < 0.5 * size + buffers
    series, _ = peak(monkeypatch, depth=2, reuse=True, **ISOLATED)
    assert series - plain > 2 * size  # parameters and two moments of their own


@pytest.mark.parametrize(
    ('options', 'steps'),
    [(dict(depth=1, **ISOLATED), 50), (dict(depth=2), 8), (dict(depth=2, **ISOLATED), 8)],
    ids=['isolated', 'leaky', 'series'],
)
def test_nothing_is_kept_from_step_to_step(options, steps):
    model = fst(**options)
    optim = wrapper_of(model)
    run(model, optim, 2)
    sizes = []
    with LiveMemory() as live:
        for index in range(steps):
            run(model, optim, 1, start=2 + index)
            sizes.append(live.held)
    assert len(set(sizes[1:])) == 1
    assert sizes[-1] < live.peak


@pytest.mark.parametrize(
    'options',
    [
        dict(pseudo=dict(rule='share', threshold=0.4)),
        dict(mix=dict(type='mmdistill.CutMix'), pseudo=dict(rule='entropy')),
        dict(feature_distance=THINGS, mix=None, pseudo=dict(rule='all')),
    ],
    ids=['share', 'entropy', 'distance'],
)
def test_losses_do_not_wait_for_a_device(options):
    model = fst(**options)
    batch = images_of(model, batch_of(0))
    with NoWait():
        view = model.student_view(batch, 0)
        labels, weight = model.pseudo_targets(batch)
        losses = model.sup_losses(look(model.student, batch.labeled), batch)
        seen = look(model.student, view.images)
        losses |= model.unsup_losses(seen, batch, view, labels, weight)
    assert all(value.isfinite() for value in losses.values())
