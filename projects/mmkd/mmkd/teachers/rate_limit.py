"""Limits of an endpoint: calls and tokens of a minute, pauses, calls side by side.

State machines without a clock: the caller says what time it is, in seconds that never fall.

A token bucket of r a minute that starts full lets 2 r through within one minute. A sliding window
does not: it remembers what was taken and when, and no minute holds more than r.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

MINUTE = 60.0
BURST = 10.0
"""Seconds; endpoints are said to look at the calls of a few seconds, so a minute's calls are spread
over pieces of this length."""


@dataclass
class Taken:
    """An amount that counts until a time.

    Attributes:
        until: seconds, the first moment at which it does not count.
        amount: calls or tokens.
        counts: whether it still does.
    """

    until: float
    amount: int
    counts: bool = True


class SlidingWindow:
    """Admits at most ``limit`` within any half-open stretch of ``window`` seconds.

    Args:
        limit: calls or tokens.
        window: seconds.
    """

    def __init__(self, limit: int, window: float = MINUTE) -> None:
        self.limit, self.window = limit, window
        self._taken: deque[Taken] = deque()
        self._used = 0

    def earliest(self, amount: int, now: float) -> float:
        """The first time from ``now`` on at which an amount fits if nothing else is taken; inf: it
        is more than the limit."""
        self._forget(now)
        excess = self._used + amount - self.limit
        if amount > self.limit:
            return math.inf
        when = now
        for each in self._taken:
            if excess <= 0:
                break
            excess, when = excess - each.amount, each.until
        return when

    def take(self, amount: int, now: float) -> Taken:
        """Counts an amount from ``now`` on, which has to be a time at which it fits."""
        self._forget(now)
        taken = Taken(now + self.window, amount)
        self._taken.append(taken)
        self._used += amount
        return taken

    def correct(self, taken: Taken, amount: int) -> None:
        """Says how much it was in truth: less is given back at once; more is a debt, which keeps
        others out until it has left the window."""
        if taken.counts:
            self._used += amount - taken.amount
        taken.amount = amount

    def _forget(self, now: float) -> None:
        """Drops what has left the window."""
        while self._taken and self._taken[0].until <= now:
            gone = self._taken.popleft()
            gone.counts = False
            self._used -= gone.amount


class Limits:
    """Calls and tokens of a minute of one endpoint, and the time until which it wants no calls.

    Args:
        rpm: calls of a minute; None: any number. They are spread over the minute: at most a sixth,
            rounded up, within ten seconds.
        tpm: tokens of a minute, prompts and answers together; None: any number.
    """

    def __init__(self, rpm: int | None = None, tpm: int | None = None) -> None:
        self._calls = []
        if rpm is not None:
            burst = math.ceil(rpm * BURST / MINUTE)
            self._calls = [SlidingWindow(rpm), SlidingWindow(burst, BURST)]
        self._tokens = None if tpm is None else SlidingWindow(tpm)
        self.paused_until = -math.inf

    def earliest(self, tokens: int, now: float) -> float:
        """The first time from ``now`` on for a call of so many tokens; inf: it is too large."""
        times = [now, self.paused_until, *(each.earliest(1, now) for each in self._calls)]
        if self._tokens is not None:
            times.append(self._tokens.earliest(tokens, now))
        return max(times)

    def take(self, tokens: int, now: float) -> Taken | None:
        """Counts a call; what it returns is for :meth:`correct`."""
        for each in self._calls:
            each.take(1, now)
        return None if self._tokens is None else self._tokens.take(tokens, now)

    def correct(self, taken: Taken | None, tokens: int) -> None:
        """Puts the tokens that a call used in the place of those that were expected."""
        if self._tokens is not None and taken is not None:
            self._tokens.correct(taken, tokens)

    def pause_until(self, when: float) -> None:
        """Admits nothing before a time; of several the last one holds."""
        self.paused_until = max(self.paused_until, when)


class Concurrency:
    """How many calls may run side by side: additive increase, multiplicative decrease.

    A round of successes, as many as may run, allows one more; a call that met a crowded endpoint
    halves. Calls of before a halving do not halve again.

    Args:
        most: calls that may ever run side by side; the start.
    """

    def __init__(self, most: int) -> None:
        self.most = self.limit = most
        self.active = 0
        self._successes = self._halvings = 0

    def start(self) -> int:
        """A call starts; what it returns is for :meth:`end`."""
        self.active += 1
        return self._halvings

    def end(self, started: int, success: bool = False, crowded: bool = False) -> None:
        """A call is over.

        Args:
            started: what :meth:`start` returned.
            success: it was answered.
            crowded: it was refused as one too many, or timed out.
        """
        self.active -= 1
        if crowded and started == self._halvings:
            self.limit = max(1, self.limit // 2)
            self._halvings, self._successes = self._halvings + 1, 0
        elif success:
            self._successes += 1
            if self._successes >= self.limit:
                self.limit, self._successes = min(self.most, self.limit + 1), 0
