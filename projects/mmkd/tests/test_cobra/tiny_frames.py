"""A word-level tokenizer, tiny students, and neutral frames whose label is a rule."""

from functools import cache

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mmkd.cobra.schema import Frame, statement_id
from mmkd.cobra.texts.templates import frame_template
from mmkd.language.causal_student import CausalStudent
from mmkd.language.seq2seq_student import Seq2SeqStudent

SPECIAL = ('<pad>', '</s>', '<unk>')
STATEMENTS = ('well done', 'nice report', 'you are early', 'good morning to you', 'thank you')
SITUATIONS = dict(party='kind', funeral='cold')
WORDS = sorted(
    {word for text in STATEMENTS for word in text.split()}
    | {*SITUATIONS, *SITUATIONS.values(), 'a', 'guest', 'host', 'friend'}
)
TEMPLATE = frame_template('tokens')
FAMILIES = ('t5', 'llama')


@cache
def _vocabulary():
    words = [*SPECIAL, *WORDS, *(f'w{n}' for n in range(10))]
    return {word: number for number, word in enumerate(words)}


def word_tokenizer():
    """A new tokenizer of words that ends nothing by itself."""
    made = Tokenizer(models.WordLevel(_vocabulary(), unk_token='<unk>'))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r'\s+'), 'removed')
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token='<pad>', eos_token='</s>', unk_token='<unk>'
    )


VOCAB = len(_vocabulary()) + len(TEMPLATE.tokens)


def frame(statement, situation, pair=None, side=None, **slots):
    """A frame; the offensiveness follows the situation alone."""
    label = SITUATIONS[situation]
    given = dict(
        intent=f'a {statement.split()[0]}',
        target_group='guest',
        power='host',
        implication=statement,
        emotional=label,
        cognitive='a friend',
        offensiveness=label,
    )
    return Frame(
        frame_id=f'{statement}/{situation}',
        statement_id=statement_id(statement),
        statement=statement,
        situation=situation,
        speaker='a host',
        listener='a guest',
        pair_id=pair,
        side=side,
        offensive_bin=int(label == 'cold'),
        **{**given, **slots},
    )


def pairs(count=4):
    """Statements in both situations, one after the other."""
    return [
        frame(statement, situation, str(number), side)
        for number, statement in enumerate(STATEMENTS[:count])
        for situation, side in zip(SITUATIONS, 'AB', strict=True)
    ]


def student(kind='t5', seed=0, **settings):
    """A tiny student without dropout."""
    torch.manual_seed(seed)
    if kind == 't5':
        config = dict(
            model_type='t5', vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=64, num_layers=1,
            num_decoder_layers=1, num_heads=4, dropout_rate=0.0,
        )  # fmt: skip
        return Seq2SeqStudent(dict(config=config), **settings)
    config = dict(
        model_type='llama', vocab_size=VOCAB, hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=128, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return CausalStudent(dict(config=config), **settings)


def fit(model, batch, steps, rate=1e-2):
    """Trains on one batch with AdamW and a rate that falls to nothing."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]['lr'] = rate * (1 - step / steps)
        optimizer.zero_grad()
        model(**batch, mode='loss')['loss'].backward()
        optimizer.step()
    return model.eval()
