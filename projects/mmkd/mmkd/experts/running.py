"""Trains what is left of a store of experts; any number of processes may do it at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from mmkd.datasets.prepared import PreparedImages
from mmkd.experts.store import TrajectoryStore
from mmkd.experts.training import ExpertRecipe, ExpertTrainer

REPORT_AFTER = 10.0
"""Seconds between two lines of progress."""


def run_experts(
    recipe: ExpertRecipe,
    data: PreparedImages,
    held_out: PreparedImages | None,
    folder: str | Path,
    experts: int,
    together: int = 1,
    device: torch.device | str = 'cpu',
    say: Callable[[str], Any] = print,
) -> int:
    """Opens or makes the store and trains what is neither finished nor taken by another process.

    Args:
        recipe: how experts are trained.
        data: on what.
        held_out: images that the last snapshot of every expert is scored on; None: not scored.
        folder: of the store.
        experts: that it shall have.
        together: experts at once; 1: one by one.
        device: where.
        say: gets lines of progress.

    Returns:
        Number of experts that this process has finished.
    """
    trainer = ExpertTrainer(recipe, data.images, data.labels, device)
    flat = trainer.network
    if together > 1:
        trainer.check_together()
    store = TrajectoryStore.create_or_open(
        folder,
        recipe.about(data.digest),
        experts,
        recipe.epochs,
        flat.size,
        flat.buffer_size,
        flat.names,
        flat.shapes,
    )
    progress = _Progress(store, say)
    left, done = store.unfinished(), 0
    for first in range(0, len(left), together):
        with _claimed(store, left[first : first + together]) as mine:
            if len(mine) > 1:
                _train_together(trainer, store, mine, progress)
            else:
                for expert in mine:
                    _train(trainer, store, expert, progress)
            for expert in mine:
                _finish(trainer, store, expert, held_out, say)
            done += len(mine)
    return done


@contextmanager
def _claimed(store: TrajectoryStore, experts: Sequence[int]) -> Iterator[list[int]]:
    """Those experts that nobody else trains, or has finished meanwhile."""
    with ExitStack() as held:
        yield [each for each in experts if held.enter_context(store.claim(each))]


def _train(trainer: ExpertTrainer, store: TrajectoryStore, expert: int, progress: Any) -> None:
    """All epochs of an expert, or those that an earlier process did not write."""
    written = store.written(expert) if not trainer.recipe.momentum else 0
    if written:
        theta, buffers = (
            each.to(trainer.device) for each in store.snapshot(expert, written - 1, partial=True)
        )
    else:
        theta, buffers = trainer.initial(expert)
        store.write(expert, 0, theta, buffers)
    velocity = None
    for epoch in range(max(written - 1, 0), trainer.recipe.epochs):
        theta, buffers, velocity = trainer.epoch(expert, epoch, theta, buffers, velocity)
        store.write(expert, epoch + 1, theta, buffers)
        progress([expert], epoch + 1)


def _train_together(
    trainer: ExpertTrainer, store: TrajectoryStore, experts: Sequence[int], progress: Any
) -> None:
    """All epochs of several experts."""
    thetas = torch.stack([trainer.initial(expert)[0] for expert in experts])
    velocities = torch.zeros_like(thetas) if trainer.recipe.momentum else None
    for epoch in range(trainer.recipe.epochs + 1):
        if epoch:
            thetas, velocities = trainer.epoch_together(experts, epoch - 1, thetas, velocities)
        for expert, theta in zip(experts, thetas, strict=True):
            store.write(expert, epoch, theta)
        progress(experts, epoch)


def _finish(
    trainer: ExpertTrainer,
    store: TrajectoryStore,
    expert: int,
    held_out: PreparedImages | None,
    say: Callable[[str], Any],
) -> None:
    """Scores the last snapshot and declares the expert finished."""
    last, note = store.epochs, ''
    if held_out is not None:
        theta, buffers = (
            each.to(trainer.device) for each in store.snapshot(expert, last, partial=True)
        )
        score = trainer.accuracy(theta, buffers, held_out.images, held_out.labels)
        store.write(expert, last, theta, buffers, score)
        note = f', accuracy {score:.1f}'
    store.finish(expert)
    say(f'expert {expert} is finished{note}')


class _Progress:
    """Says every now and then how far the experts are and how long it will take.

    Args:
        store: of the experts.
        say: gets the lines.
    """

    def __init__(self, store: TrajectoryStore, say: Callable[[str], Any]) -> None:
        self.store, self.say = store, say
        self.begin = self.last = time.monotonic()
        self.epochs = 0

    def __call__(self, experts: Sequence[int], epoch: int) -> None:
        """Notes that an epoch has ended."""
        self.epochs += len(experts)
        now = time.monotonic()
        if now - self.last < REPORT_AFTER:
            return
        self.last = now
        left = len(self.store.unfinished()) * self.store.epochs - epoch * len(experts)
        pace = (now - self.begin) / self.epochs
        self.say(
            f'expert {experts[0]}{f" to {experts[-1]}" if len(experts) > 1 else ""}, '
            f'epoch {epoch}/{self.store.epochs}; {len(self.store.finished())} of '
            f'{self.store.experts} finished, about {_clock(max(left, 0) * pace)} left'
        )


def _clock(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, seconds = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'
