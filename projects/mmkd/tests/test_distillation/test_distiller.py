"""A student with its teacher: a plain step, a step with learned weights, and what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from torch import nn

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmdistill.core.rng import rng_state
from mmdistill.testing import assert_same_state
from mmkd.distillation import distiller
from mmkd.distillation.connectors import LinearConnector
from mmkd.distillation.distiller import Distiller
from mmkd.distillation.hypergradient import SOLVERS
from mmkd.distillation.losses.fitnet import FitNet
from mmkd.distillation.weighters.base import SampleWeighter
from mmkd.distillation.weighters.constant import ConstantWeighter
from mmkd.distillation.weighters.free_ratio import FreeRatio
from mmkd.distillation.weighters.tgeo_kd import TGeoKD
from mmkd.models.tabular import TabularMLP
from mmkd.models.timm_classifier import Classified

SGD = dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
ADAMW = dict(type='AdamW', lr=0.01, weight_decay=0.1, eps=1e-3)


class Normed(nn.Module):
    """With running statistics and dropout."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2))
        self.head = nn.Linear(8, 4)

    def forward(self, numeric):
        """Logits."""
        return Classified(self.head(self.stage1(numeric)))


def mlp(hidden=8, classes=4, act='Tanh'):
    """For rows of 6 numbers."""
    return TabularMLP(6, (hidden,), classes, act)


def made(weighter=None, seed=0, **options):
    """A model in the middle of a training."""
    torch.manual_seed(seed)
    options = dict(dict(student=mlp, teacher=mlp(12), temperature=3.0), **options)
    options['student'] = options['student']()
    model = Distiller(weighter=weighter or TGeoKD(4), **options).train()
    model.progress = 0.5
    return model


def optimizers(model, student=SGD, fusion=None, **more):
    """Of the student and of the weighter."""
    fusion = fusion or dict(type='Adam', lr=0.01)
    cfg = dict(student=dict(optimizer=dict(student), **more), fusion=dict(optimizer=fusion))
    return build_optim_wrapper(model, dict(constructor='mmkd.StudentFusionConstructor', **cfg))


def batch(seed=0, size=5):
    """Rows, classes and numbers of samples."""
    numbers = torch.Generator().manual_seed(seed)
    return dict(
        inputs=dict(numeric=torch.randn(size, 6, generator=numbers)),
        labels=torch.randint(4, (size,), generator=numbers),
        index=torch.arange(size),
    )


def pair(seed=0):
    """A batch and a held-out one."""
    return dict(train=batch(seed), meta=batch(seed + 100, 7))


def state(model):
    """A copy of all parameters and buffers."""
    return copy.deepcopy(dict(model.state_dict()))


def moved(before, model, part):
    """Whether any tensor of a part changed; and that all of the part's tensors exist."""
    after = {name: each for name, each in model.state_dict().items() if name.startswith(part)}
    assert after
    return any(not torch.equal(each, before[name]) for name, each in after.items())


@pytest.fixture
def pulls(monkeypatch):
    """All that the model gets to know about weights."""
    seen = []
    original = distiller.influence

    def noted(*args):
        found = original(*args)
        seen.append(torch.stack(found[0]))
        return found

    monkeypatch.setattr(distiller, 'influence', noted)
    return seen


# ------------------------------------------------------------------ without anything learned


def test_constant_weights_are_a_plain_loop_bit_for_bit():
    model = made(ConstantWeighter(0.7), student=Normed)
    student, teacher = copy.deepcopy(model.student), copy.deepcopy(model.teacher.network)
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(SGD)))
    ours = torch.optim.SGD(student.parameters(), **{k: v for k, v in SGD.items() if k != 'type'})
    torch.manual_seed(3)
    logs = [model.train_step(batch(n), wrapper) for n in range(4)]
    torch.manual_seed(3)
    for number, log in enumerate(logs):
        x, y = batch(number)['inputs']['numeric'], batch(number)['labels']
        z = student(x).logits
        with torch.no_grad():
            target = (teacher(x).logits / 3).log_softmax(1)
        kd = F.kl_div((z / 3).log_softmax(1), target, reduction='none', log_target=True).sum(1)
        ce = F.cross_entropy(z, y, reduction='none')
        loss = (0.7 * (9 * kd)).mean() + ((1 - 0.7) * ce).mean()
        ours.zero_grad()
        loss.backward()
        ours.step()
        assert log['loss'].item() == loss.item()
        assert log['kd/weight'].item() == pytest.approx(0.7)
        assert 0 <= log['kd/teacher_accuracy'] <= 1
    assert_same_state(state(model.student), state(student))
    assert_same_state(wrapper.optimizer.state_dict(), ours.state_dict())


def test_the_meta_loops_batches_do_for_constant_weights():
    found = []
    for data in (batch(), dict(train=batch(), meta=batch(1))):
        model = made(ConstantWeighter())
        assert not model.own_step
        model.train_step(data, build_optim_wrapper(model, dict(optimizer=dict(SGD))))
        found.append(state(model))
    assert_same_state(*found)


def test_the_teacher_is_no_part_of_the_model():
    teacher = mlp(12)
    teacher.stage1.append(nn.Dropout(0.5))
    model = made(teacher=teacher)
    before, wrapper = state(teacher), optimizers(model)
    assert not any('teacher' in name for name in model.state_dict())
    known = {id(p) for w in wrapper.values() for g in w.optimizer.param_groups for p in g['params']}
    assert not known & {id(each) for each in teacher.parameters()}
    for number in range(3):
        model.train()
        model.train_step(pair(number), wrapper)
    assert not any(each.training for each in teacher.modules())
    assert all(each.grad is None and not each.requires_grad for each in teacher.parameters())
    assert_same_state(before, state(teacher))


def test_modes_of_a_pass():
    model = made()
    data = batch()
    losses = model(**data, mode='loss')
    assert {'loss_distillation', 'loss_labels', 'kd/weight'} < set(losses)
    logits = model.student(**data['inputs']).logits
    assert torch.equal(model(data['inputs']), logits)
    found = model(**data, mode='predict')
    assert torch.equal(torch.stack([each['logits'] for each in found]), logits)
    assert [int(each['label']) for each in found] == data['labels'].tolist()


# ------------------------------------------------------------------ learned weights


@pytest.mark.parametrize('solver', [*SOLVERS, 'direct'])
@pytest.mark.parametrize('weighter', [TGeoKD(4), FreeRatio(7, 'meta')], ids=['tgeo', 'free'])
def test_one_held_out_batch_moves_the_weighter(weighter, solver):
    model = made(copy.deepcopy(weighter), solver=solver)
    wrapper, before = optimizers(model), state(model)
    log = model.train_step(dict(train=batch(), meta=None), wrapper)
    assert moved(before, model, 'student') and not moved(before, model, 'weighter')
    assert 'kd/held_out_loss' not in log
    model.weighing = False
    log = model.train_step(pair(), wrapper)
    assert not moved(before, model, 'weighter') and log['kd/weight'].item() == 0.5
    model.weighing = True
    log = model.train_step(pair(), wrapper)
    assert moved(before, model, 'weighter') and log['kd/held_out_loss'].isfinite()
    assert all(each.grad is None for each in model.parameters())
    assert all(each.isfinite().all() for each in model.state_dict().values())


def test_exact_and_unrolled_train_the_same_network():
    found = {}
    for solver in ('exact', 'unroll', 'finite_difference', 'last_layer'):
        model = made(solver=solver, student=Normed)
        wrapper = optimizers(model, fusion=dict(type='SGD', lr=10.0))
        torch.manual_seed(4)
        for number in range(3):
            model.train_step(pair(number), wrapper)
        found[solver] = torch.cat([each.flatten() for each in model.weighter.parameters()]).detach()
    start = torch.cat([each.flatten() for each in made(student=Normed).weighter.parameters()])
    way = found['exact'] - start
    assert (found['unroll'] - found['exact']).norm() < 1e-3 * way.norm()
    assert (found['finite_difference'] - found['exact']).norm() < 0.1 * way.norm()
    assert (found['last_layer'] - found['exact']).norm() > 1e-3 * way.norm()


def test_never_learned():
    model = made(TGeoKD(4, learned=None))
    wrapper, before = optimizers(model), state(model)
    log = model.train_step(pair(), wrapper)
    assert moved(before, model, 'student') and not moved(before, model, 'weighter')
    assert abs(log['kd/weight'].item() - 0.5) > 1e-4 and 'kd/held_out_loss' not in log


@pytest.mark.parametrize('weighter', [TGeoKD(4, learned='training'), FreeRatio(7)])
def test_learned_by_the_training_loss(weighter):
    model = made(copy.deepcopy(weighter))
    rate = dict(type='SGD', lr=0.5)
    twin, wrapper, before = copy.deepcopy(model), optimizers(model, fusion=rate), state(model)
    model.train_step(dict(train=batch(), meta=None), wrapper)
    k = twin.knowledge(**batch())
    twin.parse_losses(twin.losses_of(k, twin.weights(k)))[0].backward()
    for mine, other in zip(model.weighter.parameters(), twin.weighter.parameters(), strict=True):
        assert torch.allclose(mine, other - 0.5 * other.grad, atol=1e-7)
    assert moved(before, model, 'weighter')
    now = state(model)
    model.weighing = False
    model.train_step(dict(train=batch(), meta=None), wrapper)
    assert not moved(now, model, 'weighter')


def test_direct_lets_the_ratio_choose_the_smaller_loss_of_held_out_samples():
    model = made(solver='direct')
    twin = copy.deepcopy(model)
    log = model.train_step(pair(), optimizers(model, fusion=dict(type='SGD', lr=0.5)))
    assert log['kd/weight'].item() == 0.5  # the student's own share
    twin.weighing = False
    k = twin.knowledge(**pair()['meta'])
    ratio = twin.weighter(k)[0]
    z, t = k.student.detach(), k.temperature
    kd = t**2 * F.kl_div((z / t).log_softmax(1), (k.teacher / t).softmax(1), reduction='none')
    ce = F.cross_entropy(z, k.labels, reduction='none')
    (ratio * kd.sum(1) + (1 - ratio) * ce).mean().backward()
    for mine, other in zip(model.weighter.parameters(), twin.weighter.parameters(), strict=True):
        assert torch.allclose(mine, other - 0.5 * other.grad, atol=1e-6)


@pytest.mark.parametrize('solver', [*SOLVERS, 'direct'])
def test_a_held_out_batch_leaves_the_students_step_as_it_is(solver):
    found = []
    for meta in (None, batch(100, 7)):
        model = made(solver=solver, student=Normed)
        wrapper = optimizers(model)
        torch.manual_seed(5)
        model.train_step(dict(train=batch(), meta=meta), wrapper)
        found.append((state(model.student), wrapper['student'].state_dict(), rng_state()))
        assert model.student.stage1[1].num_batches_tracked == 1
    if solver == 'direct':  # its pass draws masks of its own
        found = [each[:2] for each in found]
    assert_same_state(*map(list, found))


# ------------------------------------------------------------------ against real steps


def reference(model, wrapper, kind, options, factor):
    """Pulls ``(2, B)`` by differences of real steps in 64 bits, with its further losses."""
    data, other = pair()['train'], pair()['meta']
    k = model.knowledge(**data)
    weights = torch.stack(model.weights(k)).detach().double()
    theirs = {name: each.double() for name, each in k.teacher_features.items()}
    saved = copy.deepcopy(wrapper['student'].state_dict())
    order = {id(p): n for n, p in enumerate(model.parameters())}
    groups = wrapper['student'].optimizer.param_groups

    def held_out(weights):
        twin = copy.deepcopy(model).double()
        params = list(twin.parameters())
        own = [dict(g, params=[params[order[id(p)]] for p in g['params']]) for g in groups]
        optimizer = kind(own, **options)
        optimizer.load_state_dict(copy.deepcopy(saved))
        with twin._recorders[0].recording() as mine:
            z = twin.student(data['inputs']['numeric'].double()).logits
        t = k.temperature
        soft = F.kl_div(
            (z / t).log_softmax(1), (k.teacher / t).double().softmax(1), reduction='none'
        )
        hard = F.cross_entropy(z, data['labels'], reduction='none')
        loss = (weights[0] * t**2 * soft.sum(1) + weights[1] * hard).mean()
        if twin.losses:
            hint = twin.losses[0].connector(mine['stage1'])
            loss = loss + 2.0 * F.mse_loss(hint, theirs['stage1'])
        loss.backward()
        for each in twin.student.parameters():
            each.grad *= factor
        optimizer.step()
        z = twin.student(other['inputs']['numeric'].double()).logits
        return F.cross_entropy(z, other['labels']).item()

    found = torch.empty_like(weights)
    for place in range(found.numel()):
        shift = torch.zeros_like(found)
        shift.view(-1)[place] = 1e-3
        ends = [held_out(weights + sign * shift) for sign in (1, -1)]
        found.view(-1)[place] = (ends[0] - ends[1]) / 2e-3
    return found


def close(found, expected):
    """Up to single precision."""
    return (found - expected).norm() < 2e-3 * expected.norm()


@pytest.mark.parametrize('clip', [None, dict(max_norm=1e6), dict(max_norm=0.05)])
@pytest.mark.parametrize('hints', [False, True])
def test_pulls_are_those_of_real_steps(hints, clip, pulls, monkeypatch):
    losses = [FitNet('stage1', 'stage1', LinearConnector(8, 12), weight=2.0)] if hints else []
    model = made(losses=losses)
    wrapper = optimizers(model, clip_grad=clip)
    for number in (7, 8):
        model.train_step(dict(train=batch(number), meta=None), wrapper)
    k = model.knowledge(**pair()['train'])
    total = model.parse_losses(model.losses_of(k, model.weights(k)))[0]
    own = [p for g in wrapper['student'].optimizer.param_groups for p in g['params']]
    norm = torch.stack([each.norm() for each in torch.autograd.grad(total, own)]).norm()
    factor = min(1.0, 0.05 / norm.item()) if clip and clip['max_norm'] < 1 else 1.0
    assert (factor < 0.5) == bool(clip and clip['max_norm'] < 1)
    options = {name: value for name, value in SGD.items() if name != 'type'}
    expected = reference(model, wrapper, torch.optim.SGD, options, factor)
    model.train_step(pair(), wrapper)
    assert close(pulls[0].double(), expected)


@pytest.mark.parametrize('solver', ['exact', 'unroll', 'last_layer'])
def test_groups_of_parameters_in_another_order(solver, pulls):
    model = made(solver=solver)
    wrapper = optimizers(model, ADAMW, paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0))
    own = wrapper['student'].optimizer
    assert len(own.param_groups) == 2
    if solver == 'last_layer':
        model.student.stage1.requires_grad_(False)
        model.student.stage1[0].weight.requires_grad_(False)
        wrapper = optimizers(model, ADAMW, paramwise_cfg=dict(bias_decay_mult=0.0))
    for number in (7, 8):
        model.train_step(dict(train=batch(number), meta=None), wrapper)
    if solver == 'last_layer':
        twin = copy.deepcopy(model)
        twin.solver = 'exact'
        other = optimizers(twin, ADAMW, paramwise_cfg=dict(bias_decay_mult=0.0))
        other['student'].load_state_dict(copy.deepcopy(wrapper['student'].state_dict()))
        twin.train_step(pair(), other)
        expected = pulls.pop().double()
    else:
        options = {name: value for name, value in ADAMW.items() if name != 'type'}
        expected = reference(model, wrapper, torch.optim.AdamW, options, 1.0)
    model.train_step(pair(), wrapper)
    assert close(pulls[0].double(), expected)


def test_hints_reach_the_connector_and_the_student(pulls):
    model = made(losses=[FitNet('stage1', 'stage1', LinearConnector(8, 12), weight=2.0)])
    wrapper, before = optimizers(model), state(model)
    k = model.knowledge(**batch())
    assert k.student_features['stage1'].shape == (5, 8)
    assert k.teacher_features['stage1'].shape == (5, 12)
    logs = [model.train_step(pair(), wrapper) for _ in range(30)]
    assert moved(before, model, 'losses.0.connector')
    assert logs[-1]['loss_fitnet'] < 0.5 * logs[0]['loss_fitnet']
    assert len(pulls) == 30


# ------------------------------------------------------------------ what it is for


class WrongSometimes(nn.Module):
    """Knows the centres, but is sure of the next class where the last number is large."""

    def __init__(self, centres):
        super().__init__()
        self.centres = nn.Parameter(centres)

    def forward(self, numeric):
        """Logits."""
        near = -torch.cdist(numeric[:, :-1], self.centres)
        wrong = (numeric[:, -1:] > 0.8).float()
        return Classified(3 * (wrong * near.roll(1, 1) + (1 - wrong) * near))


def blobs(seed, size=128):
    """Four clouds of points, and a number that says nothing of the class."""
    numbers = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (size,), generator=numbers)
    points = 3 * torch.eye(5)[labels] + torch.randn(size, 5, generator=numbers)
    extra = torch.randn(size, 1, generator=numbers)
    return dict(inputs=dict(numeric=torch.cat([points, extra], 1)), labels=labels)


def test_a_teacher_that_is_wrong_is_pulled_away_from(pulls):
    teacher = WrongSometimes(3 * torch.eye(5)[:4])
    model = made(student=lambda: mlp(16), teacher=teacher, start_ratio=0.5)
    wrapper = optimizers(model)
    model.weighing = False
    for number in range(15):
        model.train_step(dict(train=blobs(number), meta=None), wrapper)
    model.weighing = True
    wrong = []
    for number in range(15, 25):
        data = blobs(number)
        wrong.append(teacher(**data['inputs']).logits.argmax(1) != data['labels'])
        log = model.train_step(dict(train=data, meta=blobs(1000 + number)), wrapper)
        assert 0 <= log['kd/share_rising'] <= 1
    bad, pull = torch.cat(wrong), torch.cat([each[0] - each[1] for each in pulls])
    assert 0.1 < bad.float().mean() < 0.5
    # a positive gradient lowers the ratio
    assert pull[bad].mean() > 0 and pull[bad].mean() > pull[~bad].mean()
    assert (pull[bad] > 0).float().mean() > 0.6


# ------------------------------------------------------------------ messages


class Wide(SampleWeighter):
    """Weights that are one number per sample in a row each."""

    needs_class_mean = True

    def forward(self, k):
        """Of the wrong shape."""
        ratio = torch.full((len(k.labels), 1), 0.5)
        return ratio, 1 - ratio


def test_settings_are_checked():
    for options, message in (
        (dict(solver='neumann'), r"solver must be one of \['exact', .*'direct'\], got 'neumann'"),
        (dict(temperature=0), 'temperature must be above 0, got 0'),
        (dict(weighter=Wide()), 'Wide needs num_classes of Distiller'),
        (dict(losses=[FitNet('stage9', 'stage1')]), "has no module 'stage9'"),
    ):
        with pytest.raises(UserError, match=message):
            made(**options)


def test_batches_are_checked():
    model = made()
    data = batch()
    with pytest.raises(UserError, match='the batch has no labels: give the data set of train_data'):
        model.knowledge(data['inputs'], None)
    for value in (-1, 4):
        labels = data['labels'].clone()
        labels[2] = value
        with pytest.raises(UserError, match=rf'in \[0, 3\].* 4 classes; found {value}'):
            model.knowledge(data['inputs'], labels)
        other = dict(train=data, meta=dict(data, labels=labels))
        with pytest.raises(UserError, match=rf'found {value}'):
            model.train_step(other, optimizers(model))
    with pytest.raises(UserError, match='the student has 4 classes and the teacher 5'):
        made(teacher=mlp(12, 5)).knowledge(**data)
    model.progress = None
    with pytest.raises(UserError, match=r"add dict\(type='mmkd\.DistillationHook'\)"):
        model.knowledge(**data)
    assert model.eval().knowledge(**data).progress == 0
    with pytest.raises(UserError, match=r'distillation from Wide must have the shape \(5,\), got'):
        made(Wide(), num_classes=4)(**data, mode='loss')


def test_optimizers_are_checked():
    model = made()
    plain = build_optim_wrapper(model, dict(optimizer=dict(SGD)))
    with pytest.raises(UserError, match=r'TGeoKD has parameters.*mmkd\.StudentFusionConstructor'):
        model.train_step(pair(), plain)
    with pytest.raises(UserError, match=r'optim_wrapper\.student\.accumulative_counts must be 1'):
        model.train_step(pair(), optimizers(model, accumulative_counts=2))
    by_value = optimizers(model, clip_grad=dict(type='value', clip_value=0.1))
    with pytest.raises(UserError, match=r"clip_grad: learned weights .*its type to 'norm'"):
        model.train_step(pair(), by_value)
    with pytest.raises(UserError, match='RMSprop'):
        model.train_step(pair(), optimizers(model, dict(type='RMSprop', lr=0.1)))
    with pytest.raises(UserError, match='ConstantWeighter has nothing to learn'):
        optimizers(made(ConstantWeighter()))
