"""Frames as tokens: sources, targets, and the weight of each token by the slot it belongs to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame
from mmkd.cobra.texts.templates import FrameTemplate


def slots_named(given: Sequence[str], known: Sequence[str], key: str) -> tuple[str, ...]:
    """Some of the known slots, in the known order.

    Raises:
        UserError: one that is not known; ``key`` names where it was written.
    """
    for name in given:
        if name not in known:
            raise UserError(
                f'{key}: there is no slot {name!r}{did_you_mean(name, known)}; known: {list(known)}'
            )
    return tuple(name for name in known if name in given)


def context_named(given: str | Sequence[str]) -> tuple[str, ...]:
    """Slots of the context that a source has: ``'all'``, ``'none'``, or a list of them."""
    if given in ('all', 'none'):
        return CONTEXT if given == 'all' else ()
    return slots_named([given] if isinstance(given, str) else given, CONTEXT, 'context')


def with_tokens(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Adds what a template needs to be single tokens, as ordinary tokens that decoding keeps.

    Args:
        tokenizer: of ``transformers``, changed in place; those that it has keep their numbers.
        tokens: their texts.

    Raises:
        UserError: one of them is a special token, which decoding would leave out.
    """
    from transformers import AddedToken

    special = set(tokenizer.all_special_tokens)
    for text in tokens:
        if text in special:
            raise UserError(
                f'{text!r} is a special token of the tokenizer, but slots are told apart by it in '
                'what the model writes: add it as an ordinary one'
            )
    known = tokenizer.get_vocab()
    missing = [AddedToken(text, normalized=False) for text in tokens if text not in known]
    if missing:
        tokenizer.add_tokens(missing)


def segment_ends(template: FrameTemplate, frame: Frame, slots: Sequence[str]) -> list[int]:
    """Where the segment of each slot ends in the text of a target, in characters.

    Args:
        template: of frames.
        frame: whose target it is.
        slots: in the target.

    Raises:
        UserError: the template does not write the slots one after the other.
    """
    whole = template.target(frame, slots=slots)
    parts = [template.target(frame, slots=slots[:count]) for count in range(1, len(slots))]
    ends = [len(os.path.commonprefix([part, whole])) for part in parts] + [len(whole)]
    if any(second <= first for first, second in zip([0, *ends], ends, strict=False)):
        raise UserError(
            'slot_weights: the template does not write the slots one after the other, so their '
            'tokens are not known'
        )
    return ends


class FrameEncoder:
    """Makes tokens of sources and targets; special tokens in the texts of frames do not count.

    Args:
        tokenizer: of ``transformers``; it gets the tokens of the template.
        template: of frames.
        slots: of the targets.
        slot_weights: of tokens by slot, 1 where nothing is said; None: no weights.
        max_source: tokens of a source at most.
        max_target: tokens of a target at most, its end included; one that is cut has no end.
        decoder_only: sources are prompts, which do not end in EOS.

    Attributes:
        truncated: how many of ``source`` and ``target`` were cut.

    Raises:
        UserError: weights that are negative, of no slot, or that need a fast tokenizer; limits
            below 1; a tokenizer without EOS.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: FrameTemplate,
        slots: Sequence[str] = SLOTS,
        slot_weights: Mapping[str, float] | None = None,
        max_source: int = 512,
        max_target: int = 512,
        decoder_only: bool = False,
    ) -> None:
        if min(max_source, max_target) < 1:
            raise UserError(
                f'max_source and max_target must be at least 1, got {max_source} and {max_target}'
            )
        if tokenizer.eos_token_id is None:
            raise UserError('the tokenizer has no EOS token to end a target with: give it one')
        with_tokens(tokenizer, template.tokens)
        self.tokenizer, self.template, self.slots = tokenizer, template, tuple(slots)
        self.max_source, self.max_target = max_source, max_target
        self.decoder_only = decoder_only
        self.weights = None if slot_weights is None else self._checked(slot_weights)
        bos = tokenizer.bos_token_id
        begins = bos is not None and tokenizer('a')['input_ids'][:1] == [bos]
        self._lead = [bos] if begins else []
        # word and unigram models know the texts of special tokens as ordinary ones, too
        self._unknown = tokenizer.unk_token_id
        self._special = () if self._unknown is None else frozenset(tokenizer.all_special_ids)
        self.truncated = Counter(source=0, target=0)

    def _checked(self, given: Mapping[str, float]) -> np.ndarray:
        """Weights in the order of the slots."""
        slots_named(list(given), SLOTS, 'slot_weights')
        for name, weight in given.items():
            if weight < 0:
                raise UserError(f'slot_weights: {name!r} must not be negative, got {weight}')
        if self.decoder_only:
            raise UserError(
                'slot_weights are for a Seq2SeqStudent: a CausalStudent weighs all tokens alike; '
                'leave them out with decoder_only=True'
            )
        if not self.tokenizer.is_fast:
            raise UserError(
                'slot_weights need a fast tokenizer, which knows where tokens come from'
            )
        return np.array([given.get(name, 1.0) for name in self.slots], np.float32)

    def sources(self, frames: Sequence[Frame], context: Sequence[str]) -> list[np.ndarray]:
        """Tokens of sources ``(S,)`` int32 with some slots of the context."""
        texts = [self.template.source(frame, context=context) for frame in frames]
        if self.decoder_only:
            rows = [[*self._lead, *row] for row in self._tokens(texts, False)['input_ids']]
            rows = [self._cut(row, self.max_source, 'source') for row in rows]
        else:
            rows = self._tokens(texts, True)['input_ids']
            long = [n for n, row in enumerate(rows) if len(row) > self.max_source]
            self.truncated['source'] += len(long)
            for number in long:  # with the special tokens at its end
                cut = dict(truncation=True, max_length=self.max_source)
                rows[number] = self._tokens(texts[number], True, **cut)['input_ids']
        return [np.array(row, np.int32) for row in rows]

    def targets(self, frames: Sequence[Frame]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Tokens of targets ``(T,)`` int32, EOS included, and their weights ``(T,)`` float32."""
        texts = [self.template.target(frame, slots=self.slots) for frame in frames]
        found = self._tokens(texts, False, return_offsets_mapping=self.weights is not None)
        pairs = []
        for number, row in enumerate(found['input_ids']):
            row = [self._unknown if token in self._special else token for token in row]
            row = self._cut([*row, self.tokenizer.eos_token_id], self.max_target, 'target')
            weights = None
            if self.weights is not None:
                ends = segment_ends(self.template, frames[number], self.slots)
                weights = self._weights(found['offset_mapping'][number], ends)[: len(row)]
            pairs.append((np.array(row, np.int32), weights))
        return pairs

    def _weights(self, offsets: Sequence[tuple[int, int]], ends: Sequence[int]) -> np.ndarray:
        """Weights of tokens by the slot of their last character; 1 for EOS behind them."""
        last = np.array([end - 1 for _, end in offsets], np.int64)
        places = np.searchsorted(ends, last, side='right').clip(max=len(ends) - 1)
        return np.append(self.weights[places], np.float32(1.0))

    def _cut(self, row: list[int], most: int, part: str) -> list[int]:
        """The first tokens of a row; it is counted where there were more."""
        self.truncated[part] += len(row) > most
        return row[:most]

    def _tokens(self, texts: str | list[str], special: bool, **options: Any) -> Any:
        """What the tokenizer makes of texts, with the special tokens that it adds or without."""
        return self.tokenizer(
            texts,
            add_special_tokens=special,
            split_special_tokens=True,
            return_attention_mask=False,
            verbose=False,
            **options,
        )
