"""Where synthetic images and labels begin (DATM, arXiv:2310.05773, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.experts.flat_network import FlatNetwork
from mmkd.experts.store import TrajectoryStore

IMAGES = ('correct', 'real', 'noise')
LABELS = ('mean_correct', 'first', 'hard')
CERTAIN = 1000.0
"""Logit of a hard label: its softmax is exactly 1 and 0."""


@torch.no_grad()
def expert_logits(
    network: FlatNetwork,
    store: TrajectoryStore,
    expert: int,
    images: Tensor,
    epoch: int = -1,
    batch: int = 512,
) -> Tensor:
    """Logits of an expert, in evaluation mode, with its running statistics.

    Args:
        network: of the experts.
        store: of their trajectories.
        expert: number.
        images: ``(S, C, H, W)``.
        epoch: snapshot; -1: the last.
        batch: images that are looked at together.

    Returns:
        ``(S, classes)``, on the device of the images.
    """
    theta, buffers = (
        each.to(images.device)
        for each in store.snapshot(expert, store.epochs if epoch < 0 else epoch)
    )
    parts = [network.logits(theta, some, buffers, training=False) for some in images.split(batch)]
    return torch.cat(parts)


def _guessed(logits: Tensor) -> Tensor:
    """Class with the largest logit ``(S,)``; -1 where logits are not finite."""
    return torch.where(logits.isfinite().all(-1), logits.argmax(-1), -1)


def random_rows(labels: Tensor, per_class: int, classes: int, generator: torch.Generator) -> Tensor:
    """Random samples of every class, class after class.

    Args:
        labels: classes ``(N,)``.
        per_class: how many.
        classes: C.
        generator: of the CPU.

    Returns:
        Indices ``(C per_class,)``.

    Raises:
        UserError: a class has fewer.
    """
    return _first_rows(
        labels, torch.ones_like(labels, dtype=torch.bool), per_class, classes, generator
    )


def _first_rows(
    labels: Tensor, allowed: Tensor, per_class: int, classes: int, generator: torch.Generator
) -> Tensor:
    """The first allowed samples of every class in a random order."""
    order = torch.randperm(len(labels), generator=generator)
    order = order[allowed[order].cpu()]
    order = order[labels[order].argsort(stable=True)]
    found = labels[order]
    counts = torch.bincount(found, minlength=classes)
    if (short := (counts < per_class).nonzero().flatten()).numel():
        number = int(short[0])
        raise UserError(
            f'class {number} has {int(counts[number])} samples to choose from, {per_class} are '
            'needed: fewer images per class'
        )
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[found]
    return order[place < per_class]


@torch.no_grad()
def correct_rows(
    network: FlatNetwork,
    store: TrajectoryStore,
    images: Tensor,
    labels: Tensor,
    per_class: int,
    classes: int,
    generator: torch.Generator,
    epoch: int = -1,
    names: Sequence[str] = (),
) -> Tensor:
    """Random samples of every class that an expert classifies correctly.

    The first expert chooses; a class that runs out of samples goes on with the next expert and
    keeps what it has.

    Args:
        network: of the experts.
        store: of their trajectories.
        images: real ones ``(N, C, H, W)``.
        labels: their classes ``(N,)``.
        per_class: how many.
        classes: C.
        generator: of the CPU.
        epoch: snapshot of the experts; -1: the last.
        names: of the classes, for errors.

    Returns:
        Indices ``(C per_class,)``, class after class.

    Raises:
        UserError: all experts together are right about too few samples of a class.
    """
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    chosen_by = torch.full((len(labels),), store.experts)
    for expert in range(store.experts):
        guessed = _guessed(expert_logits(network, store, expert, images, epoch)).cpu()
        chosen_by[(guessed == labels) & (chosen_by == store.experts)] = expert
        counts = torch.bincount(labels[chosen_by < store.experts], minlength=classes)
        if (counts >= per_class).all():
            break
    else:
        number = int((counts < per_class).nonzero()[0])
        name = names[number] if names else number
        raise UserError(
            f'class {name}: {store.experts} experts are right about {int(counts[number])} images, '
            f'{per_class} are needed: take fewer images per class, more experts or experts that '
            "were trained longer, or init_images='real'"
        )
    # within a class by the expert who is right first, then in random order
    order = order[
        torch.argsort(labels[order] * (store.experts + 1) + chosen_by[order], stable=True)
    ]
    total = torch.bincount(labels, minlength=classes)
    place = torch.arange(len(order)) - (total.cumsum(0) - total)[labels[order]]
    return order[place < per_class]


@torch.no_grad()
def mean_correct_logits(
    network: FlatNetwork, store: TrajectoryStore, images: Tensor, labels: Tensor
) -> Tensor:
    """Mean logits of those experts that classify an image correctly, at their last snapshot.

    Args:
        network: of the experts.
        store: of their trajectories.
        images: ``(S, C, H, W)``.
        labels: their classes ``(S,)``.

    Returns:
        ``(S, classes)``, largest at the class of each image.

    Raises:
        UserError: no expert is right about an image.
    """
    total: Tensor | float = 0.0
    right: Tensor | float = 0.0
    for expert in range(store.experts):
        logits = expert_logits(network, store, expert, images)
        correct = (_guessed(logits) == labels).unsqueeze(-1)
        total = total + torch.where(correct, logits, 0.0)
        right = right + correct
    if (alone := (right == 0).flatten().nonzero().flatten()).numel():
        raise UserError(
            f'no expert is right about {len(alone)} of {len(images)} images (the first is number '
            f"{int(alone[0])}): init_images='correct' with init_epoch=-1, or init_labels='first'"
        )
    return total / right


def hard_logits(labels: Tensor, classes: int) -> Tensor:
    """Logits of labels that are certain, ``(S, classes)``."""
    return CERTAIN * torch.nn.functional.one_hot(labels, classes).float()
