"""What virtual steps must not touch: student, optimizer, scaler, and the teacher's own memory."""

import copy
from functools import partial

import pytest
import torch
from fst_cases import batch_of, fst, run, segmentor_config, state_of, wrapper_of
from fst_probes import ScaledWrapper, around_passes, images_of, part

from mmdistill.testing import assert_same_state

ISOLATED = dict(optimizer_state='isolated', buffers='isolated')
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
DROPS = segmentor_config(dropout=0.5)


def addresses(network):
    """Where parameters and buffers lie."""
    return {name: each.data_ptr() for name, each in network.state_dict(keep_vars=True).items()}


@pytest.mark.parametrize('kind', [None, SGD], ids=['adamw', 'sgd'])
@pytest.mark.parametrize(
    'options',
    [dict(depth=1), dict(depth=3), dict(policy='official_w', depth=1, width=2)],
    ids=['one', 'deep', 'wide'],
)
def test_isolated_steps_leave_no_trace(options, kind):
    """When the real pass begins, all is as it was before the virtual ones."""
    model = fst(**options, **ISOLATED)
    optim = ScaledWrapper(wrapper_of(model, kind).optimizer)
    run(model, optim, 2)
    whole = {}

    def noted(number):
        if number in (0, 1):
            now = state_of(model, optim.optimizer)
            now = {k: v for k, v in now.items() if k.startswith(('student.', 'optimizer'))}
            whole[number] = [
                now, [each.grad for each in model.student.parameters()],
                copy.deepcopy(optim.loss_scaler.state_dict()),
            ]  # fmt: skip

    around_passes(model, noted)
    run(model, optim, 1, start=2)
    assert set(whole) == {0, 1}
    assert all(each is None for each in whole[0][1])
    assert_same_state(whole[0], whole[1])


def test_leaky_steps_put_the_parameters_back_and_nothing_else():
    model = fst(depth=2)
    optim = wrapper_of(model)
    run(model, optim, 2)
    states = {}
    around_passes(model, lambda n: states.update({n: state_of(model, optim.optimizer)}))
    run(model, optim, 1, start=2)
    names = {name for name, _ in model.student.named_parameters(prefix='student')}
    first, second, real = states[1], states[2], states[0]
    assert_same_state(*({n: s[n] for n in names} for s in (first, real)))
    assert not torch.equal(first['student.decode_head.conv_seg.weight'],
                           second['student.decode_head.conv_seg.weight'])  # fmt: skip
    for name in ('optimizer.0.exp_avg', 'student.backbone.stem.0.bn.running_mean'):
        assert not torch.equal(first[name], real[name])
    assert int(real['optimizer.0.step']) == int(first['optimizer.0.step']) + 2


@pytest.mark.parametrize('buffers', ['leaky', 'isolated'])
@pytest.mark.parametrize('reuse', [False, True])
def test_how_often_running_statistics_move(buffers, reuse):
    """Two looks per pass; with one gradient of labelled images for all there is one look less."""
    model = fst(policy='ephemeral', depth=1, buffers=buffers, optimizer_state='isolated',
                reuse=reuse)  # fmt: skip
    run(model, wrapper_of(model), 3)
    moved = {name: int(value) for name, value in model.student.state_dict().items()
             if name.endswith('num_batches_tracked')}  # fmt: skip
    looks = 2 if buffers == 'isolated' else 3 if reuse else 4
    assert set(moved.values()) == {3 * looks}


@pytest.mark.parametrize('state', ['leaky', 'isolated'])
def test_an_error_within_a_virtual_pass_leaves_the_student_in_place(state):
    model = fst(depth=3, optimizer_state=state)
    optim = wrapper_of(model)
    run(model, optim, 2)
    where = addresses(model.student)
    names = {name for name, _ in model.student.named_parameters(prefix='student')}
    before = {name: model.state_dict()[name].clone() for name in names}

    def fail(number):
        if number == 3:
            raise ArithmeticError('within the third pass')

    around_passes(model, fail)
    with pytest.raises(ArithmeticError, match='third pass'):
        run(model, optim, 1, start=2)
    assert addresses(model.student) == where
    assert_same_state({name: model.state_dict()[name] for name in names}, before)
    del model._pass
    run(model, optim, 2, start=2)
    assert addresses(model.student) == where


@pytest.mark.parametrize('options', [dict(), dict(policy='ephemeral')], ids=['deep', 'ephemeral'])
def test_student_and_teacher_never_share_memory(options, tmp_path):
    model = fst(depth=1, **options)
    optim = wrapper_of(model)

    def apart(model):
        spans = []
        for each in model.state_dict(keep_vars=True).values():
            storage = each.untyped_storage()
            spans.append((storage.data_ptr(), each.data_ptr(), each.nbytes))
        student = {s for s, *_ in spans[: len(model.student.state_dict())]}
        of = {name: {each.untyped_storage().data_ptr() for each in
                     model.branch(name).state_dict(keep_vars=True).values()}
              for name in ('student', 'teacher')}  # fmt: skip
        assert student and not of['student'] & of['teacher']

    apart(model)
    run(model, optim, 2)
    apart(model)
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    model.load_state_dict(torch.load(tmp_path / 'model.pth', weights_only=True))
    run(model, optim, 1, start=2)
    apart(model)
    twin = copy.deepcopy(model)
    run(twin, wrapper_of(twin), 1)
    apart(twin)
    both = [{p.data_ptr() for p in m.state_dict(keep_vars=True).values()} for m in (model, twin)]
    assert not both[0] & both[1]


def test_a_copy_of_the_model_has_a_teacher_of_its_own():
    """The flat memory of the first teacher stays with it."""
    model = fst(depth=1)
    run(model, wrapper_of(model), 2)
    twin, before = copy.deepcopy(model), part(copy.deepcopy(model.state_dict()), 'teacher.')
    run(twin, wrapper_of(twin), 2)
    assert_same_state(part(model.state_dict(), 'teacher.'), before)
    moved = part(twin.state_dict(), 'teacher.')
    assert not torch.equal(moved['teacher.backbone.stem.0.conv.weight'],
                           before['teacher.backbone.stem.0.conv.weight'])  # fmt: skip


@pytest.mark.parametrize('policy', ['official_d', 'official_w', 'ephemeral', 'mt'])
def test_the_teacher_is_never_trained(policy):
    model = fst(policy=policy, depth=1)
    optim = wrapper_of(model)
    model.requires_grad_(True)
    run(model, optim, 2)
    held = {id(each) for group in optim.optimizer.param_groups for each in group['params']}
    for each in model.teacher.parameters():
        assert not each.requires_grad and each.grad is None and id(each) not in held


def test_frozen_layers_are_followed_by_nobody():
    """The optimizer does not have them, and the teacher keeps its own."""
    model = fst(depth=2, optimizer_state='isolated')
    model.student.backbone.stem.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    optim = wrapper_of(model)
    optim.optimizer.param_groups[0]['params'] = [
        each for each in optim.optimizer.param_groups[0]['params'] if each.requires_grad
    ]
    run(model, optim, 3)
    for branch in ('student', 'teacher'):
        name = f'{branch}.backbone.stem.0.conv.weight'
        assert torch.equal(model.state_dict()[name], before[name])
        name = f'{branch}.decode_head.conv_seg.weight'
        assert not torch.equal(model.state_dict()[name], before[name])


def test_the_teacher_has_no_dropout_and_moves_no_statistics():
    model = fst(segmentor=DROPS, depth=1)
    model.train()
    batch = images_of(model, batch_of(0))
    before = copy.deepcopy(model.teacher.state_dict())
    logits = [model.teacher_logits(batch.unlabeled) for _ in range(2)]
    assert torch.equal(*logits)
    assert_same_state(model.teacher.state_dict(), before)
    assert not any(each.training for each in model.teacher.modules())
    assert any(each.training for each in model.student.modules())
