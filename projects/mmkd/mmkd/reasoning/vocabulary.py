"""A tokenizer of the world: each of its words is a token."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from mmkd.language.templates import CHATML, PLAIN
from mmkd.language.word_tokenizer import MARKS, word_backend, word_entries, word_tokenizer
from mmkd.reasoning import words
from mmkd.reasoning.explain import Detail, explanation
from mmkd.reasoning.messages import world_messages
from mmkd.reasoning.problem import LEVELS
from mmkd.reasoning.solver import solve
from mmkd.reasoning.world import FAMILIES, make_problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = (*MARKS, *CHATML.tokens)
REFUSAL = 'I am sorry, but I cannot help with this.'
UNKNOWN = 'I do not know how to answer this.'
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_SAMPLES = 12


@lru_cache(maxsize=1)
def entries() -> tuple[str, ...]:
    """All tokens in the order of their numbers; the same for the same world."""
    return word_entries(_texts(), SPECIAL)


class Vocabulary:
    """Counts and cuts texts without the library of models.

    Attributes:
        backend: tokenizer of the library ``tokenizers``.
    """

    def __init__(self) -> None:
        self.backend = word_backend(entries(), SPECIAL)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.backend.encode(text).ids)

    def first(self, text: str, count: int) -> str:
        """The beginning of a text, ``count`` tokens of it."""
        return text[: self._ends(text)[count - 1]] if count else ''

    def shortened(self, text: str, number: int) -> str:
        """A beginning that lacks one token at least, empty where there is only one.

        Args:
            text: cut between two tokens.
            number: chooses the place.
        """
        return self.first(text, number % len(self._ends(text)))

    def _ends(self, text: str) -> list[int]:
        """Where every token ends."""
        return [end for _, end in self.backend.encode(text).offsets]


def world_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer for ``transformers``, with the chat template of ``chatml``."""
    return word_tokenizer(entries(), SPECIAL, chat_template=CHAT_TEMPLATE)


def _texts() -> list[str]:
    """Texts that have all words of the world."""
    plain = [
        *(words.NAMES + words.COLOURS + words.DAYS + words.DIRECTIONS + words.ORDINALS),
        *(each for kind, sorts in words.KINDS.items() for each in (kind, *sorts)),
        *(words.SIDES + words.TRUTHS),
        *map(str, range(words.LARGEST + 1)),
        *(f'({letter})' for letter in words.LETTERS),
    ]
    found = [f'{each} {each}' for each in plain] + [REFUSAL, UNKNOWN]
    found += [message.text for message in world_messages().messages.values()]
    for template in (PLAIN, CHATML):
        found += [*template.system, *template.user, template.response]
    for family, about in FAMILIES.items():
        for level in LEVELS:
            for index in range(_SAMPLES):
                template = index % len(about.templates)
                problem = make_problem(family, 0, index, level, template, index % 2 == 0)
                found += [problem.question]
                found += [explanation(solve(problem.question), each) for each in Detail]
    return [re.sub('|'.join(map(re.escape, CHATML.tokens)), '', text) for text in found]
