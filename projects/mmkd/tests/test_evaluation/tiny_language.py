"""A tokenizer of single bytes, tiny networks, and a judge that counts how often it is asked."""

from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mmkd.language.language_model import language_model
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Query

SIZES = dict(
    llama=dict(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    ),
    gpt2=dict(n_embd=32, n_layer=2, n_head=4, n_positions=128),
    mamba=dict(hidden_size=32, num_hidden_layers=2, state_size=4, time_step_rank=4),
)


@cache
def tokenizer():
    """Bytes, BOS 256 and EOS 257."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({each: n for n, each in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token='<s>', eos_token='</s>')


def network(kind='llama', dtype='float32', seed=0, vocab=258):
    """Random weights, large enough that contexts matter."""
    torch.manual_seed(seed)
    config = dict(
        SIZES[kind], model_type=kind, vocab_size=vocab, bos_token_id=256, eos_token_id=257
    )
    net = language_model(config, attention='eager', dtype=dtype)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim == 2:
                weight.mul_(6)
    return net.eval()


def queries(*texts):
    """Questions."""
    return [Query(source_uid=str(n), user_text=text) for n, text in enumerate(texts)]


class Judge:
    """Grades by a function of the two answers that it sees.

    Args:
        grade: from the answers to what it says.
        name: of the model.
        concurrency: of questions.
    """

    def __init__(self, grade, name='judge', concurrency=3):
        self.grade, self.name, self.concurrency = grade, name, concurrency
        self.calls, self.running, self.most, self.entered = 0, 0, 0, 0

    async def __aenter__(self):
        self.entered += 1
        return self

    async def __aexit__(self, *error):
        self.entered -= 1

    async def agenerate(self, messages, sampling):
        import asyncio

        assert self.entered == 1
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        text = messages[-1]['content']
        first, second = (
            text.split(f'<answer number="{n}">\n')[1].split('\n</answer>')[0] for n in (1, 2)
        )
        return Reply(self.grade(first, second))
