"""Options that FST refuses by name, the burn-in, and labels that must not leak."""

import copy

import pytest
import torch
from fst_cases import CLASSES, SIZE, batch_of, built, fst, run, state_of, wrapper_of
from fst_probes import copied, joined
from mmengine.structures import PixelData

from mmdistill.core.errors import UserError
from mmdistill.testing import assert_same_state


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(policy='official'), "policy must be one of .*'ephemeral'.* got 'official'"),
        (dict(optimizer_state='shared'), "optimizer_state must be one of .* got 'shared'"),
        (dict(buffers='copy'), "buffers must be one of .* got 'copy'"),
        (dict(virtual_data='other'), "virtual_data must be one of .* got 'other'"),
        (dict(draws='none'), "draws must be one of .* got 'none'"),
        (dict(teacher_buffers='leaky'), "teacher_buffers must be one of .* got 'leaky'"),
        (dict(depth=-1), 'depth=-1'),
        (dict(depth=1, width=0), 'width=0'),
        (dict(policy='ephemeral', depth=2, width=2), 'only one of them above 1'),
        (dict(policy='official_w', depth=2), "'official_w' does not go with depth=2"),
        (dict(policy='official_d', depth=1, width=2), "'official_d' does not go with .* width=2"),
        (dict(keep=1.5), r'keep must lie in \[0, 1\], got 1.5'),
        (dict(virtual_keep=-0.1), r'virtual_keep must lie in \[0, 1\], got -0.1'),
        (dict(keep_virtual=0.1), "FST: unknown key 'keep_virtual'"),
        (dict(pseudo=dict(rule='share', treshold=0.9)), "pseudo: unknown key 'treshold'"),
        (dict(joint_forward=True), 'joint_forward=True goes with CutMix'),
    ],
)
def test_options_that_are_refused(options, text):
    with pytest.raises(UserError, match=text):
        built(dict(type='mmdistill.FST', **options), 0, None)


def test_accumulated_gradients_are_refused():
    model = fst()
    with pytest.raises(UserError, match='accumulative_counts to 1'):
        run(model, wrapper_of(model, accumulative_counts=2), 1)


def test_optimizers_that_cannot_be_followed_are_refused():
    model = fst()
    with pytest.raises(UserError, match='RMSprop'):
        run(model, wrapper_of(model, torch.optim.RMSprop), 1)


def test_fresh_images_have_to_be_there():
    model = fst(depth=2, virtual_data='fresh')
    with pytest.raises(UserError, match='needs 3 batches in one, got 2 labelled images'):
        run(model, wrapper_of(model), 1)
    with pytest.raises(UserError, match='got 4 unlabelled images'):
        run(model, wrapper_of(model), 1, batch=lambda seed: batch_of(seed, 6, 4))


def test_fresh_images_are_split_in_order():
    model = fst(depth=2, virtual_data='fresh')
    parts = [batch_of(index) for index in range(3)]
    data = model.data_preprocessor(joined(parts), True)
    whole = model.read_batch(data['inputs'], data['data_samples'])
    real, virtual = model.split(whole)
    for part, given in zip((real, *virtual), parts, strict=True):
        data = model.data_preprocessor(given, True)
        expected = model.read_batch(data['inputs'], data['data_samples'])
        assert_same_state(part.__dict__, expected.__dict__)


def without_unlabeled(seed):
    """A batch of labelled images alone."""
    data = batch_of(seed)
    for part in ('inputs', 'data_samples', 'branch_index'):
        del data[part]['unsup_teacher']
    return data


@pytest.mark.parametrize('batch', [batch_of, without_unlabeled], ids=['weight 0', 'no images'])
def test_the_burn_in_is_training_on_labels(batch):
    """The student makes mmseg's own steps; the teacher waits at its place."""
    model = fst(depth=2)
    plain = copy.deepcopy(model)
    model.unsup_active = batch is not batch_of
    optim, other = wrapper_of(model), wrapper_of(plain)
    run(model, optim, 3, batch=batch)
    for index in range(3):
        data = plain.data_preprocessor(batch_of(index), True)
        losses = plain.student.loss(data['inputs']['sup'], data['data_samples']['sup'])
        if index == 2:
            last = copied(plain.student)
        other.update_params(losses['decode.loss_ce'])
    assert_same_state(model.student.state_dict(), plain.student.state_dict())
    ours, theirs = (each.optimizer.state_dict() for each in (optim, other))
    assert_same_state(ours, theirs)
    assert_same_state(copied(model.teacher), last)  # it averaged theta_t with factor 0
    assert int(model.steps_done) == int(model.passes_done) == 0


def test_after_the_burn_in_the_schedule_begins():
    """As if training had begun with that student and that optimizer."""
    model = fst(depth=2)
    optim = wrapper_of(model)
    model.unsup_active = False
    run(model, optim, 2)
    model.unsup_active = True
    fresh = fst(depth=2)
    fresh.load_state_dict(model.state_dict())
    other = wrapper_of(fresh)
    other.load_state_dict(copy.deepcopy(optim.state_dict()))
    fresh.teacher.load_state_dict(fst(seed=8).teacher.state_dict())  # the first step resets it
    run(model, optim, 3, start=2)
    run(fresh, other, 3, start=2)
    assert_same_state(state_of(fresh, other.optimizer), state_of(model, optim.optimizer))


def test_labels_of_unlabelled_images_change_no_step():
    def poisoned(seed):
        data = batch_of(seed)
        for each in data['data_samples']['unsup_teacher']:
            each.gt_sem_seg = PixelData(data=torch.randint(0, CLASSES, (1, *SIZE)))
        return data

    states = []
    for batch in (batch_of, poisoned):
        model = fst(depth=2)
        optim = wrapper_of(model)
        losses = run(model, optim, 3, batch=batch)
        states.append((state_of(model, optim.optimizer), losses))
        assert (model.pseudo_stats.hidden is None) is (batch is batch_of)
    assert_same_state(*states)


def test_the_log_holds_the_losses_of_the_real_pass():
    model = fst(depth=1, mix=None)
    optim = wrapper_of(model)
    run(model, optim, 2)
    seen = []
    original = model._pass
    model._pass = lambda *a, **k: seen.append(original(*a, **k)) or seen[-1]
    model.cur_iter = 2
    logged = model.train_step(batch_of(2), optim)
    virtual, real = (sum(losses.values()) for _, losses in seen)
    torch.testing.assert_close(logged['loss'], real.detach())
    names = {'loss', 'sup_decode.loss_ce', 'unsup_decode.loss_ce', 'future/changed_labels'}
    assert set(logged) == names
    assert not any(each.requires_grad for each in logged.values())
    assert not torch.equal(virtual, real)
