"""A filter of answers that choose another option than the source does."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from mmkd.evaluation.language.parsers import anchored, normalised
from mmkd.registry import TRACE_FILTERS
from mmkd.traces.filters.base import EachFilter
from mmkd.traces.options import listed_options
from mmkd.traces.schema import Trace


@TRACE_FILTERS.register_module()
class WrongAnswer(EachFilter):
    """Objects to an answer that chooses another option than the target, ``filtered:target``.

    It looks at multiple-choice questions with a target alone, and lets pass what it cannot decide:
    a target that is no listed option, or an answer that names none clearly. SlimOrca leaves such
    answers out too, but asks a language model whether they agree.
    """

    rule = 'target'

    def objects_to(self, trace: Trace) -> bool:
        """Whether it chooses another option."""
        if not trace.is_mc or trace.target is None:
            return False
        letters, texts = listed_options(trace.user_text)
        wanted = option_number(trace.target, letters, texts)
        chosen = chosen_option(trace.response_text, letters, texts)
        return None not in (wanted, chosen) and wanted != chosen


def option_number(target: str, letters: Sequence[str], texts: Sequence[str]) -> int | None:
    """Which option a target is, from 0; None: it is none of them, or not one alone.

    Args:
        target: a letter, perhaps with marks, or the text of an option, or both.
        letters: of the options; empty: they have none.
        texts: of the options.
    """
    plain = normalised(target)
    bare = plain.strip('().: ')
    for n, letter in enumerate(letters):
        low = letter.lower()
        if bare == low or plain.startswith((f'({low})', f'{low})', f'{low}. ', f'{low}: ')):
            return n
    same = [n for n, text in enumerate(texts) if normalised(text) == plain]
    return same[0] if len(same) == 1 else None


def chosen_option(response: str, letters: Sequence[str], texts: Sequence[str]) -> int | None:
    """Which option an answer chooses, from 0; None: it names none clearly.

    Args:
        response: the answer.
        letters: of the options; empty: they have none.
        texts: of the options.
    """
    if not texts:
        return None
    if letters and tuple(letters) == tuple(ascii_uppercase[: len(letters)]):
        found = anchored(response, letters)
        if found is not None:
            return list(letters).index(found)
    if len({text.casefold() for text in texts}) < len(texts):
        return None
    # a text of one letter would be read as a letter of an option
    if all(len(text) > 1 for text in texts):
        found = anchored(response, texts)
        return None if found is None else list(texts).index(found)
    return None
