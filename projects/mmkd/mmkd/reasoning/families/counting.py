"""Things of several kinds, of which one kind is counted."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family, some_of, window
from mmkd.reasoning.words import KINDS


def draft(random: Random, level: int) -> Draft:
    """As many sorts of things as the level says, two to four of each."""
    kind = random.choice(list(KINDS))
    sorts = [sort for each in KINDS.values() for sort in each]
    chosen = random.sample(sorts, level)
    if not set(chosen) & set(KINDS[kind]):
        chosen[random.randrange(level)] = random.choice(KINDS[kind])
    counts = [random.randint(2, 4) for _ in chosen]
    parts = [n if sort in KINDS[kind] else 0 for n, sort in zip(counts, chosen, strict=True)]
    total = sum(parts)
    listed = ', '.join(f'{n} {sort}' for n, sort in zip(counts, chosen, strict=True))
    near = map(str, window(random, total))
    return Draft(
        f'I see {listed}.',
        str(total),
        some_of(random, near, str(total)),
        tuple(str(sum(parts[: n + 1])) for n in range(level)),
        dict(kind=kind),
    )


FAMILY = Family(
    'counting',
    (
        '{body} How many {kind} do I see?',
        '{body} Tell me how many {kind} I see.',
        '{body} Give the number of {kind}.',
        '{body} Find how many {kind} I see.',
    ),
    draft,
)
