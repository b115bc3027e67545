"""Overrides that every comparison needs: another seed, a shorter training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.jobs import Job
from benchmark.training import config_of

NETWORKS = ('detector', 'estimator', 'segmentor')
"""Arguments by which a semi-supervised model is given its host's network."""
SCHEDULE = ('total_steps', 'begin', 'end', 'T_max', 'milestones')
HOOK = ('interval', 'begin', 'ramp_iters')


@dataclass(frozen=True)
class Sizes:
    """Size of a comparison.

    Attributes:
        train: training frames or images.
        val: validation frames or images.
        shorter: divides the iterations of every training.
    """

    train: int
    val: int
    shorter: int = 1


def seed_options(config: Path, seed: int) -> dict[str, object]:
    """Overrides that seed everything that is drawn."""
    options: dict[str, object] = {'randomness.seed': seed, 'train_dataloader.sampler.seed': seed}
    if any(name in config_of(config).model for name in NETWORKS):
        options['model.seed'] = seed
    return options


def length_options(config: Path, shorter: int) -> dict[str, object]:
    """Overrides for a shorter training: the schedule and all intervals shrink with it."""
    if shorter == 1:
        return {}
    known = config_of(config)
    iterations = max(2, known.train_cfg.max_iters // shorter)
    factor = iterations / known.train_cfg.max_iters
    options: dict[str, object] = {
        'train_cfg.max_iters': iterations,
        'train_cfg.val_interval': iterations,
        'default_hooks.logger.interval': max(1, iterations // 8),
    }
    for index, each in enumerate(known.param_scheduler):
        options.update(_scaled(f'param_scheduler.{index}', each, SCHEDULE, factor))
    for index, hook in enumerate(known.custom_hooks):
        options.update(_scaled(f'custom_hooks.{index}', hook, HOOK, factor))
        momentum = hook.get('momentum', {})
        options.update(_scaled(f'custom_hooks.{index}.momentum', momentum, HOOK, factor))
    return options


def _scaled(
    where: str, given: Mapping, keys: Iterable[str], factor: float
) -> dict[str, int | list[int]]:
    """Iteration counts among the entries of a config's dict, shrunk; 0 stays 0."""

    def shrunk(value: int) -> int:
        return max(1, round(value * factor)) if value else 0

    found: dict[str, int | list[int]] = {}
    for key in keys:
        value = given.get(key)
        if isinstance(value, (list, tuple)):
            found[f'{where}.{key}'] = [shrunk(each) for each in value]
        elif isinstance(value, int):
            found[f'{where}.{key}'] = shrunk(value)
    return found


def name_for_seed(
    jobs: Iterable[Job], seed: int, label: Callable[[Job], str] = lambda job: job.label
) -> None:
    """Renames the jobs of a seed so that they are unique among all seeds; needs follow."""
    jobs = list(jobs)
    names = {job.name: f'seed {seed} {label(job)}' for job in jobs}
    for job in jobs:
        job.name = names[job.name]
        job.needs = tuple(names.get(need, need) for need in job.needs)
