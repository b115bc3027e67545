"""Laws of a distillation: how it begins, what a step does, and what leaves it as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmkd.matching.initial import expert_logits, hard_logits, mean_correct_logits
from mmkd.matching.segments import SegmentDataset
from mmkd.matching.synthetic import TrajectoryMatching
from mmkd.matching.trajectory_matching import draw_plan
from mmkd.registry import MODELS

CLASSES, IPC, STEPS, BATCH = 3, 2, 4, 4
CONFIG = Path(__file__).parents[2] / 'configs/_base_/matching.py'
DSA = dict(type='mmkd.DSA', families='color_crop_scale')
RATES = dict(
    images=dict(lr=100.0, momentum=0.5),
    label_logits=dict(lr=2.0, momentum=0.9),
    inner_lr=dict(lr=1e-5, momentum=0.5),
)
NAMES = tuple(RATES)
Make = Callable[..., TrajectoryMatching]


@pytest.fixture
def make(learned: SimpleNamespace) -> Make:
    """Builds a distillation that has begun."""

    def build(begin: bool = True, **settings: object) -> TrajectoryMatching:
        """With other settings than these."""
        options = dict(
            type='mmkd.TrajectoryMatching',
            network=learned.network,
            experts=learned.folder,
            source=learned.source,
            image_size=(8, 8),
            in_channels=1,
            num_classes=CLASSES,
            ipc=IPC,
            steps=STEPS,
            batch=BATCH,
            inner_lr=0.05,
            threshold=None,
        )
        model = MODELS.build({**options, **settings})
        if begin:
            model.init_weights()
        return model

    return build


def optimizer(model: TrajectoryMatching, **rates: dict) -> object:
    """As mmengine makes it of the config, with other options for some tensors."""
    config = Config.fromfile(CONFIG).optim_wrapper
    config.paramwise_cfg.custom_keys.update(rates)
    return build_optim_wrapper(model, config)


def segment(learned: SimpleNamespace, position: int) -> dict:
    """An item of the data set, in float64."""
    item = SegmentDataset(learned.folder, 100, 0, 4)[position]
    return {**item, 'start': item['start'].double(), 'target': item['target'].double()}


def snapshot(model: TrajectoryMatching, wrapper: object) -> list[Tensor]:
    """Copies of all parameters, then of their momentum."""
    params = [getattr(model, name).detach().clone() for name in NAMES]
    state = wrapper.optimizer.state
    moved = [state[getattr(model, name)].get('momentum_buffer') for name in NAMES]
    return params + [torch.zeros(0) if each is None else each.clone() for each in moved]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    """Bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def written_out(
    model: TrajectoryMatching, item: dict, values: dict[str, Tensor], classes: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of a segment by backpropagation; ``classes``: cross entropy of classes."""
    leaves = {name: each.clone().requires_grad_() for name, each in values.items()}
    draw = key_generator(model.seed, 1, item['position'])
    size = values['images'].shape[-2:]
    plan = draw_plan(len(values['images']), model.batch, model.steps, draw, model.augment, size)
    theta = item['start'].clone().requires_grad_()
    for step in plan:
        seen = leaves['images'][step.rows]
        if step.record is not None:
            seen = model.augment(seen, step.record)
        named = model.flat.named(theta)
        logits = torch.func.functional_call(model.flat.network, named, (seen,)).logits
        labels = model.hard_labels[step.rows]
        if not classes:
            labels = leaves['label_logits'][step.rows].softmax(-1)
        loss = F.cross_entropy(logits, labels)
        theta = theta - leaves['inner_lr'] * torch.autograd.grad(loss, theta, create_graph=True)[0]
    apart = ((item['start'] - item['target']) ** 2).sum()
    loss = ((theta - item['target']) ** 2).sum() / apart
    found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return loss.detach(), dict(zip(leaves, found, strict=True))


@pytest.mark.parametrize('labels', ['mean_correct', 'first', 'hard'])
@pytest.mark.parametrize('images', ['correct', 'real', 'noise'])
def test_beginnings(images: str, labels: str, make: Make, learned: SimpleNamespace) -> None:
    if (images, labels) == ('noise', 'mean_correct'):
        with pytest.raises(UserError, match='no expert is right about .* of 6 images'):
            make(init_images=images, init_labels=labels)
        return
    model = make(init_images=images, init_labels=labels)
    flat, store, wanted = model.flat, model.open_store(), torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.equal(model.hard_labels, wanted)
    real = learned.data
    same = (model.images[:, None] == real.images[None]).flatten(2).all(-1)
    if images == 'noise':
        assert not same.any() and model.images.shape == (6, 1, 8, 8)
        assert abs(model.images.detach().mean()) < 0.2 and 0.9 < model.images.detach().std() < 1.1
    else:
        assert (same.sum(-1) == 1).all() and (same.sum(0) <= 1).all()
        assert torch.equal(real.labels[same.int().argmax(-1)], wanted)
    first = expert_logits(flat, store, 0, model.images.detach())
    if images == 'correct':
        assert torch.equal(first.argmax(-1), wanted)
    logits = dict(
        mean_correct=lambda: mean_correct_logits(flat, store, model.images.detach(), wanted),
        first=lambda: first,
        hard=lambda: hard_logits(wanted, CLASSES),
    )[labels]()
    assert torch.equal(model.label_logits, logits)
    assert model.inner_lr == torch.tensor(0.05)


@pytest.mark.parametrize('engine', ['adjoint', 'unroll'])
@pytest.mark.parametrize('augment', [None, DSA])
def test_steps_are_those_of_sgd_with_three_rates(
    augment: dict | None, engine: str, make: Make, learned: SimpleNamespace
) -> None:
    model = make(augment=augment, engine=engine).double()
    wrapper = optimizer(model)
    values = {name: getattr(model, name).detach().clone() for name in NAMES}
    moving: dict[str, Tensor] = {}
    for position in (3, 4, 5):
        item = segment(learned, position)
        loss, gradients = written_out(model, item, values)
        for name, gradient in gradients.items():
            before = RATES[name]['momentum'] * moving.get(name, torch.zeros_like(gradient))
            moving[name] = before + gradient
            values[name] = values[name] - RATES[name]['lr'] * moving[name]
        found = model.train_step(item, wrapper)
        torch.testing.assert_close(found['loss'], loss, rtol=1e-9, atol=0)
        assert found['skipped'] == 0 and found['epoch'] == item['epoch']
        assert torch.equal(found['inner_lr'], model.inner_lr)
        for name in NAMES:
            torch.testing.assert_close(
                getattr(model, name).detach(), values[name], rtol=1e-8, atol=1e-12
            )
    assert abs(float(values['inner_lr']) - 0.05) > 1e-7


def test_a_config_gives_each_tensor_its_rate_and_momentum(make: Make) -> None:
    model = make(begin=False)
    groups = {id(each['params'][0]): each for each in optimizer(model).optimizer.param_groups}
    assert len(groups) == 3
    for name, options in RATES.items():
        group = groups[id(getattr(model, name))]
        assert {key: group[key] for key in options} == options


@pytest.mark.parametrize('broken', ['threshold', 'start', 'target', 'gradient'])
def test_a_segment_that_teaches_nothing_changes_nothing(
    broken: str, make: Make, learned: SimpleNamespace
) -> None:
    model = make(threshold=1e6)
    wrapper = optimizer(model)
    data = SegmentDataset(learned.folder, 100, 0, 4)
    assert model.train_step(data[0], wrapper)['skipped'] == 0
    before, item = snapshot(model, wrapper), data[1]
    if broken == 'threshold':
        model.threshold = 1e-3
    elif broken == 'gradient':
        inner = model.matcher

        def spoilt(*args: object) -> object:
            found = inner(*args)
            found.images[0, 0, 0, 0] = torch.inf
            return found

        model.matcher = spoilt
    else:
        item[broken] = item[broken] * torch.nan
    found = model.train_step(item, wrapper)
    assert found['skipped'] == 1
    assert equal(snapshot(model, wrapper), before)
    assert all(each.grad is None for each in model.parameters())
    if broken == 'gradient':
        return
    model.threshold = 1e6
    assert model.train_step(data[2], wrapper)['skipped'] == 0
    assert not any(
        torch.equal(*pair) for pair in zip(snapshot(model, wrapper), before, strict=True)
    )


def test_alpha_stays_above_its_floor(make: Make, learned: SimpleNamespace) -> None:
    # students of this step overshoot, so that alpha falls
    model = make(inner_lr=2.0, min_inner_lr=0.04)
    wrapper = optimizer(model, inner_lr=dict(lr=1e4, momentum=0.5))
    found = model.train_step(SegmentDataset(learned.folder, 100, 0, 4)[0], wrapper)
    assert found['skipped'] == 0 and found['loss'] > 1
    assert model.inner_lr == found['inner_lr'] == torch.tensor(0.04)


@pytest.mark.parametrize('augment', [None, DSA])
def test_hard_labels_that_stay_are_mtt(
    augment: dict | None, make: Make, learned: SimpleNamespace
) -> None:
    model = make(init_labels='hard', learn_labels=False, augment=augment).double()
    wrapper = optimizer(model)
    labels = model.label_logits.detach().clone()
    for position in range(3):
        item = segment(learned, position)
        values = {name: getattr(model, name).detach().clone() for name in NAMES}
        loss, gradients = written_out(model, item, values, classes=True)
        seen: list = []
        inner = model.matcher
        model.matcher = lambda *args, inner=inner, seen=seen: seen.append(inner(*args)) or seen[0]
        found = model.train_step(item, wrapper)
        model.matcher = inner
        torch.testing.assert_close(found['loss'], loss, rtol=1e-9, atol=0)
        torch.testing.assert_close(seen[0].images, gradients['images'], rtol=1e-8, atol=1e-14)
        torch.testing.assert_close(seen[0].lr, gradients['inner_lr'], rtol=1e-8, atol=1e-14)
        assert torch.equal(model.label_logits, labels)
        assert not torch.equal(model.images, values['images'])


def test_alpha_that_is_not_learned_stays(make: Make, learned: SimpleNamespace) -> None:
    model = make(learn_lr=False)
    wrapper, before = optimizer(model), model.images.detach().clone()
    model.train_step(SegmentDataset(learned.folder, 100, 0, 4)[0], wrapper)
    assert model.inner_lr == torch.tensor(0.05) and not torch.equal(model.images, before)


@pytest.mark.parametrize('learned_too', [True, False])
def test_a_checkpoint_has_what_is_learned_and_nothing_else(learned_too: bool, make: Make) -> None:
    model = make(augment=DSA, learn_labels=learned_too, learn_lr=learned_too)
    assert set(model.state_dict()) == {'images', 'label_logits', 'inner_lr', 'hard_labels'}
    assert len(list(model.parameters())) == (3 if learned_too else 1)
    other = make(seed=1)
    assert not torch.equal(other.images, model.images)
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(getattr(other, name), getattr(model, name)) for name in NAMES)


def test_the_seed_decides_everything(make: Make, learned: SimpleNamespace) -> None:
    def run(seed: int, start: int = 0) -> list[Tensor]:
        torch.manual_seed(start)
        state = torch.get_rng_state()
        model = make(seed=seed, augment=DSA)
        wrapper, data = optimizer(model), SegmentDataset(learned.folder, 100, 0, 4)
        for position in range(3):
            model.train_step(data[position], wrapper)
        assert torch.equal(torch.get_rng_state(), state)
        return snapshot(model, wrapper)

    one = run(0)
    assert equal(run(0, start=5), one)
    assert not any(torch.equal(*pair) for pair in zip(run(1), one, strict=True))
