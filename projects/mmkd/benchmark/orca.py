"""Learning from explanations: answers alone, a teacher that explains, and two teachers in turn."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.jobs import Job
from benchmark.methods import Further, Gain
from benchmark.overrides import name_for_seed
from benchmark.training import ROOT, TRAIN, Training, config_of

CONFIGS = ROOT / 'projects' / 'mmkd' / 'configs' / 'orca'
FILES = ('test', 'test_longer', 'test_wording', 'test_family')
METRICS = tuple(f'answer/{each}' for each in FILES)
METRIC = METRICS[0]
QUESTIONS = 300
"""Of each file of the test."""
EXAMPLES = 10000
"""Questions with answers that are seen, repetitions included, where these are the same for all."""
TOKENS = 600_000
"""Tokens that are seen, of questions and answers, where these are the same for all."""
STUDENT = {
    'model.language_model.config.hidden_size': 128,
    'model.language_model.config.intermediate_size': 384,
    'optim_wrapper.optimizer.lr': 3e-3,
}
"""A quarter of the parameters of the configs, so that eighteen trainings fit into an afternoon."""
EPOCHS = 2
QUICK = 0.02
LENGTH = {'answer': 40, 'intermediate': 50, 'strong': 70}
"""Tokens of a question with its answer, about."""


@dataclass(frozen=True)
class Row:
    """One student.

    Attributes:
        label: in tables.
        config: first part of the config's name.
        personas: of the teachers, a stage each.
        same: ``examples`` or ``tokens``, which are as many as in the other rows.
    """

    label: str
    config: str
    personas: Sequence[str]
    same: str

    def options(self, scale: float) -> dict[str, object]:
        """Overrides: the share of each stage, and a budget."""
        found: dict[str, object] = {}
        for number, persona in enumerate(self.personas):
            place = f'train_dataloader.dataset.stages.{number}'
            parts = EPOCHS * len(self.personas)
            if self.same == 'tokens':
                tokens = round(scale * TOKENS / parts)
                found[f'{place}.dataset.tokens'] = tokens
                found[f'{place}.dataset.count'] = round(1.2 * tokens / LENGTH[persona]) + 200
            else:
                found[f'{place}.dataset.count'] = round(scale * EXAMPLES / parts)
            found[f'{place}.epochs'] = EPOCHS
        return found

    def tokens(self, scale: float) -> float:
        """That are seen, about."""
        if self.same == 'tokens':
            return scale * TOKENS
        share = scale * EXAMPLES / len(self.personas)
        return sum(share * LENGTH[persona] for persona in self.personas)


_KINDS = {
    'answers': ('answers alone', 'answers', ('answer',)),
    'explanations': ('explanations', 'explanations', ('strong',)),
    'progressive': ('terse explanations, then full ones', 'orca', ('intermediate', 'strong')),
}
PREFIX = 'tokens-'
ROWS: Mapping[str, Row] = {
    **{key: Row(*known, 'examples') for key, known in _KINDS.items()},
    **{
        PREFIX + key: Row(f'{label}, same tokens', config, personas, 'tokens')
        for key, (label, config, personas) in _KINDS.items()
    },
}


@dataclass
class Study(Training):
    """A training whose length follows from its packs.

    Args:
        steps: of it, about.
    """

    steps: int = 1

    @property
    def iterations(self) -> int:
        """About."""
        return self.steps

    @property
    def checkpoint(self) -> Path:
        """The export, which is written at the end."""
        return self.work_dir / 'hf'


def clean(found: Mapping[str, float]) -> dict[str, float]:
    """Right answers in percent."""
    return {name: found[name] for name in METRICS}


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The trainings of one seed."""
    home, jobs, scale = folder / f'seed_{seed}', [], QUICK if quick else 1.0
    for key in keys:
        row = ROWS[key]
        config = CONFIGS / f'{row.config}_llama-tiny_world.py'
        known = config_of(config)
        options: dict[str, object] = {
            'randomness.seed': seed,
            **STUDENT,
            **row.options(scale),
            'train_cfg.val_interval': 10**9,
            'default_hooks.logger.interval': 5 if quick else 20,
            'val_dataloader.dataset.name': '+'.join(FILES),
            'val_dataloader.dataset.count': 10 if quick else QUESTIONS,
            'val_cfg.max_new_tokens': 192,
        }
        for number in range(len(row.personas)):
            options[f'train_dataloader.dataset.stages.{number}.dataset.seed'] = seed
        per_step = known.cap * known.batch_size * known.accumulate
        job = Study(
            name=key,
            log=home / f'{key}.log',
            label=row.label,
            key=key,
            seed=seed,
            config=config,
            work_dir=home / key,
            clean=clean,
            headline=METRIC,
            needle='answer/',
            script=script,
            options=options,
            steps=max(1, round(row.tokens(scale) / per_step)),
        )
        job.cost = float(job.steps)
        jobs.append(job)
    name_for_seed(jobs, seed)
    return jobs


HEADINGS = ('test, %', 'longer problems, %', 'other wording, %', 'other task, %')
COLUMNS = dict(zip(HEADINGS, METRICS, strict=True))
GAIN = Gain(
    rows={key: row.label for key, row in ROWS.items()},
    method='explanations',
    baseline='answers',
    metric=METRIC,
    columns=COLUMNS,
    caption=(
        f'Right answers to {QUESTIONS} questions of each kind that were not trained on: of the '
        'same lengths, with one to four steps more, worded otherwise, and of another kind. All '
        f'students of this table see {EXAMPLES:,} questions with answers, repetitions included, '
        'and begin with random weights; they have 0.85 million parameters.'
    ),
    jobs=gain_jobs,
    further=[
        Further(
            title='Same number of tokens',
            rows=[key for key in ROWS if key.startswith(PREFIX)],
            method=f'{PREFIX}explanations',
            columns=COLUMNS,
            caption=(
                f'The same, where all students see {TOKENS:,} tokens: more questions with short '
                'answers, or fewer with explanations.'
            ),
        )
    ],
)


def measure_speed(args: argparse.Namespace, report: object) -> object:
    """Measures; see ``speed.py``."""
    from benchmark.methods import orca_speed

    return orca_speed.measure_speed(args, report)
