"""Filters that look at one answer or prompt by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from mmdistill.core.errors import UserError
from mmkd.registry import TRACE_FILTERS
from mmkd.traces.filters.base import EachFilter
from mmkd.traces.schema import Trace

REFUSALS = Path(__file__).with_name('refusals.yaml')


@TRACE_FILTERS.register_module()
class EmptyAnswer(EachFilter):
    """Objects to an answer without any letter, ``filtered:empty``."""

    rule = 'empty'

    def objects_to(self, trace: Trace) -> bool:
        """Whether there is only space."""
        return not trace.response_text.strip()


@TRACE_FILTERS.register_module()
class UnfinishedAnswer(EachFilter):
    """Objects to an answer that did not end by itself, ``filtered:finish_reason``.

    Args:
        allowed: reasons that are fine; ``''`` is one that is not told, as in imported traces.
    """

    rule = 'finish_reason'

    def __init__(self, allowed: Sequence[str] = ('stop', '')) -> None:
        self.allowed = frozenset(allowed)

    def objects_to(self, trace: Trace) -> bool:
        """Whether it ended for another reason."""
        return trace.finish_reason not in self.allowed


@TRACE_FILTERS.register_module()
class RefusedAnswer(EachFilter):
    """Objects to an answer that begins by refusing, ``filtered:refusal``.

    It changes what a student learns to refuse, so use it knowingly.

    Args:
        phrases: YAML file with ``phrases``, a list; None: our own.
        within: characters from the start in which a phrase must begin.

    Raises:
        UserError: there is no such file, or no list of phrases in it.
    """

    rule = 'refusal'

    def __init__(self, phrases: str | None = None, within: int = 120) -> None:
        self.phrases, self.within = read_phrases(phrases or REFUSALS), within

    def objects_to(self, trace: Trace) -> bool:
        """Whether a phrase is near the start."""
        text = _plain(trace.response_text)
        return any(0 <= text.find(each) < self.within for each in self.phrases)


@TRACE_FILTERS.register_module()
class UnlicensedTrace(EachFilter):
    """Objects to a trace without one of the license tags, ``filtered:license``.

    Args:
        tags: that are fine.
    """

    rule = 'license'

    def __init__(self, tags: Sequence[str]) -> None:
        if isinstance(tags, str) or not tags:
            raise UserError(f'tags: must be a list of license tags, got {tags!r}')
        self.tags = frozenset(tags)

    def objects_to(self, trace: Trace) -> bool:
        """Whether its tag is another one."""
        return trace.license_tag not in self.tags


@TRACE_FILTERS.register_module()
class LongPrompt(EachFilter):
    """Objects to a prompt that leaves no room for an answer, ``filtered:long_prompt``.

    Args:
        max_tokens: of system message and question together.
        count: number of tokens of a text; or the folder of a tokenizer that counts them, without
            the marks that it adds.
    """

    rule = 'long_prompt'

    def __init__(self, max_tokens: int, count: Callable[[str], int] | str) -> None:
        self.max_tokens = max_tokens
        self.count = counter_of(count) if isinstance(count, str) else count

    def objects_to(self, trace: Trace) -> bool:
        """Whether it has more tokens."""
        tokens = self.count(trace.system_text) + self.count(trace.user_text)
        return tokens > self.max_tokens


def read_phrases(path: str | Path) -> list[str]:
    """Phrases of a YAML file, in small letters.

    Raises:
        UserError: there is no such file, or no list of phrases in it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: there is no such file of phrases')
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: no YAML: {" ".join(str(error).split())}') from None
    found = content.get('phrases') if isinstance(content, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        raise UserError(f'{path}: phrases must be a list of texts')
    return [_plain(each) for each in found]


def counter_of(folder: str) -> Callable[[str], int]:
    """Counts tokens with the tokenizer in a folder.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f'{folder}: no tokenizer: {str(error).splitlines()[0]}') from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def _plain(text: str) -> str:
    """Small letters, plain apostrophes and single spaces."""
    return ' '.join(text.casefold().replace('’', "'").split())
