"""Faults that a rehearsal endpoint makes, drawn from a seed; no library is loaded for them."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

PER_QUESTION = ('too_long', 'empty')
"""Faults of a question: they are there in every call for it, or in none."""
SHARES = (
    *('rate_limited', 'server_error', 'unavailable', 'dropped', 'bad_json', 'unauthorized'),
    *('slow', *PER_QUESTION),
)
"""Faults in the order in which they share the numbers from 0 to 1."""


@dataclass(frozen=True)
class Faults:
    """Shares of calls, in [0, 1], that go wrong.

    A fault depends on the seed, the question and how often it was asked before, not on the order in
    which questions arrive.

    Attributes:
        rate_limited: 429 with ``Retry-After``.
        server_error: 500.
        unavailable: 503.
        dropped: the connection closes in the middle of the answer.
        bad_json: 200 with half of the JSON.
        unauthorized: 401.
        slow: answers ``slow_seconds`` later.
        too_long: 400 for too long a context; of questions.
        empty: no content; of questions.
        retry_after: seconds of the header.
        retry_after_date: the header holds a date.
        slow_seconds: of a slow answer.
        seed: of the draws.
    """

    rate_limited: float = 0.0
    server_error: float = 0.0
    unavailable: float = 0.0
    dropped: float = 0.0
    bad_json: float = 0.0
    unauthorized: float = 0.0
    slow: float = 0.0
    too_long: float = 0.0
    empty: float = 0.0
    retry_after: int = 1
    retry_after_date: bool = False
    slow_seconds: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses shares that are none.

        Raises:
            UserError: a negative one, or a sum above 1.
        """
        shares = {name: getattr(self, name) for name in SHARES}
        if min(shares.values()) < 0 or sum(shares.values()) > 1 + 1e-9:
            from mmdistill.core.errors import UserError

            raise UserError(f'faults: shares are to be 0 or more and 1 at most together: {shares}')

    def draw(self, question: str, attempt: int) -> str:
        """Name of the fault of a call, or an empty string.

        Args:
            question: key of the question.
            attempt: calls for it so far, from 0 on.
        """
        of_question = random.Random(f'{self.seed}/{question}').random()
        bound = 1.0
        for name in PER_QUESTION:
            bound -= getattr(self, name)
            if of_question >= bound:
                return name
        left = random.Random(f'{self.seed}/{question}/{attempt}').random() * bound
        for name in SHARES[: -len(PER_QUESTION)]:
            left -= getattr(self, name)
            if left < 0:
                return name
        return ''

    @classmethod
    def names(cls) -> dict[str, type]:
        """Attributes and the types of their values, for a command line."""
        return {each.name: type(each.default) for each in fields(cls)}
