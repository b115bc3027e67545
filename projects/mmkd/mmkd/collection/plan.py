"""What a user says of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.collection.progress import Prices
from mmkd.traces.schema import Sampling


class StageTwo(BaseModel):
    """Questions that are drawn from those that another run has answers to.

    Attributes:
        folder: run directory of the first stage.
        count: of questions.
        seed: another one draws others.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    folder: Path
    count: int = Field(gt=0)
    seed: int = 0


class Plan(BaseModel):
    """A collection.

    Attributes:
        teacher: config of a teacher.
        run_dir: where everything goes.
        queries: files of questions, in the order of asking.
        stage_two: draws questions instead.
        sampling: how the teacher draws.
        samples: answers to each question.
        license_tag: of every row.
        max_rows: in the run directory, split among shards; None: no limit.
        max_cost: of all rows in the run directory, split among shards; None: no limit.
        prices: of tokens, where the teacher's endpoints have no others.
        retry_failed: asks again for rows that have failed.
        allow_change: keys of the manifest that may differ from an earlier start.
        custom_imports: modules with teachers of your own, as mmengine's configs have them.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    teacher: dict[str, Any]
    run_dir: Path
    queries: tuple[Path, ...] = ()
    stage_two: StageTwo | None = None
    sampling: Sampling = Sampling()
    samples: int = Field(1, gt=0)
    license_tag: str = ''
    max_rows: int | None = Field(None, ge=0)
    max_cost: float | None = Field(None, ge=0)
    prices: Prices = Prices()
    retry_failed: bool = False
    allow_change: tuple[str, ...] = ()
    custom_imports: dict[str, Any] | None = None

    def endpoint_prices(self) -> dict[str, Prices]:
        """Prices by alias, of endpoints of the teacher that have some."""
        given = self.teacher.get('endpoints', ())
        endpoints = [given] if isinstance(given, Mapping) else list(given)
        found = {}
        for number, each in enumerate(endpoints):
            alias = each.get('id', 'default' if len(endpoints) == 1 else f'endpoint{number}')
            prices = {
                name: each[f'{name}_price']
                for name in ('prompt', 'completion')
                if each.get(f'{name}_price')
            }
            if prices:
                found[alias] = Prices(**prices)
        return found


def read_plan(config: Mapping[str, Any], where: str) -> Plan:
    """The plan of a config; names that are near none of its keys are variables of the config.

    Args:
        config: its values.
        where: its file, for messages.

    Raises:
        UserError: a key is missing or misspelt, or its value will not do.
    """
    known = Plan.model_fields
    for key in config:
        near = did_you_mean(key, known, 0.8) if key not in known else ''
        if near:
            raise UserError(f'{where}: unknown key {key!r}{near}; rename it')
    given = {key: value for key, value in config.items() if key in known and value is not None}
    if isinstance(given.get('queries'), (str, Path)):
        given['queries'] = (given['queries'],)
    try:
        plan = Plan(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = '.'.join(str(each) for each in first['loc'])
        raise UserError(f'{where}: {name}: {first["msg"]}') from None
    if bool(plan.queries) == bool(plan.stage_two):
        raise UserError(f'{where}: give queries, or draw them with stage_two, one of both')
    priced = [plan.prices, *plan.endpoint_prices().values()]
    if plan.max_cost is not None and not any(each.prompt or each.completion for each in priced):
        raise UserError(f'{where}: max_cost needs prices = dict(prompt=..., completion=...)')
    return plan
