"""Frames explained without their context, with it, and by a student of both conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.jobs import Job
from benchmark.methods import Gain
from benchmark.overrides import name_for_seed
from benchmark.training import ROOT, TRAIN, Training, config_of

CONFIGS = ROOT / 'projects' / 'mmkd' / 'configs' / 'cobra'
METRICS = ('cf/accuracy', 'cf/pair_accuracy', 'exact/mean', 'bleu2/mean', 'rouge_l/mean')
METRIC = METRICS[0]
PAIRS = 300
QUICK_FRAMES = 320

ROWS: Mapping[str, tuple[str, str]] = {
    'agnostic': ('without context', 'cobra-agnostic'),
    'aware': ('with context', 'cobra'),
    'dropout': ('with context, which a third of the frames lack', 'cobra-dropout'),
}
"""Label and first part of the config's name."""


@dataclass
class Study(Training):
    """A training in epochs."""

    @property
    def iterations(self) -> int:
        """Steps of all epochs."""
        known = config_of(self.config)
        count = self.options.get(
            'train_dataloader.dataset.frames.count', known.train_dataloader.dataset.frames.count
        )
        epochs = self.options.get('train_cfg.max_epochs', known.train_cfg.max_epochs)
        return int(epochs) * -(-int(count) // int(known.train_dataloader.batch_size))


def clean(found: Mapping[str, float]) -> dict[str, float]:
    """The columns in percent."""
    return {name: 100.0 * found[name] for name in METRICS}


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The trainings of one seed."""
    home, jobs = folder / f'seed_{seed}', []
    for key in keys:
        label, name = ROWS[key]
        config = CONFIGS / f'{name}_t5-tiny_world.py'
        options: dict[str, object] = {
            'randomness.seed': seed,
            'train_dataloader.sampler.seed': seed,
            'train_dataloader.dataset.seed': seed,
            'train_dataloader.dataset.frames.seed': seed,
            # statements are divided by the seed: those of the test belong to the same division
            'val_dataloader.dataset.frames.seed': seed,
            'val_dataloader.dataset.frames.split': 'test',
            'val_dataloader.dataset.frames.count': 10 if quick else PAIRS,
            'train_cfg.val_interval': config_of(config).train_cfg.max_epochs,
        }
        if quick:
            options['train_dataloader.dataset.frames.count'] = QUICK_FRAMES
            options['train_cfg.max_epochs'] = options['train_cfg.val_interval'] = 2
            options['default_hooks.logger.interval'] = 5
        job = Study(
            name=key,
            log=home / f'{key}.log',
            label=label,
            key=key,
            seed=seed,
            config=config,
            work_dir=home / key,
            clean=clean,
            headline=METRIC,
            needle='cf/',
            script=script,
            options=options,
        )
        job.cost = float(job.iterations)
        jobs.append(job)
    name_for_seed(jobs, seed)
    return jobs


GAIN = Gain(
    rows={key: label for key, (label, _) in ROWS.items()},
    method='aware',
    baseline='agnostic',
    metric=METRIC,
    columns={
        'right, %': 'cf/accuracy',
        'both of a pair right, %': 'cf/pair_accuracy',
        'slots word for word, %': 'exact/mean',
        'BLEU-2': 'bleu2/mean',
        'ROUGE-L': 'rouge_l/mean',
    },
    caption=(
        f'{PAIRS} pairs of contexts of one statement, friendly in the one and a slight in the '
        'other, of statements that were not trained on: whether the written offensiveness is '
        'right, and how well the seven slots agree with what the rules of the world say (mean over '
        'slots). All students are trained alike, from random weights.'
    ),
    jobs=gain_jobs,
)
