"""Numbers as JSON, and how long it will still take."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


def plain(value: Any) -> Any:
    """The same with None for numbers that JSON does not have: infinite ones and no numbers."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes numbers, whole or not at all."""
    part = path.with_name(f'{path.name}.part')
    part.write_text(json.dumps(plain(content), indent=1, allow_nan=False))
    part.replace(path)


class ProgressLine:
    """Prints how much is done and how long the rest will take.

    Args:
        name: of what is done.
        every: seconds between two lines; the last one always comes.
        stream: default stderr.
        clock: gives seconds.
    """

    def __init__(
        self,
        name: str,
        every: float = 5.0,
        stream: TextIO | None = None,
        clock: Any = time.monotonic,
    ) -> None:
        self.name, self.every, self.clock = name, every, clock
        self.stream = sys.stderr if stream is None else stream
        self.start = self.last = clock()

    def __call__(self, done: int, total: int) -> None:
        """Prints, when it is time."""
        now = self.clock()
        if done < total and now - self.last < self.every:
            return
        self.last, spent = now, now - self.start
        left = f'{spent / done * (total - done):.0f} s left' if done < total else f'{spent:.0f} s'
        print(f'{self.name}: {done} of {total}, {left}', file=self.stream, flush=True)
