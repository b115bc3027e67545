"""Tokenizers for small worlds: each word of some texts is a token, with the space before it.

Any other text in ASCII is written in single characters, so that nothing is lost.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = MARKS = ('<pad>', '<s>', '</s>', '<unk>')
PIECES = r'\n| ?\([A-D]\)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]|\s'
"""What a text is cut into."""


def word_entries(texts: Iterable[str], special: Sequence[str] = MARKS) -> tuple[str, ...]:
    """All tokens in the order of their numbers; the same for the same words.

    Args:
        texts: that have all words.
        special: tokens that come first.
    """
    found = {piece for text in texts for piece in re.findall(PIECES, text)}
    single = {*string.printable[:95], *'\n\r\t'}
    return (*special, *sorted(single), *sorted(found - single))


def word_tokenizer(
    entries: Sequence[str], special: Sequence[str] = MARKS, chat_template: str | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer for ``transformers``; what it decodes is what was encoded.

    It adds no token of its own and ends in ``</s>``.

    Args:
        entries: see :func:`word_entries`.
        special: those of them that no text is cut into.
        chat_template: of chat messages.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=word_backend(entries, special),
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        additional_special_tokens=[each for each in special if each not in MARKS],
        clean_up_tokenization_spaces=False,
        padding_side='right',
        chat_template=chat_template,
    )


def word_backend(entries: Sequence[str], special: Sequence[str] = MARKS) -> Tokenizer:
    """Longest entry first within a piece, which for a known word is all of it."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    numbers = {entry: number for number, entry in enumerate(entries)}
    found = Tokenizer(
        models.WordPiece(
            numbers, unk_token=UNK, continuing_subword_prefix='', max_input_chars_per_word=10000
        )
    )
    found.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), 'isolated')
    found.decoder = decoders.Fuse()
    found.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in special])
    return found
