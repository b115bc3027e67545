"""Laws of networks that are trained from scratch: their schedule, and what they leave alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmkd.components  # noqa: F401
from mmdistill.core.rng import key_generator
from mmkd.augment.dsa import DSA
from mmkd.evaluation.from_scratch import FromScratch, accuracy, spread
from mmkd.matching.initial import hard_logits
from mmkd.models.timm_classifier import Classified

CLASSES, RATE = 3, 0.3
NETWORK = dict(
    type='mmkd.CondensationNet',
    name='MLP',
    width=4,
    num_classes=CLASSES,
    image_size=8,
    in_channels=1,
)


def drawn(count: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and logits of labels that are learned."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 8, 8, generator=draw).requires_grad_()
    return images, (2 * torch.randn(count, CLASSES, generator=draw)).requires_grad_()


def values(network: nn.Module) -> Tensor:
    """All parameters."""
    return torch.cat([each.detach().reshape(-1) for each in network.parameters()])


@pytest.mark.parametrize(
    ('epochs', 'before', 'after'), [(1000, 502, 499), (300, 152, 149), (3, 3, 1), (1, 2, 0)]
)
def test_rates(epochs: int, before: int, after: int) -> None:
    found = FromScratch(epochs=epochs).rates(RATE)
    assert found == [RATE] * before + [pytest.approx(RATE / 10)] * after


def written_out(
    how: FromScratch, images: Tensor, labels: Tensor, run: int, anew: bool = True
) -> Tensor:
    """Parameters of a training in float64 without an optimizer; ``anew``: momentum at the drop."""
    network = how.build(NETWORK, run, 'cpu').double()
    draw = key_generator(how.seed, run, 1)
    images, labels = images.detach(), labels.detach().double()
    params = list(network.parameters())
    speeds: list[Tensor | None] = [None] * len(params)
    for epoch in range(how.epochs + 1):
        late = epoch > how.epochs // 2 + 1
        if anew and epoch == how.epochs // 2 + 2:
            speeds = [None] * len(params)
        for rows in torch.randperm(len(images), generator=draw).split(how.batch_size):
            seen = images[rows]
            if how.augment is not None:
                seen = how.augment(seen, how.augment.draw(len(rows), (8, 8), draw))
            logits = network(pixel_values=seen.double()).logits
            loss = F.cross_entropy(logits, labels[rows].softmax(-1))
            slopes = torch.autograd.grad(loss, params)
            with torch.no_grad():
                for number, (each, slope) in enumerate(zip(params, slopes, strict=True)):
                    slope = slope + how.weight_decay * each
                    speed = speeds[number]
                    speeds[number] = slope if speed is None else how.momentum * speed + slope
                    each -= (RATE / 10 if late else RATE) * speeds[number]
    return values(network)


@pytest.mark.parametrize('augment', [None, DSA(families='color_scale')])
@pytest.mark.parametrize('batch', [3, 100])
def test_training_written_out(batch: int, augment: DSA | None) -> None:
    how = FromScratch(epochs=6, batch_size=batch, weight_decay=0.01, augment=augment, seed=4)
    images, labels = drawn()
    found = values(how.train(NETWORK, images, labels, RATE, run=2)).double()
    torch.testing.assert_close(found, written_out(how, images, labels, 2), rtol=0, atol=2e-5)
    carried = written_out(how, images, labels, 2, anew=False)
    assert (found - carried).abs().max() > 1e-3


def test_defaults_are_those_of_the_protocol() -> None:
    found = dataclasses.asdict(FromScratch())
    wanted = dict(epochs=1000, batch_size=128, momentum=0.9, weight_decay=5e-4)
    assert {key: found[key] for key in wanted} == wanted


def test_networks_are_fresh_and_a_function_of_seed_and_run() -> None:
    how = FromScratch(epochs=2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = values(how.build(NETWORK, 0, 'cpu'))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert torch.equal(values(how.build(NETWORK, 0, 'cpu')), one)
    others = [how.build(NETWORK, 1, 'cpu'), FromScratch(seed=1).build(NETWORK, 0, 'cpu')]
    assert not any((values(each) == one).any() for each in others)


def test_training_twice_is_the_same_and_changes_nothing_given() -> None:
    how = FromScratch(epochs=4, batch_size=3, augment=DSA())
    images, labels = drawn()
    before = images.detach().clone(), labels.detach().clone()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with torch.no_grad():
        one = how.train(NETWORK, images, labels, RATE)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before[0]) and torch.equal(labels, before[1])
    assert images.grad is None and labels.grad is None and images.requires_grad
    torch.manual_seed(5)
    assert torch.equal(values(how.train(NETWORK, images, labels, RATE)), values(one))
    other = how.train(NETWORK, images, labels, RATE, run=1)
    assert not (values(other) == values(one)).any()
    assert not one.training and not torch.equal(values(one), values(how.build(NETWORK, 0, 'cpu')))


def test_other_epochs() -> None:
    images, labels = drawn()
    short = FromScratch(epochs=2).train(NETWORK, images, labels, RATE)
    found = FromScratch(epochs=9).train(NETWORK, images, labels, RATE, epochs=2)
    assert torch.equal(values(found), values(short))


def test_patterns_are_learned() -> None:
    draw = torch.Generator().manual_seed(0)
    patterns = torch.randn(CLASSES, 1, 8, 8, generator=draw)
    labels = torch.arange(60) % CLASSES
    images = patterns[labels] + 0.3 * torch.randn(60, 1, 8, 8, generator=draw)
    how = FromScratch(epochs=60, batch_size=3)
    wide = dict(NETWORK, width=16)
    network = how.train(wide, patterns, hard_logits(torch.arange(CLASSES), CLASSES), 0.05)
    assert accuracy(network, images, labels) > 95
    assert accuracy(how.build(wide, 0, 'cpu'), images, labels) < 80


class Reader(nn.Module):
    """Answers what the first pixel says."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.sizes: list[int] = []

    def forward(self, pixel_values: Tensor) -> Classified:
        """Logits."""
        self.sizes.append(len(pixel_values))
        return Classified(self.scale * F.one_hot(pixel_values[:, 0, 0, 0].long(), CLASSES).float())


@pytest.mark.parametrize('batch', [1, 3, 1000])
def test_accuracy_by_hand(batch: int) -> None:
    said, labels = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1]), torch.tensor([0, 1, 2, 2, 0, 1, 2, 0])
    images = said.float().view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    reader = Reader()
    found = accuracy(reader, images, labels, batch)
    assert type(found) is float and found == 62.5
    assert max(reader.sizes) == min(batch, 8) and sum(reader.sizes) == 8


def test_spread_by_hand() -> None:
    assert spread([70.0, 72.0, 74.0, 76.0]) == (73.0, pytest.approx((20 / 3) ** 0.5))
    assert spread([71.5]) == (71.5, 0.0)
    assert spread([60.0] * 3) == (60.0, 0.0)
