"""Walks on a grid, days of the week, and coins."""

from __future__ import annotations

import re

from mmkd.reasoning.chain import Method, Reading
from mmkd.reasoning.words import DAYS, DIRECTIONS

_AHEAD = dict(north=(0, 1), east=(1, 0), south=(0, -1), west=(-1, 0))
_QUARTERS = dict(left=-1, right=1, round=2)
Place = tuple[str, int, int]
"""Direction and coordinates."""


def _read_walk(text: str) -> Reading | None:
    """Of a walk."""
    start = re.match(r'You are at (\d+) (\d+) and face (\w+)\.', text)
    moves = re.findall(r'(Walk|Turn) (\w+)\.', text)
    if not start or not moves:
        return None
    return Reading((start[3], int(start[1]), int(start[2])), tuple(moves))


def _walk(state: Place, move: tuple[str, str]) -> Place:
    """After a move."""
    facing, x, y = state
    verb, how = move
    if verb == 'Turn':
        turned = DIRECTIONS.index(facing) + _QUARTERS[how]
        return DIRECTIONS[turned % len(DIRECTIONS)], x, y
    across, up = _AHEAD[facing]
    return facing, x + int(how) * across, y + int(how) * up


def _read_days(text: str) -> Reading | None:
    """Of days on and back."""
    start = re.match(r'It is (\w+day)\.', text)
    moves = re.findall(r'Go (\d+) days (on|back)\.', text)
    return Reading(start[1], tuple((int(n), way) for n, way in moves)) if start and moves else None


def _later(day: str, move: tuple[int, str]) -> str:
    """One day after the other."""
    after = dict(zip(DAYS, (*DAYS[1:], DAYS[0]), strict=True))
    following = after if move[1] == 'on' else {late: early for early, late in after.items()}
    for _ in range(move[0]):
        day = following[day]
    return day


def _read_coin(text: str) -> Reading | None:
    """Of a coin."""
    start = re.match(r'The coin shows (heads|tails)\.', text)
    moves = re.findall(r'(\w+) (flips it|lets it be)\.', text)
    return Reading(start[1], tuple(moves)) if start and moves else None


def _flipped(side: str) -> str:
    """The other side."""
    return 'tails' if side == 'heads' else 'heads'


NAVIGATE = Method(
    'navigate',
    read=_read_walk,
    apply=_walk,
    tell=lambda state, move: f'{move[0]} {move[1]}:',
    show=lambda state: f'{state[0]}, {state[1]} {state[2]}',
    wrong=lambda state: (state[0], state[1] + 1, state[2]),
    answer=lambda state, ask: f'{state[1]} {state[2]}',
    opens=True,
)
WEEKDAYS = Method(
    'weekdays',
    read=_read_days,
    apply=_later,
    tell=lambda day, move: f'{day}, {move[0]} days {move[1]}:',
    show=str,
    wrong=lambda day: _later(day, (1, 'on')),
    answer=lambda day, ask: day,
)
COINS = Method(
    'coins',
    read=_read_coin,
    apply=lambda side, move: _flipped(side) if move[1] == 'flips it' else side,
    tell=lambda side, move: f'{side}, {move[0]} {move[1]}:',
    show=str,
    wrong=_flipped,
    answer=lambda side, ask: side,
)
