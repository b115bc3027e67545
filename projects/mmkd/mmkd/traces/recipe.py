"""A mixture of queries: how much of which sub-collection, and what is left out.

The default is the one of Orca (arXiv:2306.02707, the numbers as two replications read them): CoT as
a whole, at most 300 of every task of NiV2, 2.5 million of FLAN 2021 and 2 million of T0; zero-shot
templates alone, no dialogues, and no task of BIG-Bench, which is kept for evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.traces.sampling import random_quotas, waterfill_quotas
from mmkd.traces.schema import Query

BIG_BENCH = ('*bigbench*', '*big_bench*', '*big-bench*', '*bbh*')


class Part(BaseModel):
    """What is drawn of a sub-collection.

    Attributes:
        algorithm: ``all``; ``stratified``, all of every task up to its cap; ``waterfill`` or
            ``random``, see :mod:`mmkd.traces.sampling`.
        size: queries in all, for ``waterfill`` and ``random``.
        cap: queries of a task that are drawn from at most; ``stratified`` needs it, 300 in Orca.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    algorithm: Literal['all', 'stratified', 'waterfill', 'random']
    size: int | None = Field(None, ge=0)
    cap: int | None = Field(None, gt=0)

    @model_validator(mode='after')
    def _complete(self) -> Part:
        """Refuses what the algorithm does not use, and asks for what it needs."""
        sized = self.algorithm in ('waterfill', 'random')
        if sized != (self.size is not None):
            raise ValueError(f'{self.algorithm} {"needs a" if sized else "has no"} size')
        if self.algorithm == 'stratified' and self.cap is None:
            raise ValueError('stratified needs a cap')
        if self.algorithm == 'all' and self.cap is not None:
            raise ValueError('all has no cap; stratified has')
        return self

    def quotas(self, sizes: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Queries ``(T,)`` that are drawn of each task.

        Args:
            sizes: ``(T,)`` queries of each task.
            random: generator.
        """
        capped = np.minimum(sizes, self.cap) if self.cap else np.asarray(sizes)
        if self.algorithm in ('all', 'stratified'):
            return capped
        function = waterfill_quotas if self.algorithm == 'waterfill' else random_quotas
        return function(capped, self.size, random)


class Recipe(BaseModel):
    """A mixture.

    Attributes:
        parts: by sub-collection; others are left out.
        templates: patterns of template types, one of which a query must have.
        excluded_collections: sub-collections that are left out by name.
        excluded_tasks: patterns of ``SUB_COLLECTION/TASK`` that are left out, in any case.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    parts: dict[str, Part]
    templates: tuple[str, ...] = ('zs_*',)
    excluded_collections: tuple[str, ...] = ('dialog',)
    excluded_tasks: tuple[str, ...] = BIG_BENCH

    def left_out(self, query: Query) -> str:
        """Why a query cannot be drawn; empty: it can.

        ``few_shot``: its template; ``collection``: excluded by name; ``task``: excluded by a
        pattern, BIG-Bench by default; ``no_part``: the mixture has no such sub-collection.

        Args:
            query: with sub-collection, task and template.
        """
        if query.sub_collection in self.excluded_collections:
            return 'collection'
        if not any(fnmatchcase(query.template_type, each) for each in self.templates):
            return 'few_shot'
        name = f'{query.sub_collection}/{query.task_name}'.lower()
        if any(fnmatchcase(name, each.lower()) for each in self.excluded_tasks):
            return 'task'
        return '' if query.sub_collection in self.parts else 'no_part'


ORCA = Recipe(
    parts=dict(
        cot=Part(algorithm='all'),
        niv2=Part(algorithm='stratified', cap=300),
        flan2021=Part(algorithm='waterfill', size=2_500_000),
        t0=Part(algorithm='waterfill', size=2_000_000),
    )
)


def read_recipe(content: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from a config.

    Args:
        content: fields of :class:`Recipe`.
        where: file and key, for the message.

    Raises:
        UserError: an unknown key, or a value that cannot be; the message names it.
    """
    for key in content:
        if key not in Recipe.model_fields:
            near = did_you_mean(key, Recipe.model_fields)
            raise UserError(f'{where}: unknown key {key!r}{near}; known: {[*Recipe.model_fields]}')
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(each) for each in first['loc'])
        raise UserError(f'{where}: {key}: {first["msg"]}') from None


def parse_part(text: str) -> tuple[str, Part]:
    """Sub-collection and part of ``NAME=ALGORITHM[:NUMBER[:CAP]]``.

    ``cot=all``, ``niv2=stratified:300``, ``t0=waterfill:2000000`` or ``t0=random:2000:50``; the
    number is the cap of ``stratified`` and the size of the others.

    Args:
        text: of the command line.

    Raises:
        UserError: it has another form.
    """
    name, _, rest = text.partition('=')
    algorithm, *numbers = rest.split(':')
    keys = ('cap',) if algorithm == 'stratified' else ('size', 'cap')
    if (
        not name
        or not rest
        or len(numbers) > len(keys)
        or not all(each.isdecimal() for each in numbers)
    ):
        raise UserError(f'part {text!r}: write NAME=ALGORITHM[:SIZE[:CAP]], or =stratified:CAP')
    options = dict(zip(keys, map(int, numbers), strict=False))
    recipe = read_recipe(dict(parts={name: dict(algorithm=algorithm, **options)}), f'part {text!r}')
    return name, recipe.parts[name]
