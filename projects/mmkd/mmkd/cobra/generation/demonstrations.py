"""Worked examples of a prompt, made from frames of the user, and which of them are shown.

COBRACORPUS was made with a few fixed examples (arXiv 2306.01985); the random and the diverse choice
are our additions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mmdistill.core.errors import UserError
from mmkd.cobra.generation.prompt_texts import CALLS, COMPLETE, SIDES
from mmkd.cobra.schema import CONTEXT, Frame
from mmkd.traces.hashing import seeded_number

Selection = Literal['fixed', 'random', 'diverse']
SELECTIONS = ('fixed', 'random', 'diverse')
CHECKS = (COMPLETE, 'statementCheck')
"""Columns of a frame's ``extra`` that may say whether its statement is complete."""


@dataclass(frozen=True)
class Demonstration:
    """An example of a call.

    Attributes:
        id: of its frame, or of its pair of frames.
        values: text of every slot that is given or asked for.
    """

    id: str
    values: Mapping[str, str]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Its texts, without the yes or no of whether its statement is complete."""
        return tuple(text for name, text in self.values.items() if name != COMPLETE)

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """:func:`words_of` each of its texts."""
        return tuple(words_of(text) for text in self.texts)

    def holds(self, statement: str) -> bool:
        """Whether a statement occurs in one of its texts, in other case or punctuation even."""
        wanted = words_of(statement)
        if not wanted.strip():
            return any(statement.strip() in text for text in self.texts)
        return any(wanted in text for text in self.contents)


def words_of(text: str) -> str:
    """Words in small letters with a space around each, so that a part of it is one of words."""
    words = re.findall(r'\w+', unicodedata.normalize('NFKC', text).casefold())
    return f' {" ".join(words)} '


def demonstrations_of(kind: str, frames: Sequence[Frame]) -> list[Demonstration]:
    """Examples of a kind of call, in the order of the frames.

    Whether a statement is complete is told by ``complete`` or ``statementCheck`` in ``extra``, yes
    where there is neither. Frames of incomplete ones are no examples of ``explanations`` and
    ``counterfactual``. An example of ``counterfactual`` is made of two frames with one ``pair_id``,
    a harmless and an offensive one by their labels; other frames are left out there.

    Args:
        kind: of call.
        frames: of the user.

    Raises:
        UserError: a frame lacks a slot that is asked for, a pair is not one, or an id occurs twice.
    """
    if kind in ('explanations', 'counterfactual'):
        frames = [frame for frame in frames if _is_complete(frame)]
    if kind == 'counterfactual':
        found = _pairs(frames)
    else:
        found = [(frame.frame_id, _slots(frame)) for frame in frames]
    call = CALLS[kind]
    made: dict[str, Demonstration] = {}
    for key, slots in found:
        values = {name: slots[name] for name in (*call.given, *call.asked)}
        missing = [name for name, text in values.items() if not text.strip()]
        if missing:
            raise UserError(
                f'demonstration {key} of {kind} has no {", ".join(missing)}; fill it in, or remove '
                'it from the demonstrations'
            )
        if key in made:
            raise UserError(f'demonstrations: the id {key} occurs twice; remove one of them')
        made[key] = Demonstration(key, values)
    return list(made.values())


def order_of(
    pool: Sequence[Demonstration], selection: Selection, seed: int, statement_id: str = ''
) -> list[Demonstration]:
    """Examples, those that are to be shown first.

    Args:
        pool: all there are, dozens to hundreds.
        selection: ``fixed``: as they come; ``random``: drawn anew for each statement; ``diverse``:
            the first one is drawn, then always the one whose words are farthest from all before.
        seed: of the draws.
        statement_id: of the statement that is asked about; ``random`` alone heeds it.
    """
    if selection == 'fixed' or not pool:
        return list(pool)
    scope = statement_id if selection == 'random' else ''
    drawn = sorted(pool, key=lambda each: seeded_number('cobra shots', seed, f'{scope}\0{each.id}'))
    return drawn if selection == 'random' else _farthest_first(drawn)


def _farthest_first(pool: Sequence[Demonstration]) -> list[Demonstration]:
    """The first one, then always the one with the largest Jaccard distance to its nearest."""
    words = [frozenset(' '.join(each.contents).split()) for each in pool]
    order, left = [0], dict.fromkeys(range(1, len(pool)), 2.0)
    while left:
        for index in left:
            both, last = words[index], words[order[-1]]
            left[index] = min(left[index], 1 - len(both & last) / max(len(both | last), 1))
        order.append(max(left, key=left.__getitem__))
        del left[order[-1]]
    return [pool[index] for index in order]


def _slots(frame: Frame) -> dict[str, str]:
    """All texts of a frame, with whether its statement is complete."""
    told = [frame.extra[name] for name in CHECKS if name in frame.extra]
    complete = told[0] if told else 'yes'
    return dict(
        statement=frame.statement, **frame.context(), **frame.explanation(), complete=complete
    )


def _is_complete(frame: Frame) -> bool:
    """Whether nothing says that its statement is not."""
    return _slots(frame)[COMPLETE].strip().casefold() != 'no'


def _pairs(frames: Sequence[Frame]) -> list[tuple[str, dict[str, str]]]:
    """Ids and slots of pairs of contexts."""
    pairs: dict[str, dict[int, Frame]] = {}
    for frame in frames:
        if frame.pair_id is None:
            continue
        pair, side = pairs.setdefault(frame.pair_id, {}), _side(frame)
        if side in pair or side is None:
            raise UserError(
                f'demonstration {frame.frame_id}: its pair {frame.pair_id} needs one frame that is '
                'labelled harmless (0) and one that is offensive (1)'
            )
        pair[side] = frame
    return [(key, _pair_slots(key, pair)) for key, pair in pairs.items()]


def _side(frame: Frame) -> int | None:
    """0: harmless, 1: offensive, by the first label that says so."""
    labels = (frame.label_all, frame.label_majority, frame.more_offensive, frame.offensive_bin)
    return next((label for label in labels if label in (0, 1)), None)


def _pair_slots(key: str, pair: Mapping[int, Frame]) -> dict[str, str]:
    """Slots of a pair."""
    if len(pair) < 2 or pair[0].statement != pair[1].statement:
        raise UserError(f'demonstrations: pair {key} needs two frames of one statement')
    found = dict(statement=pair[0].statement)
    for number, side in enumerate(SIDES):
        found.update({f'{side}_{slot}': getattr(pair[number], slot) for slot in CONTEXT})
    return found
