"""Log-likelihoods of options: batches, paddings and shared rows change nothing."""

import pytest
import torch
from tiny_language import network, queries, tokenizer

from mmdistill.core.errors import UserError
from mmkd.evaluation.language import options_score
from mmkd.evaluation.language.options_score import option_sums, score_options

PROMPTS = [[256, 5, 9, 11, 30, 4], [256], [256, 8, 3, 59], [256, 5, 9]]
OPTIONS = [
    [[7], [9], [11, 30, 12]],
    [[5], [5, 9], [5, 9, 11], [200, 1, 1, 1, 1, 1, 1]],
    [[1, 2], [1, 3]],
    [[11], [11, 30, 4, 7]],
]


def one_by_one(model, prompt, option):
    """The reference: a sum of log softmax, alone, in float64."""
    ids = torch.tensor([[*prompt, *option]])
    with torch.no_grad():
        logs = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
    start = len(prompt) - 1
    return sum(float(logs[start + n, token]) for n, token in enumerate(option))


@pytest.mark.parametrize('kind', ['llama', 'gpt2', 'mamba'])
@pytest.mark.parametrize('batch', [1, 3, 64])
def test_equals_one_by_one(kind, batch):
    model = network(kind)
    found = option_sums(model, PROMPTS, OPTIONS, batch)
    assert [len(row) for row in found] == [3, 4, 2, 2]
    for prompt, choices, row in zip(PROMPTS, OPTIONS, found, strict=True):
        for option, value in zip(choices, row, strict=True):
            assert value == pytest.approx(one_by_one(model, prompt, option), abs=1e-4, rel=1e-5)


def test_to_five_digits_in_float64():
    model = network('llama', 'float64')
    found = option_sums(model, PROMPTS, OPTIONS, 2)
    for prompt, choices, row in zip(PROMPTS, OPTIONS, found, strict=True):
        for option, value in zip(choices, row, strict=True):
            assert value == pytest.approx(one_by_one(model, prompt, option), abs=1e-5)


def test_rows_that_begin_others_are_not_computed():
    model, seen = network(), []
    model.register_forward_pre_hook(
        lambda module, args, given: seen.append(tuple(given['input_ids'].shape)), with_kwargs=True
    )
    option_sums(model, [PROMPTS[0]], [[[7], [9], [200]]])
    assert seen == [(1, 6)]
    seen.clear()
    # prompt 3 with 11 30 4 begins like prompt 0: one row serves both
    option_sums(model, [PROMPTS[0], PROMPTS[3]], [[[7]], [[11, 30, 4]]])
    assert seen == [(1, 6)]
    seen.clear()
    option_sums(model, PROMPTS, OPTIONS, batch=2)
    # eleven options, three rows, the longest first
    assert seen == [(2, 8), (1, 5)]


def test_a_head_that_cannot_leave_tokens_out():
    class Whole(torch.nn.Module):
        """A network without ``logits_to_keep``."""

        def __init__(self, net):
            super().__init__()
            self.net, self.config = net, net.config

        def get_input_embeddings(self):
            return self.net.get_input_embeddings()

        def forward(self, input_ids, attention_mask, use_cache):
            return self.net(input_ids, attention_mask, use_cache=use_cache)

    model = network()
    found = option_sums(Whole(model), PROMPTS, OPTIONS)
    for one, other in zip(found, option_sums(model, PROMPTS, OPTIONS), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_probabilities_are_over_real_tokens():
    narrow, wide = network(vocab=258), network(vocab=320)
    wide.load_state_dict(
        {
            key: torch.cat([value, 9 * torch.ones(62, 32)]) if len(value) == 258 else value
            for key, value in narrow.state_dict().items()
        }
    )
    expected = option_sums(narrow, PROMPTS, OPTIONS)
    for row, other in zip(
        option_sums(wide, PROMPTS, OPTIONS, vocab_size=258), expected, strict=True
    ):
        assert row == pytest.approx(other, abs=1e-4)
    total = option_sums(narrow, [PROMPTS[0]], [[[n] for n in range(258)]])[0]
    assert sum(torch.tensor(total).exp()) == pytest.approx(1, abs=1e-5)


def test_means_over_tokens_and_bytes(monkeypatch):
    asked, options = queries('Q?', 'A longer one?'), [['A', 'Bé'], ['yes', 'no', 'no way']]
    model = network()
    total = score_options(model, tokenizer(), asked, options)
    # single bytes are the tokens, so that both means have the same divisor
    for mean in ('token', 'byte'):
        found = score_options(model, tokenizer(), asked, options, mean=mean)
        for row, sums, texts in zip(found, total, options, strict=True):
            sizes = [len(text.encode()) for text in texts]
            assert row == pytest.approx([s / n for s, n in zip(sums, sizes, strict=True)])
    # a tokenizer of whole words would have one token where there are several bytes
    monkeypatch.setattr(options_score.PromptEncoder, 'texts', lambda self, t: [[65]] * len(t))
    one = score_options(model, tokenizer(), asked, options, mean='token')
    assert one == score_options(model, tokenizer(), asked, options)
    per_byte = score_options(model, tokenizer(), asked, options, mean='byte')
    assert per_byte[1][2] == pytest.approx(one[1][2] / 6)


def test_modes_are_as_before():
    model = network().train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    option_sums(model, PROMPTS, OPTIONS)
    assert [module.training for module in model.modules()] == before


def test_what_cannot_be_scored_is_named():
    model = network()
    with pytest.raises(UserError, match='an option has no token'):
        option_sums(model, [[1]], [[[]]])
    with pytest.raises(UserError, match='a prompt has no token'):
        option_sums(model, [[]], [[[1]]])
    with pytest.raises(UserError, match='prompt of 128 tokens .* longer than the model reads, 128'):
        option_sums(model, [[1] * 128], [[[1, 2]]])
    option_sums(model, [[1] * 128], [[[1]]])
    with pytest.raises(UserError, match="must be 'token', 'byte' or None, got 'tokens'"):
        score_options(model, tokenizer(), queries('Q'), [['A']], mean='tokens')
