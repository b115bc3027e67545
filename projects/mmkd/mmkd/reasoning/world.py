"""Problems by family, seed, index and difficulty, and the split that each one belongs to."""

from __future__ import annotations

from random import Random
from typing import Literal

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.reasoning.families import (
    arithmetic,
    boolean,
    brackets,
    coins,
    counting,
    lists,
    navigate,
    ordering,
    swaps,
    weekdays,
)
from mmkd.reasoning.problem import LEVELS, Draft, Problem
from mmkd.reasoning.words import LETTERS
from mmkd.traces.hashing import seeded_number

_MODULES = (
    *(arithmetic, boolean, brackets, coins, counting),
    *(lists, navigate, ordering, swaps, weekdays),
)
FAMILIES = {each.FAMILY.name: each.FAMILY for each in _MODULES}
"""By name."""
Split = Literal['train', 'dev', 'test']
SPLITS: dict[str, tuple[int, int]] = dict(train=(0, 80), dev=(80, 90), test=(90, 100))
"""Percent of the hashes of a split, from and to."""


def make_problem(
    family: str,
    seed: int,
    index: int,
    difficulty: int,
    template: int = 0,
    multiple_choice: bool = False,
) -> Problem:
    """The problem of these numbers, always the same.

    Args:
        family: name of :data:`FAMILIES`.
        seed: another one gives other problems.
        index: within the family.
        difficulty: level, 1 to 6.
        template: number of the wording; -1: the held-out one.
        multiple_choice: whether options are listed.

    Raises:
        UserError: an unknown family, level or template.
    """
    if family not in FAMILIES:
        raise UserError(
            f'no family {family!r}{did_you_mean(family, FAMILIES)}; known: {", ".join(FAMILIES)}'
        )
    if difficulty not in LEVELS:
        raise UserError(f'difficulty must be {LEVELS[0]} to {LEVELS[-1]}, got {difficulty}')
    templates = FAMILIES[family].templates
    if not -1 <= template < len(templates):
        raise UserError(
            f'template of {family} must be 0 to {len(templates) - 1}, or -1 for the last, got '
            f'{template}'
        )
    template %= len(templates)
    random = Random(seeded_number('world problem', seed, f'{family} {difficulty} {index}'))
    draft = FAMILIES[family].draft(random, difficulty)
    question = templates[template].format(body=draft.body, **draft.ask)
    core = ' | '.join([family, draft.body, *draft.ask.values()])
    answer, options = draft.answer, ()
    if multiple_choice:
        options = _options(draft, random)
        question = '\n'.join([question, 'Options:', *map(' '.join, _lettered(options))])
        answer = f'({LETTERS[options.index(answer)]})'
    return Problem(
        family, index, difficulty, template, question, answer, options, draft.steps, core
    )


def split_of(core: str) -> Split:
    """The split of what is asked, whatever the seed, the wording and the options.

    So no question of one split is a paraphrase of one of another.

    Args:
        core: of a :class:`~mmkd.reasoning.problem.Problem`.
    """
    percent = seeded_number('world split', 0, core) % 100
    return next(name for name, (start, end) in SPLITS.items() if start <= percent < end)


def _options(draft: Draft, random: Random) -> tuple[str, ...]:
    """The right answer among wrong ones, each place with the same probability."""
    found = list(draft.wrong[: len(LETTERS) - 1])
    found.insert(random.randint(0, len(found)), draft.answer)
    return tuple(found)


def _lettered(options: tuple[str, ...]) -> list[tuple[str, str]]:
    """Letters in brackets, and options."""
    return [(f'({letter})', option) for letter, option in zip(LETTERS, options, strict=False)]
