"""Tokenizers: a pretrained one, or a small one trained on the user's own texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmdistill.core.errors import UserError
from mmkd.registry import TASK_UTILS

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 4000, kind: str = 'wordpiece', lowercase: bool = True
) -> Any:
    """Trains a tokenizer; the same texts give the same one.

    Args:
        texts: to learn from.
        vocab_size: of the vocabulary, special tokens included; ``[PAD]`` has id 0.
        kind: ``'wordpiece'``, as BERT's, or ``'bpe'``.
        lowercase: capitals and accents do not count.

    Returns:
        A fast tokenizer of ``transformers`` that writes ``[CLS] a [SEP]`` or
        ``[CLS] a [SEP] b [SEP]``.

    Raises:
        UserError: another kind, or a vocabulary that is too small.
    """
    from tokenizers import Tokenizer, models
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    if kind not in ('wordpiece', 'bpe'):
        raise UserError(f"kind of a tokenizer must be 'wordpiece' or 'bpe', got {kind!r}")
    if vocab_size <= len(SPECIAL):
        raise UserError(f'vocab_size must be above {len(SPECIAL)}, got {vocab_size}')
    texts, normalizer = list(texts), BertNormalizer(lowercase=lowercase)
    prefix = dict(continuing_subword_prefix='##') if kind == 'wordpiece' else {}
    # the trainer numbers what follows the prefix in the order of a hash, and breaks ties by number:
    # pieces of one character are given, so that the same texts lead to the same pieces
    letters = _letters(texts, normalizer, vocab_size)
    given = [*SPECIAL, *(f'##{each}' for each in letters if prefix)]
    trained = Tokenizer(models.BPE(unk_token='[UNK]', **prefix))
    trained.normalizer, trained.pre_tokenizer = normalizer, BertPreTokenizer()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=given,
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
        **prefix,
    )
    trained.train_from_iterator(texts, trainer)
    content = json.loads(trained.to_str())['model']
    if kind == 'wordpiece':
        model = models.WordPiece(vocab=content['vocab'], unk_token='[UNK]')
    else:
        merges = [tuple(each) for each in content['merges']]
        model = models.BPE(vocab=content['vocab'], merges=merges, unk_token='[UNK]')
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    first, last = (tokenizer.token_to_id(each) for each in ('[CLS]', '[SEP]'))
    tokenizer.post_processor = TemplateProcessing(
        single='[CLS] $A [SEP]',
        pair='[CLS] $A [SEP] $B:1 [SEP]:1',
        special_tokens=[('[CLS]', first), ('[SEP]', last)],
    )
    names = ('pad_token', 'unk_token', 'cls_token', 'sep_token', 'mask_token')
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=['input_ids', 'token_type_ids', 'attention_mask'],
        **dict(zip(names, SPECIAL, strict=True)),
    )


def _letters(texts: Iterable[str], normalizer: Any, vocab_size: int) -> list[str]:
    """The characters of texts, the frequent ones if there are too many for the vocabulary."""
    counts = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    ranked = sorted((-count, each) for each, count in counts.items() if not each.isspace())
    room = max(1, (vocab_size - len(SPECIAL)) // 2)
    return sorted(each for _, each in ranked[:room])


def load_tokenizer(path: str | Path) -> Any:
    """A tokenizer from a folder of ``save_pretrained`` or from the hub.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: no tokenizer can be read: {error}') from error


def tokenizer_of(source: str | Mapping[str, Any]) -> Any:
    """A tokenizer from a folder, or of a config.

    Raises:
        UserError: there is none.
    """
    return load_tokenizer(source) if isinstance(source, str) else TASK_UTILS.build(dict(source))
