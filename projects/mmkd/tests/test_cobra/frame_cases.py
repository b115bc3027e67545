"""Frames with values that look like the marks of templates, and tokenizers to send them through."""

import random
import string
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast, T5Tokenizer

from mmkd.cobra.schema import CONTEXT, SLOTS, Frame
from mmkd.cobra.texts.slot_templates import NAMES, TOKENS
from mmkd.cobra.texts.wording import load_wording

QUESTIONS = load_wording().questions.model_dump()
WORDS = ('praise', 'good work', 'the team', 'hello', 'thanks.', 'a new colleague', 'FAQ:', 'USA:')
MARKS = (
    *('Q:', 'A:', 'Q: ', 'A: ', ' Q: why? A: so', 'Q', 'A', ':', 'Q :'),
    *(f'Q: {question} A: ' for question in QUESTIONS.values()),
    *(f'[{name}]' for name in NAMES.values()),
    *('[target\nGROUP]', '[/]', '[', '/]', '[x]', ']'),
    *('|', '||', '|.', '.', '|.|', '|.Q:'),
)
ANGLED = (*TOKENS.values(), '<', 'int>', '</s>', '<|int|>', '<|.int>')
BRACED = (
    '{',
    '}',
    '"',
    "'",
    '\\',
    '\\n',
    '\\"',
    '{"intent": "x"}',
    '```',
    '```json',
    '{statement}',
)
BLANKS = (' ', '  ', '\n', '\r\n', '\t', '\n\n')
STRANGE = ('\x1c', '\x85', '\xa0', '\u2028', '\u3000', 'é', '🙂', '数')
ALL = WORDS + MARKS + ANGLED + BRACED + BLANKS + STRANGE


def collapsed(text: str) -> str:
    """The text as a tokenizer leaves it for which all white space is one space."""
    return ' '.join(text.split())


def frame_of(values: dict[str, str], statement: str = 'Well done.') -> Frame:
    """A frame with these slots."""
    return Frame(frame_id='f', statement_id='s', statement=statement, **values)


def plain_frame() -> Frame:
    """A frame whose values all differ, and look like nothing else."""
    return frame_of({name: f'the {name} is here' for name in CONTEXT + SLOTS})


def random_frames(count: int, parts: tuple[str, ...] = ALL, seed: int = 0) -> list[Frame]:
    """Frames whose values are drawn from the parts, empty ones among them."""
    draw = random.Random(seed)

    def value() -> str:
        return ''.join(draw.choices(parts, k=draw.choice((0, 1, 1, 2, 3, 5))))

    return [frame_of({name: value() for name in CONTEXT + SLOTS}, value()) for _ in range(count)]


@cache
def byte_level(tokens: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """A byte-level BPE that keeps every character, with these tokens added."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=320,
        special_tokens=['</s>'],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(['Q: praise for good work A: [/] |. the team'] * 9, trainer)
    found = PreTrainedTokenizerFast(tokenizer_object=made, eos_token='</s>')
    found.add_tokens(list(tokens))
    return found


@cache
def t5(tokens: tuple[str, ...], lacking: str = '') -> T5Tokenizer:
    """The pipeline of T5, white space collapsing, with a vocabulary of characters.

    Args:
        tokens: that are added.
        lacking: ASCII characters that the vocabulary does not have.
    """
    pieces = [('<pad>', 0.0), ('</s>', 0.0), ('<unk>', 0.0), ('▁', -3.0), ('▁the', -4.0)]
    known = string.ascii_letters + string.digits + string.punctuation + 'é🙂数'
    pieces += [(each, -5.0) for each in known if each not in lacking]
    found = T5Tokenizer(vocab=pieces, extra_ids=0, additional_special_tokens=['<extra_id_0>'])
    found.add_tokens(list(tokens))
    return found


def through(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """The text, encoded and decoded as a student's output is."""
    return tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)
