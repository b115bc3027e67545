"""The student: losses of a step, widened vocabulary, adapters, answers, exports."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from packed_cases import SIZE, VOCAB, documents, network, packed
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mmdistill.core.errors import UserError
from mmdistill.testing import assert_same_state
from mmkd.language.causal_student import CausalStudent
from mmkd.language.generation import evaluating, left_padded, until
from mmkd.language.lm_loss import NoResponseTokens, next_labels
from mmkd.registry import MODELS

DOCS = documents((9, 14, 6, 12))
BATCH = packed([DOCS[:2], DOCS[2:]], 26)
PROMPTS = [[5, 9, 11, 30], [7], [8, 3, 59, 21, 4, 4, 17]]
LORA = dict(r=3, alpha=6, target_modules=['q_proj', 'down_proj'])


def trained_adapters(model, seed=3):
    """Gives the second halves of adapters values, which are zero at first."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if 'lora_B' in name:
                weight.copy_(torch.randn(weight.shape, generator=numbers))
    return model


def gradients(model, batch=BATCH, **extra):
    """Gradients of all parameters that learn."""
    loss = model(**batch, **extra, mode='loss')['loss']
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.autograd.grad(loss, weights)


def same(first, second, rtol=1e-5, atol=1e-7):
    """Asserts that lists of tensors are near."""
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


# ---------------------------------------------------------------------- loss


def test_loss_is_the_sum_over_the_tokens_of_the_step():
    model = CausalStudent(network())
    targets, logits = next_labels(BATCH['labels']), model(**BATCH)
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction='sum')
    found = model(**BATCH, global_tokens=100, accumulate=3, mode='loss')
    assert found['tokens'] == (targets != -100).sum() == 28
    torch.testing.assert_close(found['nll'], total)
    torch.testing.assert_close(found['loss'], total * 3 / 100)
    assert not found['nll'].requires_grad
    alone = model(**BATCH, mode='loss')['loss']
    torch.testing.assert_close(alone, total / 28)
    loss, log = model.parse_losses(found)
    assert loss == found['loss'] and log.keys() == {'loss', 'nll', 'tokens'}


def test_accumulated_batches_are_one_batch():
    rows = [DOCS[:1], DOCS[1:2], DOCS[2:]]
    models = [CausalStudent(network('gpt2', dtype='float64')) for _ in range(2)]
    whole = OptimWrapper(torch.optim.SGD(models[0].parameters(), lr=1.0))
    models[0].train_step(packed(rows, 20), whole)
    parts = OptimWrapper(torch.optim.SGD(models[1].parameters(), lr=1.0), accumulative_counts=3)
    parts.initialize_count_status(models[1], 0, 3)
    for row in rows:
        extra = dict(global_tokens=28, accumulate=3)
        models[1].train_step(dict(packed([row], 20), **extra), parts)
    before = CausalStudent(network('gpt2', dtype='float64'))
    for a, b, old in zip(*(m.parameters() for m in (*models, before)), strict=True):
        assert (a - old).norm() > 0 and (a - b).norm() <= 1e-6 * (a - old).norm()


def test_a_step_without_response_tokens():
    model = CausalStudent(network())
    empty = dict(BATCH, labels=torch.full_like(BATCH['labels'], -100))
    with pytest.raises(NoResponseTokens, match='no token of this step has a label'):
        model(**empty, mode='loss')
    with pytest.raises(NoResponseTokens):
        model(**empty, global_tokens=0, mode='loss')
    grads = gradients(model, empty, global_tokens=5)
    assert len(grads) == len(list(model.parameters()))
    assert all((grad == 0).all() for grad in grads)


def test_an_empty_pack():
    model = CausalStudent(network())
    found = model(**packed([[]], 8), global_tokens=5, mode='loss')
    assert found['loss'] == 0 and found['tokens'] == 0
    found['loss'].backward()
    assert all((weight.grad == 0).all() for weight in model.parameters())


def test_predictions_by_row():
    model = CausalStudent(network())
    batch = packed([DOCS[:2], [], DOCS[2:]], 26)
    found = model(**batch, mode='predict')
    assert [int(row['tokens']) for row in found] == [16, 0, 12]
    for row, docs in ((0, DOCS[:2]), (2, DOCS[2:])):
        wanted = model(**packed([docs], 26), mode='loss')['nll']
        torch.testing.assert_close(found[row]['nll'], wanted)
    assert found[1]['nll'] == 0


@pytest.mark.parametrize('kind', ['llama', 'gpt2'])
def test_chunks_and_checkpoints_change_no_gradient(kind):
    plain, other = (
        CausalStudent(network(kind), **options).train()
        for options in ({}, dict(gradient_checkpointing=True, chunk=5))
    )
    runs = []
    block = next(m for m in other.network.modules() if type(m).__name__.endswith('MLP'))
    block.register_forward_pre_hook(lambda *args: runs.append(1))
    same(gradients(other), gradients(plain))
    assert len(runs) == 2


def test_never_a_cache():
    model, calls = CausalStudent(network()), []
    model.network.model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    for mode in ('loss', 'predict', 'tensor'):
        model(**BATCH, mode=mode)
    model(BATCH['input_ids'])
    assert [call['use_cache'] for call in calls] == [False] * 4


def test_batches_that_do_not_fit():
    model = CausalStudent(network())
    ids, docs = BATCH['input_ids'], BATCH['doc_ids']
    with pytest.raises(UserError, match='both doc_ids and position_ids'):
        model(ids, doc_ids=docs)
    with pytest.raises(UserError, match="batch: unknown key 'max_length'"):
        model(**BATCH, max_length=3)
    with pytest.raises(UserError, match="mode must be one of .* got 'train'"):
        model(**BATCH, mode='train')
    with pytest.raises(UserError, match="mode='loss': the batch has no labels"):
        model(ids, mode='loss')
    paper = CausalStudent(network(), block_diagonal=False)
    with pytest.raises(UserError, match='does not say where packs end'):
        paper(**BATCH, max_length_q=3)


# ---------------------------------------------------------------------- network


def test_built_from_a_config():
    torch.manual_seed(0)
    source = dict(config=dict(SIZE, model_type='llama'))
    model = MODELS.build(dict(type='mmkd.CausalStudent', language_model=source, attention='eager'))
    assert model.network.config._attn_implementation == 'eager'
    assert model.network.get_input_embeddings().weight.shape == (64, 32)
    half = CausalStudent(network(), dtype='bfloat16', attention='eager')
    assert half.network.dtype == torch.bfloat16
    assert half.network.config._attn_implementation == 'eager'
    assert half(**BATCH, mode='loss')['loss'].dtype == torch.float32


@pytest.mark.parametrize('lora', [None, LORA])
def test_mmengine_draws_no_weights_again(lora):
    model = CausalStudent(network(), lora=lora)
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert_same_state(model.state_dict(), before)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        (dict(config=dict(model_type='lama')), "model_type 'lama' is not known.*'llama'"),
        (dict(config=dict(model_type='llama', hiden_size=3)), "no key 'hiden_size'.*hidden_size"),
        (dict(), 'either config or pretrained'),
        (dict(pretrain='x'), "unknown key 'pretrain'.*pretrained"),
        (dict(pretrained='/nowhere/at/all'), '/nowhere/at/all: no network can be read'),
    ],
)
def test_networks_that_cannot_be_made(source, message):
    with pytest.raises(UserError, match=message):
        CausalStudent(source)


def test_other_mistakes(tmp_path):
    source = dict(pretrained=str(tmp_path))
    with pytest.raises(UserError, match='there is no config.json'):
        CausalStudent(source)
    with pytest.raises(UserError, match="dtype 'half_precision' is not known"):
        CausalStudent(source, dtype='half_precision')
    with pytest.raises(UserError, match='pad_vocab_to must be at least 1, got 0'):
        CausalStudent(network(), pad_vocab_to=0)
    with pytest.raises(UserError, match="lora: unknown key 'rank'"):
        CausalStudent(network(), lora=dict(rank=3))
    with pytest.raises(UserError, match='lora: Target modules .*nothing'):
        CausalStudent(network(), lora=dict(target_modules=['nothing']))


@pytest.mark.parametrize('kind', ['llama', 'gpt2', 'gemma'])
def test_a_wider_vocabulary_changes_nothing(kind):
    plain, wide = CausalStudent(network(kind), pad_vocab_to=1), CausalStudent(network(kind))
    rows = wide.network.get_input_embeddings().weight
    assert rows.shape[0] == 64 and wide.vocab_size == plain.vocab_size == VOCAB
    with torch.no_grad():
        rows[VOCAB:] = 50.0
        wide.network.get_output_embeddings().weight[VOCAB:] = 50.0
    assert wide(**BATCH).shape == (2, 26, VOCAB)
    same([wide(**BATCH)], [plain(**BATCH)])
    for a, b in zip(gradients(wide), gradients(plain), strict=True):
        same([a[: len(b)]], [b])
        assert (a[len(b) :] == 0).all()
    assert wide.generate(PROMPTS, 8) == plain.generate(PROMPTS, 8)


def test_new_tokens():
    model = CausalStudent(network(), vocab_size=61)
    assert model.vocab_size == 61 and model(**BATCH).shape[-1] == 61
    assert model.network.get_input_embeddings().weight.shape[0] == 64
    assert CausalStudent(network(), vocab_size=64).vocab_size == 64
    assert CausalStudent(network(), vocab_size=50).vocab_size == VOCAB


# ---------------------------------------------------------------------- adapters


def test_adapters_learn_and_the_rest_is_frozen():
    model = CausalStudent(network(), lora=LORA).train()
    before = copy.deepcopy(model.state_dict())
    same([model(**BATCH)], [CausalStudent(network())(**BATCH)])
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(**BATCH, mode='loss')['loss'].backward()
        optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not v.equal(before[k])}
    adapters = {name for name in before if 'lora_' in name}
    assert changed == adapters and len(adapters) == 2 * 2 * 2


@pytest.mark.parametrize(('kind', 'targets'), [('llama', 'all-linear'), ('gpt2', ['c_attn'])])
def test_merged_adapters_are_the_same_network(kind, targets, tmp_path, recwarn):
    lora = dict(LORA, target_modules=targets)
    model = trained_adapters(CausalStudent(network(kind), lora=lora))
    assert not any('fan_in_fan_out' in str(each.message) for each in recwarn)
    before = copy.deepcopy(model.state_dict())
    model.save_pretrained(tmp_path / 'out')
    assert_same_state(model.state_dict(), before)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / 'out')
    found = read(BATCH['input_ids']).logits
    wanted = model(BATCH['input_ids'])
    assert found.shape[-1] == VOCAB
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - CausalStudent(network(kind))(BATCH['input_ids'])).abs().max() > 0.1


# ---------------------------------------------------------------------- answers


@pytest.mark.parametrize('kind', ['llama', 'gpt2'])
def test_answers_of_a_batch_are_those_one_by_one(kind):
    model = CausalStudent(network(kind))
    found = model.generate(PROMPTS, 12, eos_id=[])
    assert [len(answer) for answer in found] == [12] * 3
    assert len({tuple(answer) for answer in found}) == 3
    assert model.generate(PROMPTS, 12, eos_id=[], pad_id=PROMPTS[0][0]) == found
    for prompt, answer in zip(PROMPTS, found, strict=True):
        assert model.generate([prompt], 12, eos_id=[]) == [answer]
        text = list(prompt)
        for token in answer:
            assert int(model(torch.tensor([text]))[0, -1].argmax()) == token
            text.append(token)
    ended = model.generate(PROMPTS, 12, eos_id=[found[0][4], found[1][7]])
    ends = (found[0][4], found[1][7])
    assert ended == [until(answer, ends) for answer in found] and len(ended[0]) <= 4
    assert model.generate([]) == []


def test_answers_leave_the_network_as_it_was():
    model = CausalStudent(network(), gradient_checkpointing=True).train()
    model.network.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    config, own = copy.deepcopy(model.network.config.to_dict()), model.network.generation_config
    own.do_sample, own.repetition_penalty, own.no_repeat_ngram_size = True, 9.0, 1
    plain = CausalStudent(network())
    assert model.generate(PROMPTS, 20, eos_id=[]) == plain.generate(PROMPTS, 20, eos_id=[])
    assert [module.training for module in model.modules()] == modes
    assert model.network.config.to_dict() == config and config['use_cache']
    assert model.network.generation_config is own and own.do_sample
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == modes
    sampled = model.generate(PROMPTS * 4, 6, do_sample=True, temperature=30.0, eos_id=[])
    assert len({tuple(answer) for answer in sampled}) > 3


def test_left_padding():
    ids, mask = left_padded([[4, 5], [6]], 9)
    assert ids.tolist() == [[4, 5], [9, 6]] and mask.tolist() == [[1, 1], [0, 1]]
    with pytest.raises(UserError, match='a prompt has no token'):
        left_padded([[4], []], 9)


# ---------------------------------------------------------------------- files


class Words:
    """Stands for a tokenizer."""

    def save_pretrained(self, folder):
        """Writes a file."""
        (Path(folder) / 'words.txt').write_text('a b')


@pytest.mark.parametrize('kind', ['llama', 'gpt2', 'gemma', 'qwen2'])
def test_exports_are_read_by_transformers(kind, tmp_path):
    model = CausalStudent(network(kind), vocab_size=61)
    model.save_pretrained(tmp_path / 'a' / 'out', tokenizer=Words())
    assert (tmp_path / 'a' / 'out' / 'words.txt').read_text() == 'a b'
    assert model.network.config.vocab_size == 64
    read = AutoModelForCausalLM.from_pretrained(tmp_path / 'a' / 'out')
    assert read.config.vocab_size == 61 and read.config.use_cache
    same([read(BATCH['input_ids']).logits], [model(BATCH['input_ids'])])
    prompt = torch.tensor([PROMPTS[0]])
    answer = read.generate(prompt, max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert model.generate(PROMPTS[:1], 8, eos_id=[]) == answer[:, 4:].tolist()
    network(kind).save_pretrained(tmp_path / 'plain')
    files = [load_file(tmp_path / name / 'model.safetensors') for name in ('a/out', 'plain')]
    assert files[0].keys() == files[1].keys()
    again = CausalStudent(dict(pretrained=str(tmp_path / 'a' / 'out')))
    same([again(**BATCH)], [model(**BATCH)])


def test_adapters_alone(tmp_path):
    network().save_pretrained(tmp_path / 'base')
    source = dict(pretrained=str(tmp_path / 'base'))
    model = trained_adapters(CausalStudent(source, lora=LORA))
    model.save_pretrained(tmp_path / 'out', merge=False)
    saved = json.loads((tmp_path / 'out' / 'adapter_config.json').read_text())
    assert saved['base_model_name_or_path'] == str(tmp_path / 'base')
    assert not (tmp_path / 'out' / 'model.safetensors').exists()
    read = AutoModelForCausalLM.from_pretrained(tmp_path / 'out')
    same([read(BATCH['input_ids']).logits], [model(BATCH['input_ids'])], 1e-4, 1e-4)
    with pytest.raises(UserError, match='has 60 tokens, this network 61: .*merge=True'):
        CausalStudent(source, lora=LORA, vocab_size=61).save_pretrained(tmp_path / 'c', merge=False)
    with pytest.raises(UserError, match='was not pretrained; export with merge=True'):
        CausalStudent(network(), lora=LORA).save_pretrained(tmp_path / 'c', merge=False)
    assert not (tmp_path / 'c').exists()


def test_exports_are_whole_and_replace_exports_alone(tmp_path):
    model, folder = CausalStudent(network()), tmp_path / 'out'
    model.save_pretrained(folder, tokenizer=Words())

    class Broken:
        def save_pretrained(self, folder):
            raise OSError('no space')

    with pytest.raises(OSError, match='no space'):
        model.save_pretrained(folder, tokenizer=Broken())
    assert (folder / 'words.txt').is_file() and (folder / 'model.safetensors').is_file()
    model.save_pretrained(folder)
    assert not (folder / 'words.txt').exists()
    assert [each.name for each in tmp_path.iterdir()] == ['out']
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis' / 'text.md').write_text('x')
    with pytest.raises(UserError, match='thesis: it holds something that is no export'):
        model.save_pretrained(tmp_path / 'thesis')
    assert (tmp_path / 'thesis' / 'text.md').read_text() == 'x'
