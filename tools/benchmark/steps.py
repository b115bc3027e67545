"""What the benchmarks of training steps have in common: set-up, and rows of the report."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.utils import import_modules_from_strings

from benchmark.jobs import run_jobs
from benchmark.timing import Breakdown, Operation, Times, interleaved
from benchmark.training import SyntheticData

# ---------------------------------------------------------------------- before measuring


def prepared(data: SyntheticData) -> Path:
    """Folder of drawn data, made once.

    Raises:
        SystemExit: they could not be made.
    """
    failed = run_jobs([data])
    if failed:
        raise SystemExit(f'speed: preparation failed: {failed}')
    return data.out


def quiet_devices(args: argparse.Namespace) -> list[str]:
    """The devices to measure on; silences what would be printed in between."""
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    return args.devices or ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]


def read_config(config: Path, options: Mapping[str, object]) -> Config:
    """A config with overrides and without worker processes; its types become known."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(options))
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.default_scope)
    from mmdistill.core.compat import allow_mmengine_globals

    allow_mmengine_globals()
    return cfg


def build(
    cfg: Config, device: torch.device, checkpoint: Path | None = None
) -> tuple[Any, OptimWrapper]:
    """Model and optimizer of a config, ready to train at a learning rate of 0.

    So all repetitions of a step do the same work.

    Args:
        cfg: of a training.
        device: for the model.
        checkpoint: of a run; None: networks as they are initialised, which cost the same.
    """
    from mmdistill.registry import MODELS

    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    if checkpoint is not None:
        load_checkpoint(model, str(checkpoint), map_location='cpu', logger='current')
    model.to(device).train()
    cfg.optim_wrapper.optimizer.lr = 0.0
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def first_batches(cfg: Config, count: int) -> list[dict]:
    """Batches of the training's loader."""
    stream = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    return [next(stream) for _ in range(count)]


# ---------------------------------------------------------------------- rows of the report


def timed(
    operations: Mapping[str, Operation],
    rounds: int,
    device: torch.device,
    batches: int,
    report: Any,
    name: str = '',
) -> dict[str, Times]:
    """Times operations in turn, a row each, per batch; says how far it is.

    Args:
        operations: by label, each over all batches.
        rounds: repetitions.
        device: to measure on.
        batches: that an operation works on.
        report: gets the rows.
        name: of what is measured, before every label; default: the device.
    """
    name = name or device.type

    def progress(done: int, total: int) -> None:
        print(f'{name}: round {done}/{total}', flush=True)

    found = interleaved(operations, rounds, device, progress)
    for label, times in found.items():
        mean = Times([t / batches for t in times.wall], [t / batches for t in times.cpu])
        report.add(f'{name}: {label}', mean.metrics(), sum(times.wall))
    return found


def over(found: Mapping[str, Times], one: str, other: str) -> dict[str, float]:
    """Time of an operation over that of another: ``x`` by the clock, ``x_cpu_time``."""
    pairs = (('x', 'wall'), ('x_cpu_time', 'cpu'))
    return {name: found[one].median(kind) / found[other].median(kind) for name, kind in pairs}


def over_least(
    found: Mapping[str, Times],
    unavoidable: Sequence[str],
    step: str = 'train step',
    optimizer: str = 'optimizer step',
) -> dict[str, float]:
    """A step over its unavoidable parts: ``x`` and ``x_with_optimizer``, wall and CPU time.

    Args:
        found: times by label.
        unavoidable: labels whose times are added.
        step: label of the step.
        optimizer: label that is added for ``x_with_optimizer``.
    """
    ratios = {}
    for kind, ending in (('wall', ''), ('cpu', '_cpu_time')):
        whole = found[step].median(kind)
        least = sum(found[each].median(kind) for each in unavoidable)
        ratios['x' + ending] = whole / least
        ratios['x_with_optimizer' + ending] = whole / (least + found[optimizer].median(kind))
    return ratios


def add_parts(parts: Breakdown, report: Any, name: str = '') -> None:
    """A row with the parts of a step, the longest first; named by the device when left out."""
    steps = parts.calls['rest of the step']
    ordered = sorted(parts.seconds.items(), key=lambda each: -each[1])
    report.add(
        f'{name or parts.device.type}: parts of the step, ms',
        {label: 1e3 * seconds / steps for label, seconds in ordered},
        sum(parts.seconds.values()),
    )
