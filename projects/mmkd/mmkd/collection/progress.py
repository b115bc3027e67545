"""How far a collection is, what it took, and how long the rest will take."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mmdistill.core.checkpoint_io import write_atomic
from mmkd.traces.schema import Trace, Usage


class Prices(BaseModel):
    """Of 1000 tokens.

    Attributes:
        prompt: of what is asked.
        completion: of what is answered.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    prompt: float = Field(0.0, ge=0)
    completion: float = Field(0.0, ge=0)

    def cost(self, usage: Usage) -> float:
        """Of a call."""
        return (usage.prompt * self.prompt + usage.completion * self.completion) / 1000


class Progress:
    """Counts the rows of a shard, those of earlier starts among them.

    Args:
        total: rows that there will be, as far as is known.
        prices: of tokens.
        by_endpoint: other prices by alias of the endpoint.
        clock: seconds.

    Attributes:
        rows: that are kept.
        new: of those, since this start.
        cost: of all rows, by the prices.
    """

    def __init__(
        self,
        total: int,
        prices: Prices | None = None,
        by_endpoint: Mapping[str, Prices] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.rows, self.new, self.cost = total, 0, 0, 0.0
        self._prices, self._by_endpoint = prices or Prices(), by_endpoint or {}
        self._statuses: Counter[str] = Counter()
        self._prompt = self._completion = 0
        self._clock, self._start = clock, clock()

    def price_of(self, trace: Trace) -> float:
        """Cost of a row."""
        return self._by_endpoint.get(trace.endpoint_id, self._prices).cost(trace.usage)

    def found(self, trace: Trace) -> None:
        """Counts a row of an earlier start."""
        self.rows += 1
        self.cost += self.price_of(trace)
        self._prompt += trace.usage.prompt
        self._completion += trace.usage.completion
        self._statuses[trace.status] += 1

    def added(self, trace: Trace) -> None:
        """Counts a row that is kept now."""
        self.found(trace)
        self.new += 1

    def begin(self) -> None:
        """Starts the clock: asking begins."""
        self._start = self._clock()

    def line(self) -> str:
        """One line for people."""
        rate = self._rate()
        left = max(self.total - self.rows, 0)
        share = f' ({self.rows / self.total:.1%})' if self.total else ''
        parts = [
            f'{self.rows:,} of {self.total:,} rows{share}',
            f'{rate:,.1f} rows/s',
            f'{duration(left / rate) if rate else "?"} left',
            f'{self._prompt:,} + {self._completion:,} tokens',
        ]
        if self.cost:
            parts.append(f'cost {self.cost:,.2f}')
        told = ', '.join(f'{count:,} {name}' for name, count in sorted(self._statuses.items()))
        return ', '.join(parts) + (f': {told}' if told else '')

    def summary(self) -> dict[str, Any]:
        """The same for programs: ``seconds``, ``rows_per_second`` and ``new`` are of this start."""
        return dict(
            rows=self.rows,
            total=self.total,
            new=self.new,
            statuses=dict(sorted(self._statuses.items())),
            tokens=dict(prompt=self._prompt, completion=self._completion),
            cost=round(self.cost, 6),
            seconds=round(self._clock() - self._start, 3),
            rows_per_second=round(self._rate(), 3),
        )

    def _rate(self) -> float:
        """Rows of a second since the start."""
        seconds = self._clock() - self._start
        return self.new / seconds if seconds > 0 else 0.0


def duration(seconds: float) -> str:
    """Seconds as ``3 d 04 h``, ``2 h 05 m``, ``7 m 01 s`` or ``12 s``."""
    whole = round(seconds)
    for size, name, smaller, part in ((86400, 'd', 3600, 'h'), (3600, 'h', 60, 'm')):
        if whole >= size:
            return f'{whole // size} {name} {whole % size // smaller:02d} {part}'
    return f'{whole // 60} m {whole % 60:02d} s' if whole >= 60 else f'{whole} s'


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Writes a summary as JSON, at once."""
    text = json.dumps(summary, indent=1)
    write_atomic(path, lambda file: file.write(text.encode()))
