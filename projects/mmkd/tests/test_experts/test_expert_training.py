"""Epochs of experts: a plain loop, numbers that depend on their place alone, one as many."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator, stable_seed
from mmdistill.testing import assert_same_state
from mmkd.experts import gsam
from mmkd.experts.training import ExpertRecipe, ExpertTrainer, plain
from mmkd.registry import MODELS

NET = dict(type='mmkd.CondensationNet', num_classes=3, image_size=8, in_channels=1)
MLP = dict(NET, name='MLP', width=5)
CONV = dict(NET, name='ConvNet', width=4, depth=1)
BATCH = dict(NET, name='ConvNetBN', width=4, depth=1)
GSAM = dict(rho=0.1, alpha=0.3)
CLOSE = dict(rtol=1e-12, atol=1e-12)
ROWS = 22


class Noisy(nn.Module):
    """A network whose answer is random in training."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.body(pixel_values))


@pytest.fixture
def double():
    """Networks are made in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(network=MLP, count=ROWS, **settings):
    """A trainer on random images, four batches an epoch of which the last is smaller."""
    draw = torch.Generator().manual_seed(5)
    images = torch.randn(count, 1, 8, 8, generator=draw).to(torch.get_default_dtype())
    labels = torch.randint(0, 3, (count,), generator=draw)
    recipe = ExpertRecipe(**{**dict(network=network, epochs=3, batch_size=6, lr=0.1), **settings})
    return ExpertTrainer(recipe, images, labels)


def trained(trainer, expert, epochs=3):
    """Snapshots of an expert: parameters and running statistics."""
    theta, buffers = trainer.initial(expert)
    found, velocity = [(theta, buffers.clone())], None
    for epoch in range(epochs):
        theta, buffers, velocity = trainer.epoch(expert, epoch, theta, buffers, velocity)
        found.append((theta, buffers.clone()))
    return found


def statistics(network):
    """Running statistics of a network."""
    found = [each.flatten() for each in network.buffers() if each.is_floating_point()]
    return torch.cat(found) if found else torch.empty(0)


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize('rest', [{}, dict(momentum=0.9, weight_decay=0.05)])
@pytest.mark.parametrize('network', [MLP, CONV, BATCH], ids=lambda each: each['name'])
def test_as_a_plain_loop_with_an_optimizer(network, rest):
    trainer = make(network, seed=3, **rest)
    snapshots = trained(trainer, 4)
    own = MODELS.build(network)
    vector_to_parameters(snapshots[0][0].clone(), own.parameters())
    sgd = torch.optim.SGD(own.parameters(), lr=0.1, **rest)
    for epoch in range(3):
        order = torch.randperm(ROWS, generator=key_generator(3, 4, epoch))
        for start in range(0, ROWS, 6):
            rows = order[start : start + 6]
            sgd.zero_grad()
            F.cross_entropy(own(trainer.images[rows]).logits, trainer.labels[rows]).backward()
            sgd.step()
        theta, buffers = snapshots[epoch + 1]
        torch.testing.assert_close(theta, parameters_to_vector(own.parameters()), **CLOSE)
        torch.testing.assert_close(buffers, statistics(own), **CLOSE)
    assert (snapshots[3][0] - snapshots[0][0]).abs().max() > 0.05


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize(
    'options',
    [GSAM, dict(GSAM, adaptive=False), dict(rho=0.2, momentum=0.5, weight_decay=0.1)],
)
def test_steps_are_those_of_gsam_with_all_of_the_recipe(options):
    trainer = make(batch_size=ROWS, **options)
    theta, buffers = trainer.initial(0)
    own = MODELS.build(MLP)
    names = [name for name, _ in own.named_parameters()]
    shapes = [each.shape for each in own.parameters()]

    def loss(at, first):
        parts = at.split([each.numel() for each in shapes])
        named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        logits = torch.func.functional_call(own, named, (trainer.images,)).logits
        return F.cross_entropy(logits, trainer.labels)

    wanted, velocity, carried = theta, None, None
    for epoch in range(2):
        theta, _, velocity = trainer.epoch(0, epoch, theta, buffers, velocity)
        wanted, _, carried = gsam.step(loss, wanted, 0.1, velocity=carried, **options)
        torch.testing.assert_close(theta, wanted, **CLOSE)
    assert (velocity is None) == ('momentum' not in options)


@pytest.mark.usefixtures('double')
def test_images_are_augmented_and_keep_their_labels():
    always = dict(type='mmkd.DSA', families='flip', flip=1.0)
    flipped = make(augment=always)
    mirrored = make()
    mirrored.images = mirrored.images.flip(3)
    wanted = trained(mirrored, 0)[3][0]
    torch.testing.assert_close(trained(flipped, 0)[3][0], wanted, **CLOSE)
    assert not torch.allclose(trained(make(), 0)[3][0], wanted)


def test_every_batch_has_its_own_augmentation():
    turned = make(augment=dict(type='mmkd.DSA', families='rotate', rotate=90))
    turned.images = turned.images[:1].expand(ROWS, -1, -1, -1)
    found = torch.cat([images for images, _ in turned.batches(0, 0)]).flatten(1)
    assert len(found.unique(dim=0)) == ROWS


def test_every_sample_has_its_turn_once_an_epoch():
    trainer = make()
    trainer.images = torch.arange(ROWS).view(-1, 1, 1, 1)
    trainer.labels = 100 + torch.arange(ROWS)
    batches = list(trainer.batches(1, 2))
    assert [len(labels) for _, labels in batches] == [6, 6, 6, 4]
    order = torch.cat([images.flatten() for images, _ in batches])
    assert sorted(order.tolist()) == list(range(ROWS)) != order.tolist()
    assert torch.equal(torch.cat([labels for _, labels in batches]), 100 + order)


def orders(trainer, *place):
    """Order of the samples in an epoch."""
    trainer.labels = torch.arange(ROWS)
    return tuple(torch.cat([labels for _, labels in trainer.batches(*place)]).tolist())


def test_seeds_experts_and_epochs_differ():
    places = [(seed, e, epoch) for seed in range(2) for e in range(2) for epoch in range(2)]
    assert len({orders(make(seed=seed), e, epoch) for seed, e, epoch in places}) == len(places)
    starts = [make(seed=seed).initial(expert)[0] for seed in range(2) for expert in range(3)]
    assert len(torch.stack(starts).unique(dim=0)) == 6
    ends = [trained(make(seed=seed), expert)[3][0] for seed in range(2) for expert in range(2)]
    assert len(torch.stack(ends).unique(dim=0)) == 4


def test_initial_values_are_those_of_the_seeded_network():
    trainer = make(CONV, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(stable_seed(3, 2))
        wanted = parameters_to_vector(MODELS.build(CONV).parameters())
    theta, buffers = trainer.initial(2)
    assert torch.equal(theta, wanted) and buffers.shape == (0,)
    assert not theta.requires_grad


def generators():
    """States of the global generators."""
    numpy = np.random.get_state()  # noqa: NPY002
    return dict(python=random.getstate(), numpy=numpy, cpu=torch.get_rng_state())


@pytest.mark.parametrize('network', [CONV, BATCH], ids=lambda each: each['name'])
def test_an_epoch_is_a_function_of_its_place_and_the_snapshot_before(network):
    options = dict(augment=dict(type='mmkd.DSA'), **GSAM)
    snapshots = trained(make(network, **options), 1)
    thetas = torch.stack([theta for theta, _ in snapshots])
    assert len(thetas.unique(dim=0)) == 4
    torch.manual_seed(77), random.seed(77), np.random.seed(77)  # noqa: NPY002
    before = generators()
    other = make(network, **options)
    for epoch in (2, 0, 1):
        theta, buffers = (each.clone() for each in snapshots[epoch])
        found = other.epoch(1, epoch, theta, buffers)
        assert torch.equal(found[0], snapshots[epoch + 1][0])
        assert torch.equal(found[1], snapshots[epoch + 1][1])
        # parameters that are given stay, whose vector may have been stored
        assert torch.equal(theta, snapshots[epoch][0])
    other.initial(3)
    other.accuracy(*snapshots[1], other.images, other.labels)
    if network is CONV:
        other.epoch_together([0, 1], 0, thetas[:2])
    assert_same_state(generators(), before)


def test_networks_with_dropout_repeat_too():
    trainer = make(dict(type=Noisy))
    snapshots = trained(trainer, 1)
    torch.manual_seed(77)
    before = generators()
    assert torch.equal(trainer.epoch(1, 2, *snapshots[2])[0], snapshots[3][0])
    assert_same_state(generators(), before)


def test_velocity_is_handed_on():
    trainer = make(momentum=0.9)
    theta, buffers = trainer.initial(0)
    theta, _, velocity = trainer.epoch(0, 0, theta, buffers)
    kept = velocity.clone()
    with_it = trainer.epoch(0, 1, theta, buffers, velocity)[0]
    assert torch.equal(velocity, kept)
    assert torch.equal(with_it, trained(trainer, 0)[2][0])
    assert not torch.allclose(with_it, trainer.epoch(0, 1, theta, buffers)[0])


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize('rest', [dict(rho=0.0), GSAM, dict(GSAM, momentum=0.9, weight_decay=0.01)])
@pytest.mark.parametrize('network', [MLP, CONV], ids=lambda each: each['name'])
def test_together_as_one_by_one(network, rest):
    trainer = make(network, augment=dict(type='mmkd.DSA'), **rest)
    experts = [4, 0, 2]
    alone = [trained(trainer, expert) for expert in experts]
    thetas, velocities = torch.stack([each[0][0] for each in alone]), None
    for epoch in range(3):
        thetas, velocities = trainer.epoch_together(experts, epoch, thetas, velocities)
        wanted = torch.stack([each[epoch + 1][0] for each in alone])
        torch.testing.assert_close(thetas, wanted, **CLOSE)
    assert (velocities is None) == ('momentum' not in rest)


def test_together_as_one_by_one_in_single_precision():
    trainer = make(CONV, **GSAM)
    thetas = torch.stack([trainer.initial(expert)[0] for expert in range(2)])
    found, _ = trainer.epoch_together(range(2), 0, thetas)
    wanted = torch.stack([trained(trainer, expert, 1)[1][0] for expert in range(2)])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert (found - thetas).abs().max() > 0.01


def test_running_statistics_move_once_a_step():
    trainer = make(BATCH, batch_size=ROWS, **GSAM)
    theta, buffers = trainer.initial(0)
    assert buffers.tolist() == [0.0] * 4 + [1.0] * 4
    own = MODELS.build(BATCH)
    vector_to_parameters(theta, own.parameters())
    own.train()(trainer.images)
    before = trainer.network.buffers()
    _, after, _ = trainer.epoch(0, 0, theta, buffers)
    assert after is buffers
    # the order of the sum is another one, a second pass would move them by far more
    torch.testing.assert_close(buffers, statistics(own), rtol=1e-5, atol=1e-6)
    assert torch.equal(trainer.network.buffers(), before)


def test_running_statistics_cannot_be_trained_together():
    trainer = make(BATCH)
    thetas = torch.stack([trainer.initial(expert)[0] for expert in range(2)])
    with pytest.raises(UserError, match="running statistics cannot be trained .*mode='loop'"):
        trainer.epoch_together([0, 1], 0, thetas)


def test_accuracy_in_per_cent_of_the_network_in_evaluation():
    trainer = make(BATCH)
    theta, buffers = trained(trainer, 0)[3]
    own = MODELS.build(BATCH).eval()
    vector_to_parameters(theta, own.parameters())
    own.block1.norm.running_mean.copy_(buffers[:4]), own.block1.norm.running_var.copy_(buffers[4:])
    guessed = own(trainer.images).logits.argmax(-1)
    labels = guessed.clone()
    labels[:3] = (labels[:3] + 1) % 3
    kept = buffers.clone()
    for batch in (1, 6, 1000):
        found = trainer.accuracy(theta, buffers, trainer.images, labels, batch)
        assert found == pytest.approx(100 * 19 / 22) and isinstance(found, float)
    assert torch.equal(buffers, kept)
    other = trainer.accuracy(theta, trainer.initial(0)[1] + 3, trainer.images, labels)
    assert other != pytest.approx(100 * 19 / 22)


def test_what_trajectories_depend_on_is_plain():
    augment = dict(type='mmkd.DSA', families=('flip', 'crop'))
    recipe = ExpertRecipe(MLP, 3, 6, 0.1, momentum=0.9, rho=0.01, augment=augment, seed=4)
    about = recipe.about('abc')
    assert about == dict(
        network=MLP,
        data='abc',
        seed=4,
        training=dict(
            epochs=3,
            batch_size=6,
            lr=0.1,
            momentum=0.9,
            weight_decay=0.0,
            rho=0.01,
            alpha=0.0,
            adaptive=True,
            augment=dict(type='mmkd.DSA', families=['flip', 'crop']),
        ),
    )
    assert plain({1: ({'a': (2,)}, 'text', None)}) == {'1': [{'a': [2]}, 'text', None]}
