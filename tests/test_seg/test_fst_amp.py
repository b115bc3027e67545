"""Mixed precision: half precision copies are never stale, infinite virtual gradients are let go."""

import contextlib
import copy

import pytest
import torch
from fst_cases import PublishedSchedule, batch_of, fst, run, state_of, wrapper_of
from fst_probes import HalfWrapper, ScaledWrapper, around_passes, copied, parameters, part

from mmdistill.seg import fst as fst_module
from mmdistill.testing import assert_same_state

FORMS = [
    dict(depth=2),
    dict(depth=2, optimizer_state='isolated', buffers='isolated'),
    dict(policy='official_w', depth=1, width=2),
    dict(depth=1, reuse=True),
]
IDS = ['leaky', 'isolated', 'wide', 'reuse']


def half(model):
    """The optimizer's wrapper with automatic casts."""
    return HalfWrapper(wrapper_of(model).optimizer)


def looks(options, wrapper, steps=3):
    """Logits of all looks of the student at its view, whose pixels stay the same in a step."""
    model, found = fst(draws='share', **options), []
    optim = wrapper(model)
    original = model.unsup_losses

    def noted(seen, *args):
        found.append(seen.logits['decode'].detach().clone())
        return original(seen, *args)

    model.unsup_losses = noted
    run(model, optim, steps)
    return found, parameters(state_of(model, optim.optimizer))


@pytest.mark.parametrize('options', FORMS, ids=IDS)
def test_every_pass_sees_the_parameters_of_its_own(options, monkeypatch):
    """One cast region per pass, as the published code would have it, changes nothing."""
    one, state = looks(options, half)
    monkeypatch.setattr(
        HalfWrapper, 'optim_context', lambda self, model: contextlib.nullcontext()
    )  # fmt: skip
    original = fst_module.FST._pass

    def alone(self, *args, **more):
        with torch.autocast('cpu', torch.bfloat16):
            return original(self, *args, **more)

    monkeypatch.setattr(fst_module.FST, '_pass', alone)
    two, expected = looks(options, half)
    assert len(one) == len(two)
    assert all(each.dtype == torch.bfloat16 for each in one)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)
    assert_same_state(state, expected)


def test_a_virtual_student_is_another_one():
    found, _ = looks(dict(depth=1, optimizer_state='isolated'), half)
    assert torch.equal(found[1], found[2])  # the first virtual pass is at theta_t
    found, _ = looks(FORMS[1], half)
    first, second, real = found[1:4]
    assert not torch.equal(first, second)
    assert torch.equal(first, real)


def test_gradients_under_casts_are_those_of_the_published_schedule():
    """There ``backward`` is called outside of the casts."""
    states = []
    for ours in (True, False):
        model = fst(depth=2, teacher_buffers='skip')
        optim = half(model)
        if ours:
            run(model, optim, 3)
        else:
            schedule = PublishedSchedule(model, optim.optimizer, 2)
            for index in range(3):
                model.cur_iter = index
                with _casts_outside_of_backward():
                    schedule.train_step(batch_of(index))
        states.append(part(state_of(model, optim.optimizer), 'student.', 'teacher.', 'optimizer'))
    assert_same_state(*states)


@contextlib.contextmanager
def _casts_outside_of_backward():
    """Casts, except while gradients are taken; the cache is emptied there."""
    original = torch.Tensor.backward

    def outside(self, *args, **more):
        torch.clear_autocast_cache()
        with torch.autocast('cpu', enabled=False):
            original(self, *args, **more)

    with torch.autocast('cpu', torch.bfloat16), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, 'backward', outside)
        yield


# ---------------------------------------------------------------- loss scalers


def scaled(model, **options):
    """The optimizer's wrapper with a loss scaler."""
    return ScaledWrapper(wrapper_of(model).optimizer, **options)


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.1)], ids=['free', 'clipped'])
@pytest.mark.parametrize('options', FORMS, ids=IDS)
def test_a_scaler_changes_nothing(options, clip):
    """A power of two comes out of every product without rounding."""
    states = []
    for wrap in (scaled, lambda model, **more: wrapper_of(model, **more)):
        model = fst(**options)
        optim = wrap(model, clip_grad=clip)
        run(model, optim, 3)
        states.append(state_of(model, optim.optimizer))
    assert_same_state(*states)


def infinite(model, pass_number):
    """Overflow of the gradients of one pass."""

    def spoil(number, grads, losses):
        if number == pass_number:
            grads[0].view(-1)[0] = float('inf')

    around_passes(model, after=spoil)


@pytest.mark.parametrize('state', ['leaky', 'isolated'])
def test_an_infinite_virtual_gradient_is_let_go(state):
    model = fst(depth=1, optimizer_state=state, keep=0.0, teacher_buffers='skip')
    optim = scaled(model)
    run(model, optim, 2)
    before, steps = copied(model.student), optim.optimizer.state_dict()['state'][0]['step'].clone()
    infinite(model, 1)
    futures = []
    around_passes(model, lambda number: number or futures.append(copied(model.teacher)))
    run(model, optim, 1, start=2)
    assert_same_state(futures, [before])  # with keep=0 the teacher is where the virtual student is
    assert optim.loss_scaler.get_scale() == 1024
    assert optim.optimizer.state_dict()['state'][0]['step'] == steps + 1
    now = copied(model.student)
    assert all(each.isfinite().all() for each in now.values())
    assert not torch.equal(
        now['decode_head.conv_seg.weight'], before['decode_head.conv_seg.weight']
    )


@pytest.mark.parametrize('state', ['leaky', 'isolated'])
def test_a_series_goes_on_where_it_was(state):
    """The second of three virtual gradients overflows: as if there had been two."""
    states = []
    for depth, bad in ((3, 2), (2, None)):
        options = dict(policy='ephemeral', virtual_keep=0.0, draws='share')
        model = fst(depth=depth, optimizer_state=state, **options)
        optim = scaled(model)
        futures = []
        infinite(model, bad)
        around_passes(
            model, lambda number, f=futures, m=model: number or f.append(copied(m.teacher))
        )
        run(model, optim, 1)
        states.append(futures)
    assert_same_state(*states)


@pytest.mark.parametrize('state', ['leaky', 'isolated'])
def test_an_infinite_real_gradient_skips_the_step(state):
    model = fst(depth=1, optimizer_state=state)
    optim = scaled(model)
    run(model, optim, 2)
    before = copied(model.student)
    infinite(model, 0)
    run(model, optim, 1, start=2)
    assert_same_state(copied(model.student), before)
    assert optim.loss_scaler.get_scale() == 512
    assert all(each.isfinite().all() for each in model.teacher.state_dict().values())


def test_running_statistics_that_overflow_do_not_reach_the_teacher():
    model = fst(depth=1)
    optim = wrapper_of(model)
    run(model, optim, 2)
    model.student.state_dict()['backbone.stem.0.bn.running_var'].fill_(float('inf'))
    before = copy.deepcopy(dict(model.teacher.named_buffers()))
    run(model, optim, 1, start=2)
    assert_same_state(dict(model.teacher.named_buffers()), before)
