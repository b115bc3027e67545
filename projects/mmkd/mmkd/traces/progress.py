"""Tells how far something long has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar('Item')


def watched(items: Iterable[Item], what: str, every: float = 10.0) -> Iterator[Item]:
    """The same items; a line on stderr says now and then how many have passed.

    Args:
        items: in any number.
        what: happens to them, ``read`` for instance.
        every: seconds between two lines; nothing is said before the first of them are over.
    """
    start = said = time.monotonic()
    for number, item in enumerate(items, 1):
        now = time.monotonic()
        if now - said >= every:
            said = now
            rate = number / (now - start)
            print(f'{what}: {number} rows, {rate:.0f} a second', file=sys.stderr, flush=True)
        yield item
