"""Where calls wait for an endpoint: first come, first served, at the one that is free first."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from mmdistill.core.errors import UserError
from mmkd.teachers.endpoint import Endpoint
from mmkd.teachers.rate_limit import Taken
from mmkd.teachers.retry import CallFailed, Kind

LONGEST_PAUSE = 3600.0
"""Seconds; who has to wait longer had better come back later."""


@dataclass(frozen=True)
class Pass:
    """Leave for one call.

    Attributes:
        endpoint: where to call.
        taken: tokens that it is expected to use.
        started: mark of :class:`~mmkd.teachers.rate_limit.Concurrency`.
    """

    endpoint: Endpoint
    taken: Taken | None
    started: int


class Gate:
    """Admits calls one after the other, each to the endpoint with the earliest admissible time.

    The first in the queue is not overtaken, so that a large question does not starve. Time is that
    of the event loop.

    Args:
        endpoints: that may answer.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints
        self._queue, self._news = asyncio.Lock(), asyncio.Event()

    async def enter(self, prompt: int, completion: int) -> Pass:
        """Waits for its turn, and for an endpoint.

        Args:
            prompt: tokens, about.
            completion: tokens, at most.

        Raises:
            CallFailed: prompt and answer are more than the tokens of a minute of any endpoint.
            UserError: the answer alone is; or all endpoints want to be left alone for long.
        """
        self._check_size(prompt, completion)
        loop, tokens = asyncio.get_running_loop(), prompt + completion
        async with self._queue:
            while True:
                now = loop.time()
                endpoint, when = self._first(tokens, now)
                if when <= now:
                    taken = endpoint.limits.take(tokens, now)
                    return Pass(endpoint, taken, endpoint.calls.start())
                if LONGEST_PAUSE < when - now < math.inf:
                    raise UserError(
                        f'all endpoints want to be left alone, {endpoint.options.id!r} the '
                        f'shortest, for {when - now:.0f} s: run it again then'
                    )
                await self._news_or(when - now)

    def leave(self, leave: Pass, success: bool, crowded: bool, tokens: int) -> None:
        """A call is over.

        Args:
            leave: what :meth:`enter` returned.
            success: it was answered.
            crowded: the endpoint had too many calls.
            tokens: that it used; 0: that is not known.
        """
        leave.endpoint.calls.end(leave.started, success, crowded)
        if tokens:
            leave.endpoint.limits.correct(leave.taken, tokens)
        self._news.set()

    def _first(self, tokens: int, now: float) -> tuple[Endpoint, float]:
        """The endpoint that is free first, the least busy of several, and when."""

        def order(each: Endpoint) -> tuple[float, float]:
            return time_of(each), each.calls.active / each.calls.limit

        def time_of(each: Endpoint) -> float:
            full = each.calls.active >= each.calls.limit
            return math.inf if full else each.limits.earliest(tokens, now)

        best = min(self.endpoints, key=order)
        return best, time_of(best)

    async def _news_or(self, seconds: float) -> None:
        """Waits until a call is over, but not longer than some time."""
        self._news.clear()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), None if seconds == math.inf else seconds)

    def _check_size(self, prompt: int, completion: int) -> None:
        """Refuses what will never fit."""
        bounds = [each.options.tpm for each in self.endpoints]
        if None in bounds or prompt + completion <= max(bounds):
            return
        if completion >= max(bounds):
            raise UserError(
                f'an answer of up to {completion} tokens is more than the {max(bounds)} of a '
                'minute (tpm) of any endpoint: lower max_tokens or raise tpm'
            )
        raise CallFailed(
            Kind.PERMANENT,
            f'about {prompt} tokens and {completion} of the answer are more than the '
            f'{max(bounds)} of a minute (tpm)',
        )
