"""Mixed precision: a step with learned ratios as ``tools/train.py --amp`` sets it up."""

import copy
from functools import partial

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper

import mmkd.components  # noqa: F401
from mmdistill.core.launch import set_amp
from mmkd.distillation import distiller
from mmkd.distillation.connectors import LinearConnector
from mmkd.distillation.distiller import Distiller
from mmkd.distillation.hypergradient import SOLVERS
from mmkd.distillation.losses.fitnet import FitNet
from mmkd.distillation.weighters.tgeo_kd import TGeoKD
from mmkd.models.tabular import TabularMLP

SGD = dict(type='SGD', lr=0.1, momentum=0.9)
ADAMW = dict(type='AdamW', lr=0.01, weight_decay=0.1, eps=1e-3)
FEATURES, CLASSES = 6, 4


def made(**options):
    """A model in the middle of a training."""
    torch.manual_seed(0)
    student = TabularMLP(FEATURES, (16,), CLASSES, 'Tanh')
    teacher = TabularMLP(FEATURES, (24,), CLASSES, 'Tanh')
    model = Distiller(student, teacher, TGeoKD(CLASSES), temperature=3.0, **options).train()
    model.progress = 0.5
    return model


def batch(seed, size=32):
    """Rows and classes."""
    numbers = torch.Generator().manual_seed(seed)
    rows = torch.randn(size, FEATURES, generator=numbers)
    return dict(
        inputs=dict(numeric=rows), labels=torch.randint(CLASSES, (size,), generator=numbers)
    )


def pair(seed=0):
    """A batch and a held-out one."""
    return dict(train=batch(seed), meta=batch(seed + 100))


@pytest.fixture
def amp(monkeypatch):
    """Optimizers of a model after ``--amp``, whose wrapper takes the CPU for a GPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    scaler = partial(torch.amp.GradScaler, 'cpu')
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)

    def make(model, optimizer=SGD, mixed=True, loss_scale=None, **more):
        cfg = Config(dict(optim_wrapper=dict(
            constructor='mmkd.StudentFusionConstructor',
            student=dict(optimizer=optimizer, **more),
            fusion=dict(optimizer=dict(type='Adam', lr=0.01)),
        )))  # fmt: skip
        if mixed:
            with monkeypatch.context() as patch:
                patch.setattr(torch.cuda, 'is_available', lambda: True)
                set_amp(cfg)
        if loss_scale is not None:
            cfg.optim_wrapper.loss_scale = dict(init_scale=loss_scale)
        return build_optim_wrapper(model, cfg.optim_wrapper)

    return make


@pytest.fixture
def seen(monkeypatch):
    """Pulls ``(2, B)``, ratios and logits of all steps."""
    found = dict(pulls=[], ratios=[], logits=[])
    influence, losses_of = distiller.influence, Distiller.losses_of

    def pulls(*args):
        result = influence(*args)
        found['pulls'].append(torch.stack(result[0]))
        return result

    def losses(self, k, weights):
        found['ratios'].append(weights[0])
        found['logits'].append(k.student)
        return losses_of(self, k, weights)

    monkeypatch.setattr(distiller, 'influence', pulls)
    monkeypatch.setattr(Distiller, 'losses_of', losses)
    return found


def flat(module):
    """All parameters in one row."""
    return torch.cat([each.detach().flatten() for each in module.parameters()])


def cosine(first, second):
    """Of two tensors of any shape."""
    return torch.cosine_similarity(first.flatten(), second.flatten(), 0).item()


def test_the_student_is_mixed_and_the_ratio_network_is_not(amp):
    wrapper = amp(made())
    assert type(wrapper['student']) is AmpOptimWrapper and wrapper['student'].loss_scaler
    assert wrapper['student'].loss_scaler.is_enabled()
    assert type(wrapper['fusion']) is OptimWrapper


@pytest.mark.parametrize('hints', [False, True])
@pytest.mark.parametrize('solver', [*SOLVERS, 'direct'])
def test_a_step_counts_losses_and_ratios_in_single_precision(solver, hints, amp, seen):
    losses = [FitNet('stage1', 'stage1', LinearConnector(16, 24))] if hints else []
    model = made(solver=solver, losses=losses)
    wrapper, parts = amp(model), [model.student, model.weighter, *model.losses]
    before = [copy.deepcopy(each) for each in parts]
    log = model.train_step(pair(), wrapper)
    assert seen['logits'][0].dtype == torch.bfloat16
    for each in (*log.values(), *seen['ratios'], *seen['pulls'], flat(model)):
        assert each.dtype == torch.float32 and each.isfinite().all()
    assert len(seen['pulls']) == (solver != 'direct')
    for part, old in zip(parts, before, strict=True):
        assert not torch.equal(flat(part), flat(old))
    assert all(each.grad is None for each in model.parameters())


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.05)])
@pytest.mark.parametrize('optimizer', [SGD, ADAMW])
@pytest.mark.parametrize('solver', list(SOLVERS))
def test_pulls_are_those_of_single_precision(solver, optimizer, clip, amp, seen):
    for mixed in (False, True):
        model = made(solver=solver)
        wrapper = amp(model, optimizer, mixed, clip_grad=clip)
        for number in (7, 8):
            model.train_step(dict(train=batch(number), meta=None), wrapper)
        before = flat(model.weighter)
        model.train_step(pair(), wrapper)
        assert not torch.equal(flat(model.weighter), before)
    single, half = seen['pulls']
    assert not torch.equal(single, half)
    assert cosine(single, half) > 0.98 and 0.9 < half.norm() / single.norm() < 1.1


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.05)])
@pytest.mark.parametrize('learned', ['meta', 'training'])
def test_the_loss_scale_cancels(learned, clip, amp):
    found = []
    for scale in (1.0, 2.0**14):
        model = made()
        model.weighter.learned = learned
        wrapper = amp(model, loss_scale=scale, clip_grad=clip)
        for number in range(3):
            model.train_step(pair(number), wrapper)
        found.append(torch.cat([flat(model.student), flat(model.weighter)]))
    assert torch.allclose(*found, rtol=1e-4, atol=1e-6)


def spoil(model, place):
    """Lets something overflow: logits, their gradient, or one number of a parameter's gradient."""
    if place == 'weight':
        weight = model.student.stage1[0].weight
        mask = torch.zeros_like(weight)
        mask[0, 0] = torch.inf
        return weight.register_hook(lambda grad: grad + mask)

    def hook(module, args, output):
        if place == 'logits':
            return output * torch.inf
        if output.requires_grad:
            output.register_hook(lambda grad: grad * torch.inf)
        return output

    return model.student.head.register_forward_hook(hook)


@pytest.mark.parametrize('optimizer', [SGD, ADAMW])
@pytest.mark.parametrize('place', ['logits', 'gradient', 'weight'])
@pytest.mark.parametrize('learned', ['meta', 'training'])
def test_a_step_that_overflows_spoils_nothing(learned, place, optimizer, amp):
    model = made()
    model.weighter.learned = learned
    wrapper = amp(model, optimizer, loss_scale=4.0)
    before, ratio = flat(model.student), flat(model.weighter)
    handle = spoil(model, place)
    model.train_step(pair(), wrapper)
    handle.remove()
    assert torch.equal(flat(model.student), before)
    assert wrapper['student'].loss_scaler.get_scale() == 2.0
    if learned == 'meta' or place == 'logits':
        assert torch.equal(flat(model.weighter), ratio)
    log = model.train_step(pair(1), wrapper)
    assert log['loss'].isfinite() and flat(model).isfinite().all()
    assert not torch.equal(flat(model.student), before)
    assert not torch.equal(flat(model.weighter), ratio)
