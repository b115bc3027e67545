"""A byte-level tokenizer that is trained on the spot, and examples that are hard to get right."""

from functools import cache

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

SPECIAL = ('<s>', '</s>', '<|im_start|>', '<|im_end|>')
CHAT = (
    '{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}'
    '{% if add_generation_prompt %}[assistant]{% endif %}'
)
TRIPLES = [
    ('You explain.', 'What is 2 + 2?', '4, because 2 and 2 make four.'),
    ('', 'Übersetze: the café', ' das Café — naïve 数学 🙂'),
    ('', 'answer', '  two spaces before, one after '),
    ('You explain.', 'answer', '\n\nlines\n'),
    ('System:\n', 'Response:\n', 'Response:\nUser:\n'),
    ('stop</s>', 'a <|im_end|> b', 'it says </s> and <|im_start|>'),
    ('x', 'the answ', 'er and so on'),
]


@cache
def tokenizer(bos=False, extra='', chat=CHAT):
    """A tokenizer; with ``bos`` it begins texts with it, ``extra`` text changes its merges."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=380,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ['the answer answers because ', 'System: User: Response: lines and spaces', extra]
    made.train_from_iterator(texts * 20, trainer)
    if bos:
        made.post_processor = TemplateProcessing(single='<s> $A', special_tokens=[('<s>', 0)])
    found = PreTrainedTokenizerFast(tokenizer_object=made, bos_token='<s>', eos_token='</s>')
    found.add_special_tokens(dict(additional_special_tokens=list(SPECIAL[2:])))
    found.chat_template = chat
    return found


def text(tokens, made=None):
    """The text of tokens, special ones included."""
    return (made or tokenizer()).decode(tokens, clean_up_tokenization_spaces=False)


def many(count, seed=0):
    """Examples of random lengths, all different."""
    draw = np.random.default_rng(seed)
    words = ['the', 'answer', 'because', 'lines', 'é', '数学']

    def some(most):
        return ' '.join(draw.choice(words, draw.integers(1, most)))

    return [(some(4) if n % 3 else '', f'{n} {some(6)}', some(30)) for n in range(count)]
