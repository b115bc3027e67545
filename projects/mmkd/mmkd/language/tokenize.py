"""Prompts and answers as tokens; an answer's own tokens are known by where it begins.

Prompt and answer are tokenized by themselves and joined as numbers, so that no token reaches across
the border. The answer ends in EOS, which is learned; the paper does not say whether it is (Orca,
arXiv:2306.02707), it is our completion.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from mmdistill.core.errors import UserError
from mmkd.language.templates import Piece, Template
from mmkd.traces.schema import digest

OVER_LENGTH = ('drop', 'truncate_response')


class Row(NamedTuple):
    """An example: ``key`` of at most 32 bytes, ``system`` message, ``user`` question, answer."""

    key: str
    system: str
    user: str
    response: str


class Encoded(NamedTuple):
    """An example as ``tokens`` ``(n,)`` int32, the first ``prompt_len`` of which are the prompt."""

    key: str
    tokens: np.ndarray
    prompt_len: int


def rows_of(triples: Iterable[Sequence[str]]) -> Iterator[Row]:
    """Examples of (system, user, response), with a key of their content."""
    for system, user, response in triples:
        yield Row(digest([system, user, response]), system, user, response)


def tokenizer_digest(tokenizer: Any) -> str:
    """Key of what a tokenizer makes of texts, 64 hexadecimal digits; its chat template is not part.

    Args:
        tokenizer: of ``transformers``.
    """
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content = {key: each for key, each in content.items() if key not in _STATE}
    else:
        content = dict(type=type(tokenizer).__name__, vocab=tokenizer.get_vocab())
    content = [content, tokenizer.bos_token_id, tokenizer.eos_token_id]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


_STATE = ('truncation', 'padding')


class PromptEncoder:
    """Makes tokens of system messages and questions, in training and when answers are asked for.

    Args:
        tokenizer: of ``transformers``.
        template: of the prompts.

    Attributes:
        end_id: token that ends an answer.

    Raises:
        UserError: the tokenizer lacks a token that the template needs.
    """

    def __init__(self, tokenizer: Any, template: Template) -> None:
        self.tokenizer, self.template = tokenizer, template
        for text in template.tokens:
            self._single(text)
        self.end_id = tokenizer.eos_token_id
        if template.ending is not None:
            self.end_id = self._single(template.ending)
        if self.end_id is None:
            raise UserError('the tokenizer has no EOS token to end an answer with: give it one')
        bos = tokenizer.bos_token_id
        begins = bos is not None and tokenizer('a')['input_ids'][:1] == [bos]
        self._lead = [bos] if begins and template.with_bos else []

    def __call__(self, pairs: Iterable[tuple[str, str]]) -> list[list[int]]:
        """Tokens of each (system, user), up to where the answer begins."""
        rows = [self.template.pieces(self.tokenizer, *pair) for pair in pairs]
        numbers = self._numbers(piece for pieces in rows for piece in pieces)
        return [[*self._lead, *(n for each in row for n in numbers[each])] for row in rows]

    def texts(self, texts: Iterable[str]) -> list[list[int]]:
        """Tokens of texts in which no special token counts."""
        pieces = [Piece(text, False) for text in texts]
        numbers = self._numbers(pieces)
        return [numbers[each] for each in pieces]

    def _numbers(self, pieces: Iterable[Piece]) -> dict[Piece, list[int]]:
        """Tokens of the pieces; each one is tokenized once."""
        pieces = list(dict.fromkeys(pieces))
        found: dict[Piece, list[int]] = {each: [] for each in pieces}
        for markup in (True, False):
            chosen = [each for each in pieces if each.text and each.markup is markup]
            if chosen:
                tokens = self._tokens([each.text for each in chosen], markup)
                found.update(zip(chosen, tokens, strict=True))
        return found

    def _tokens(self, texts: list[str], markup: bool) -> list[list[int]]:
        """Tokens of texts."""
        return self.tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=not markup,
            return_attention_mask=False,
            verbose=False,
        )['input_ids']

    def _single(self, text: str) -> int:
        """The token that is this text.

        Raises:
            UserError: there is none.
        """
        found = self._tokens([text], True)[0]
        if len(found) != 1 or found[0] == self.tokenizer.unk_token_id:
            raise UserError(
                f'template {self.template.name!r} needs the token {text!r}, which the tokenizer '
                'lacks: add it as a special token, or use another template'
            )
        return found[0]


class RowEncoder:
    """Makes tokens of examples and counts what happens to them.

    Args:
        tokenizer: of ``transformers``.
        template: of the prompts.
        max_len: tokens of an example at most, EOS included.
        over_length: ``drop`` leaves longer ones out; ``truncate_response`` cuts their answers,
            which then have no EOS, and leaves out those of which nothing would remain.

    Attributes:
        counts: ``read``, ``kept``, ``dropped`` (too long), ``truncated``, ``empty`` (answers
            without a token, left out), ``tokens`` and ``response_tokens`` (EOS included).
        sha256: of keys and tokens of what was kept, 64 hexadecimal digits.

    Raises:
        UserError: see :class:`PromptEncoder`; or another ``over_length``.
    """

    def __init__(
        self, tokenizer: Any, template: Template, max_len: int, over_length: str = 'drop'
    ) -> None:
        if over_length not in OVER_LENGTH:
            raise UserError(
                f'over_length must be one of {", ".join(OVER_LENGTH)}, got {over_length!r}'
            )
        if max_len < 2:
            raise UserError(f'max_len must be at least 2 tokens, got {max_len}')
        self.prompts = PromptEncoder(tokenizer, template)
        self.max_len, self.over_length = max_len, over_length
        names = ('read', 'kept', 'dropped', 'truncated', 'empty', 'tokens', 'response_tokens')
        self.counts = Counter(dict.fromkeys(names, 0))
        self._hash = hashlib.sha256()

    def __call__(self, rows: Iterable[Row], batch: int = 1024) -> Iterator[list[Encoded]]:
        """Examples that are kept, as many at a time as come of ``batch`` rows.

        Raises:
            UserError: a prompt without a token.
        """
        rows = iter(rows)
        while part := list(islice(rows, batch)):
            prompts = self.prompts((each.system, each.user) for each in part)
            responses = self.prompts.texts(each.response for each in part)
            found = map(self._joined, part, prompts, responses)
            yield [each for each in found if each is not None]

    @property
    def sha256(self) -> str:
        """See the class."""
        return self._hash.hexdigest()

    def _joined(self, row: Row, prompt: list[int], response: list[int]) -> Encoded | None:
        """Prompt, answer and EOS; None: left out."""
        counts = self.counts
        counts['read'] += 1
        if not prompt:
            raise UserError(f'example {row.key}: its prompt has no token; give it a question')
        if not response:
            counts['empty'] += 1
            return None
        tokens = [*prompt, *response, self.prompts.end_id]
        if len(tokens) > self.max_len:
            if self.over_length == 'drop' or len(prompt) >= self.max_len:
                counts['dropped'] += 1
                return None
            counts['truncated'] += 1
            tokens = tokens[: self.max_len]
        counts['kept'] += 1
        counts['tokens'] += len(tokens)
        counts['response_tokens'] += len(tokens) - len(prompt)
        found = np.array(tokens, '<i4')
        self._hash.update(f'{row.key} {len(tokens)} '.encode() + found.tobytes())
        return Encoded(row.key, found, len(prompt))
