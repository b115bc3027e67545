"""Experts whose answers a test knows, experts that have learned a little, and stores of both."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import mmkd.components  # noqa: F401
from mmkd.datasets.images import MemoryImages
from mmkd.experts.flat_network import FlatNetwork
from mmkd.experts.running import run_experts
from mmkd.experts.store import TrajectoryStore
from mmkd.experts.training import ExpertRecipe
from mmkd.registry import DATASETS, MODELS

NAMES = ('zero', 'one', 'two')
CLASSES = len(NAMES)


@pytest.fixture(scope='session')
def network_of() -> Callable[..., dict[str, Any]]:
    """Config of a tiny network for images of one channel and 8 x 8 pixels."""

    def make(name: str = 'MLP', **options: Any) -> dict[str, Any]:
        """Config by name of the network."""
        about = dict(num_classes=CLASSES, image_size=8, in_channels=1)
        return dict(type='mmkd.CondensationNet', name=name, **about, **options)

    return make


@pytest.fixture(scope='session')
def store_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrajectoryStore]:
    """Writes a store of finished experts."""

    def make(thetas: Tensor, buffers: Tensor | None = None, **about: Any) -> TrajectoryStore:
        """Parameters ``(K, E+1, P)``, running statistics ``(K, E+1, Q)`` or None."""
        experts, snapshots, size = thetas.shape
        moving = 0 if buffers is None else buffers.shape[-1]
        store = TrajectoryStore.create_or_open(
            tmp_path_factory.mktemp('store'), about, experts, snapshots - 1, size, moving
        )
        for expert in range(experts):
            for epoch in range(snapshots):
                kept = None if buffers is None else buffers[expert, epoch]
                store.write(expert, epoch, thetas[expert, epoch], kept)
            store.finish(expert)
        return store

    return make


@pytest.fixture
def readers(
    network_of: Callable[..., dict[str, Any]], store_of: Callable[..., TrajectoryStore]
) -> Callable[..., SimpleNamespace]:
    """Perceptrons that read their logits off the images, so that a test says what they answer."""
    flat = FlatNetwork(MODELS.build(network_of(width=CLASSES)))

    def make(answers: Tensor) -> SimpleNamespace:
        """Images ``(N, 1, 8, 8)`` and a store of K experts that answer them so.

        Args:
            answers: logits ``(K, N, classes)`` at the last snapshot, none negative; at the first
                snapshot they are 0.
        """
        experts, count, _ = answers.shape
        pixels = torch.rand(count, 64, generator=torch.Generator().manual_seed(count))
        thetas = torch.zeros(experts, 2, flat.size)
        for expert, said in enumerate(answers):
            at = slice(CLASSES * expert, CLASSES * (expert + 1))
            pixels[:, at] = said
            named = flat.named(thetas[expert, 1])
            named['hidden.0.weight'][:, at] = torch.eye(CLASSES)
            named['hidden.2.weight'].copy_(torch.eye(CLASSES))
            named['head.weight'].copy_(torch.eye(CLASSES))
        return SimpleNamespace(
            flat=flat, store=store_of(thetas), images=pixels.view(count, 1, 8, 8), answers=answers
        )

    return make


def separable(count: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    """Config of images that are noise about a pattern per class, the classes mixed."""
    patterns = torch.randn(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count)[torch.randperm(count, generator=draw)] % CLASSES
    noise = torch.randn(count, 1, 8, 8, generator=draw)
    images = patterns[labels] + noise + shift
    inside = MemoryImages(images, labels.tolist(), NAMES, [0.0], [1.0])
    return dict(type='mmkd.PreparedImages', dataset=inside)


@pytest.fixture(scope='session')
def learned(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two experts of six epochs, their network, the images that they have learned, and others."""
    network = dict(
        type='mmkd.CondensationNet',
        name='ConvNet',
        num_classes=CLASSES,
        image_size=8,
        in_channels=1,
        width=4,
        depth=1,
    )
    source, other = separable(90, 0), separable(90, 0, shift=0.5)
    data = DATASETS.build(source)
    folder = tmp_path_factory.mktemp('experts') / 'trajectories'
    recipe = ExpertRecipe(network, epochs=6, batch_size=30, lr=0.1)
    run_experts(recipe, data, None, folder, 2, say=lambda text: None)
    return SimpleNamespace(
        network=network, source=source, other=other, data=data, folder=str(folder)
    )
