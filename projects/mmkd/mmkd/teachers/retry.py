"""What became of a call to an endpoint, and when it is worth another one."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from tenacity import RetryCallState
from tenacity.wait import wait_base

AGAIN = frozenset({408, 409, 425, 429})
"""Statuses below 500 that may be another one next time."""
DENIED = frozenset({401, 402, 403, 404})
"""Statuses that have to do with the account, the address or the model, not with the question."""
NO_CREDIT = frozenset({'insufficient_quota', 'billing_hard_limit_reached'})
"""Codes of a 429 that waiting does not mend."""
TOO_LONG = frozenset(
    {'context_length_exceeded', 'exceed_context_size_error', 'string_above_max_length'}
)
"""Codes of a 400 for more tokens than the model can read."""
_TOO_LONG_WORDS = re.compile(r'context (length|window|size)|prompt is too long', re.IGNORECASE)


class Kind(Enum):
    """Of a failure: worth another call, not, not for its length, not for any question."""

    RETRY = 'retry'
    PERMANENT = 'permanent'
    TOO_LONG = 'too_long'
    DENIED = 'denied'


class CallFailed(Exception):
    """A call without an answer.

    Args:
        kind: what it means for the question.
        reason: one line, without keys and headers.
        status: of HTTP; 0: there was none.
        crowded: the endpoint has too many calls at once.
        retry_after: seconds that the endpoint asks to wait; None: it does not say.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        status: int = 0,
        crowded: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.status = kind, reason, status
        self.crowded, self.retry_after = crowded, retry_after

    @property
    def pauses(self) -> bool:
        """Whether the whole endpoint is to be left alone for a while, not this question only."""
        return self.kind is Kind.RETRY and (self.status == 429 or self.retry_after is not None)


def failure(status: int, error: Mapping[str, Any], headers: Mapping[str, str]) -> CallFailed:
    """What an answer with another HTTP status than 200 means.

    Args:
        status: of HTTP.
        error: ``code``, ``type`` and ``message`` of the body, as far as it has them.
        headers: of the answer.
    """
    codes = {str(error.get(name)) for name in ('code', 'type')}
    message = ' '.join(str(error.get('message') or '').split())
    kind = Kind.PERMANENT
    if status in (400, 413) and (codes & TOO_LONG or _TOO_LONG_WORDS.search(message)):
        kind = Kind.TOO_LONG
    elif status in DENIED or (status == 429 and codes & NO_CREDIT):
        kind = Kind.DENIED
    elif status in AGAIN or status >= 500:
        kind = Kind.RETRY
    quoted = f': {message[:200]}' if message and status not in (401, 403) else ''
    crowded = status in (408, 429, 504) and kind is Kind.RETRY
    return CallFailed(kind, f'HTTP {status}{quoted}', status, crowded, retry_after(headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds seconds or a date; None: no or a bad one.

    A date is compared with the endpoint's own ``Date`` where it tells it, so that a clock that is
    wrong here does no harm.
    """
    text = headers.get('Retry-After', '').strip()
    try:
        seconds = float(text)
    except ValueError:
        when, now = _date(text), _date(headers.get('Date', ''))
        if when is None:
            return None
        return max(0.0, (when - (now or datetime.now(timezone.utc))).total_seconds())
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _date(text: str) -> datetime | None:
    """A date of HTTP, or None."""
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


class FullJitter(wait_base):
    """Waits a time drawn from ``[0, min(cap, base 2^(n-1))]`` after the n-th call.

    A failure that pauses its endpoint needs no wait of its own: the endpoint's is waited for where
    calls are admitted, and another endpoint may answer meanwhile.

    Args:
        base: seconds.
        cap: seconds.
        draw: of a number in ``[0, 1)``.
    """

    def __init__(self, base: float = 0.5, cap: float = 60.0, draw: Any = random.random) -> None:
        self.base, self.cap, self.draw = base, cap, draw

    def seconds(self, attempt: int) -> float:
        """After the n-th call, n from 1 on."""
        return self.draw() * min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))

    def __call__(self, retry_state: RetryCallState) -> float:
        """For tenacity."""
        error = retry_state.outcome.exception()
        if isinstance(error, CallFailed) and error.pauses:
            return 0.0
        return self.seconds(retry_state.attempt_number)


def worth_another(error: BaseException) -> bool:
    """Whether tenacity is to call again."""
    return isinstance(error, CallFailed) and error.kind is Kind.RETRY
