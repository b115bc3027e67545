"""The student with an encoder: losses of a step, adapters, answers, exports."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from transformers import AutoModelForSeq2SeqLM

from mmdistill.core.errors import UserError
from mmdistill.testing import assert_same_state
from mmkd.language.generation import left_padded
from mmkd.language.lm_loss import NoResponseTokens
from mmkd.language.seq2seq_batches import seq2seq_collate, split_rows
from mmkd.language.seq2seq_student import Seq2SeqStudent, shifted, step_weight
from mmkd.registry import FUNCTIONS, MODELS

VOCAB = 50
T5 = dict(
    model_type='t5', vocab_size=VOCAB, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4,
    dropout_rate=0.0,
)  # fmt: skip
BART = dict(
    model_type='bart', vocab_size=VOCAB, d_model=16, encoder_layers=1, decoder_layers=1,
    encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
    max_position_embeddings=40, dropout=0.0, pad_token_id=0, bos_token_id=3, eos_token_id=1,
    decoder_start_token_id=1, forced_eos_token_id=None,
)  # fmt: skip
FAMILIES = dict(t5=T5, bart=BART)
LORA = dict(r=3, alpha=6)
PROMPTS = [[5, 9, 11, 30], [7], [8, 3, 49, 21, 4, 4, 17]]


def student(kind='t5', seed=0, **settings):
    """A student whose weights are large enough that words matter."""
    torch.manual_seed(seed)
    model = Seq2SeqStudent(dict(config=FAMILIES[kind]), **settings)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and 'lora_' not in name and 'position' not in name:
                weight.mul_(3 if kind == 't5' else 15)
    return model.eval()


def samples(count, seed=1, weights=False):
    """Sources and targets of random lengths."""
    numbers = torch.Generator().manual_seed(seed)

    def some():
        size = int(torch.randint(1, 9, (), generator=numbers))
        return torch.randint(3, VOCAB, (size,), generator=numbers)

    rows = [dict(input_ids=some(), labels=some()) for _ in range(count)]
    if weights:
        for row in rows:
            row['weights'] = torch.rand(len(row['labels']), generator=numbers)
    return rows


ROWS = samples(16)
BATCH = seq2seq_collate(ROWS[:4])


def moved(model, batches, accumulate=1):
    """Movement of the weights in a step of plain gradient descent on some batches."""
    before = copy.deepcopy(model.state_dict())
    optimizer = OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=accumulate
    )
    optimizer.initialize_count_status(model, 0, accumulate)
    for batch in batches:
        model.train_step(batch, optimizer)
    return {key: value - before[key] for key, value in model.state_dict().items()}


def near(found, wanted):
    """Asserts that movements are equal relative to their size."""
    total = torch.cat([(found[key] - wanted[key]).flatten() for key in wanted]).norm()
    size = torch.cat([each.flatten() for each in wanted.values()]).norm()
    assert size > 0 and total <= 1e-6 * size


# ---------------------------------------------------------------------- batches


def test_batches_are_as_long_as_their_longest_row():
    rows = [
        dict(input_ids=torch.tensor([4, 5, 6]), labels=torch.tensor([7]), weights=torch.ones(1)),
        dict(input_ids=torch.tensor([8]), labels=torch.tensor([9, 1]), weights=torch.ones(2)),
    ]
    batch = FUNCTIONS.get('mmkd.seq2seq_collate')(rows, pad_id=2)
    assert batch['input_ids'].tolist() == [[4, 5, 6], [8, 2, 2]]
    assert batch['attention_mask'].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch['labels'].tolist() == [[7, -100], [9, 1]]
    assert batch['weights'].tolist() == [[1, 0], [1, 1]]
    first, second = split_rows(batch, 2)
    assert first['input_ids'].tolist() == [[4, 5, 6]] and first['labels'].tolist() == [[7]]
    assert second['input_ids'].tolist() == [[8]] and second['weights'].tolist() == [[1, 1]]
    with pytest.raises(UserError, match='a batch of 2 rows has no 3 equal parts'):
        split_rows(batch, 3)


def test_the_decoder_reads_the_label_before():
    labels = torch.tensor([[4, 5, 1], [6, 1, -100]])
    assert shifted(labels, 7, 0).tolist() == [[7, 4, 5], [7, 6, 1]]


# ---------------------------------------------------------------------- loss


@pytest.mark.parametrize('kind', FAMILIES)
def test_the_loss_is_that_of_transformers(kind):
    model = student(kind, pad_vocab_to=1)
    wanted = model.network(**BATCH).loss
    found = model(**BATCH, mode='loss')
    torch.testing.assert_close(found['loss'], wanted)
    count = int((BATCH['labels'] != -100).sum())
    assert found['tokens'] == count
    torch.testing.assert_close(found['nll'], wanted * count)
    assert not found['nll'].requires_grad and wanted > 1
    torch.testing.assert_close(model(**BATCH), model.network(**BATCH).logits)


def test_padding_and_company_change_nothing():
    model = student(dtype='float64')
    wide = dict(
        input_ids=F.pad(BATCH['input_ids'], (0, 5), value=9),
        attention_mask=F.pad(BATCH['attention_mask'], (0, 5)),
        labels=F.pad(BATCH['labels'], (0, 7), value=-100),
    )
    together = model(**BATCH, mode='predict')
    for row, padded in zip(together, model(**wide, mode='predict'), strict=True):
        assert row['tokens'] == padded['tokens'] and abs(row['nll'] - padded['nll']) <= 1e-9
    for sample, row in zip(ROWS, together, strict=False):
        alone = model(**seq2seq_collate([sample]), mode='loss')
        assert abs(alone['nll'] - row['nll']) <= 1e-6 and alone['tokens'] == row['tokens']
    ones = torch.ones_like(wide['attention_mask'])
    seen = model(**dict(wide, attention_mask=ones), mode='predict')
    assert abs(seen[0]['nll'] - together[0]['nll']) > 1e-3


@pytest.mark.parametrize('weighted', [False, True])
def test_two_batches_of_eight_are_one_of_sixteen(weighted):
    rows = samples(16, seed=3, weights=weighted)
    whole = seq2seq_collate(rows)
    wanted = moved(student(dtype='float64'), [whole])
    weight = step_weight(whole['labels'], whole.get('weights'))
    parts = [
        dict(seq2seq_collate(rows[begin : begin + 8]), global_tokens=weight, accumulate=2)
        for begin in (0, 8)
    ]
    near(moved(student(dtype='float64'), parts, 2), wanted)
    alone = [dict(part, global_tokens=None, accumulate=1) for part in parts]
    with pytest.raises(AssertionError):
        near(moved(student(dtype='float64'), alone, 2), wanted)


def test_weights_of_targets():
    model = student()
    weights = torch.zeros(BATCH['labels'].shape).masked_fill(BATCH['labels'] != -100, 2.0)
    plain = model(**BATCH, mode='loss')
    doubled = model(**BATCH, weights=weights, mode='loss')
    torch.testing.assert_close(doubled['loss'], plain['loss'])
    weights[1:] = 0.0
    first = model(**seq2seq_collate(ROWS[:1]), mode='loss')
    found = model(**BATCH, weights=weights, mode='loss')
    torch.testing.assert_close(found['loss'], first['loss'])
    assert found['tokens'] == plain['tokens'] and found['nll'] == plain['nll']
    small = model(**BATCH, weights=weights * 1e-3, mode='loss')
    torch.testing.assert_close(small['loss'], first['loss'])
    with pytest.raises(NoResponseTokens, match='no target of this step counts'):
        model(**BATCH, weights=weights * 0, mode='loss')


def test_smoothing_is_that_of_torch():
    model = student(label_smoothing=0.2)
    logits, labels = model(**BATCH), BATCH['labels']
    wanted = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.2)
    found = model(**BATCH, mode='loss')
    torch.testing.assert_close(found['loss'], wanted)
    torch.testing.assert_close(found['nll'], student()(**BATCH, mode='loss')['nll'])
    with pytest.raises(UserError, match=r'label_smoothing must be in \[0, 1\), got 1'):
        student(label_smoothing=1)


def test_float16_is_refused():
    with pytest.raises(UserError, match='float16 is refused: .*T5 exceed.*bfloat16'):
        student(dtype='float16')
    with pytest.raises(UserError, match='float16 is refused'):
        Seq2SeqStudent(student().network.half())
    model = student()
    with (
        torch.autocast('cpu', dtype=torch.float16),
        pytest.raises(UserError, match='float16 is refused'),
    ):
        model(**BATCH)
    half = student(dtype='bfloat16')
    assert half.network.dtype == torch.bfloat16
    assert half(**BATCH, mode='loss')['loss'].dtype == torch.float32


def test_networks_that_cannot_be_made(tmp_path):
    build = MODELS.get('mmkd.Seq2SeqStudent')
    with pytest.raises(UserError, match='gpt2: it has no encoder .*CausalStudent'):
        build(dict(config=dict(model_type='gpt2')))
    with pytest.raises(UserError, match="t5 has no key 'd_modle' .*'d_model'"):
        build(dict(config=dict(model_type='t5', d_modle=3)))
    with pytest.raises(UserError, match='give either config or pretrained'):
        build(dict())
    with pytest.raises(UserError, match="mode must be one of .* got 'train'"):
        student()(**BATCH, mode='train')
    network = student('bart').network
    network.config.decoder_start_token_id = network.generation_config.decoder_start_token_id = None
    with pytest.raises(UserError, match='bart: its config has no decoder_start_token_id'):
        Seq2SeqStudent(network)


# ---------------------------------------------------------------------- vocabulary and adapters


@pytest.mark.parametrize('kind', FAMILIES)
def test_a_wider_vocabulary_changes_nothing(kind):
    plain, wide = student(kind, pad_vocab_to=1), student(kind)
    rows = wide.network.get_input_embeddings().weight
    assert rows.shape[0] == 64 and wide.vocab_size == plain.vocab_size == VOCAB
    with torch.no_grad():
        rows[VOCAB:] = 50.0
    torch.testing.assert_close(wide(**BATCH), plain(**BATCH))
    assert wide.generate(PROMPTS, 8, eos_id=[]) == plain.generate(PROMPTS, 8, eos_id=[])
    assert student(kind, vocab_size=57).vocab_size == 57


@pytest.mark.parametrize('targets', ['all-linear', ['q', 'v']])
def test_adapters_learn_the_base_does_not_and_merging_changes_nothing(targets, tmp_path):
    model = student(lora=dict(LORA, target_modules=targets)).train()
    assert model.network.peft_config['default'].task_type == 'SEQ_2_SEQ_LM'
    before = copy.deepcopy(model.state_dict())
    torch.testing.assert_close(model(**BATCH), student()(**BATCH), rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(**BATCH, mode='loss')['loss'].backward()
        optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert changed == {name for name in before if 'lora_' in name}
    model.eval()
    state = copy.deepcopy(model.state_dict())
    model.save_pretrained(tmp_path / 'merged')
    assert_same_state(model.state_dict(), state)
    merged = Seq2SeqStudent(dict(pretrained=str(tmp_path / 'merged'))).eval()
    unmerged = model(**BATCH)
    assert (merged(**BATCH) - unmerged).abs().max() <= 1e-5 * unmerged.abs().max()
    assert (student()(**BATCH) - unmerged).abs().max() > 1e-3 * unmerged.abs().max()


# ---------------------------------------------------------------------- answers and files


@pytest.mark.parametrize('kind', FAMILIES)
def test_answers_of_a_batch_are_those_one_by_one(kind):
    torch.manual_seed(0)
    model = Seq2SeqStudent(dict(config=FAMILIES[kind]))
    rows = [dict(input_ids=torch.tensor(p), labels=torch.tensor(p * 3)) for p in PROMPTS]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        model(**seq2seq_collate(rows), mode='loss')['loss'].backward()
        optimizer.step()
    model.eval()
    found = model.generate(PROMPTS, 12, eos_id=[])
    assert [len(answer) for answer in found] == [12] * 3
    assert len({tuple(answer) for answer in found}) == 3
    for prompt, answer in zip(PROMPTS, found, strict=True):
        sample = dict(input_ids=torch.tensor(prompt), labels=torch.tensor(answer))
        assert model(**seq2seq_collate([sample]))[0].argmax(-1).tolist() == answer
    end = found[0][4]
    ended = model.generate(PROMPTS, 12, eos_id=end)
    assert ended[0] == found[0][: found[0].index(end)] and model.generate([]) == []


def test_beams_find_a_likelier_answer():
    model = student()

    @torch.no_grad()
    def likelihood(prompt, answer):
        sample = dict(input_ids=torch.tensor(prompt), labels=torch.tensor(answer))
        return -float(model(**seq2seq_collate([sample]), mode='predict')[0]['nll'])

    greedy = model.generate(PROMPTS, 6, eos_id=[])
    beams = model.generate(PROMPTS, 6, eos_id=[], num_beams=VOCAB)
    gains = [
        likelihood(prompt, beam) - likelihood(prompt, answer)
        for prompt, beam, answer in zip(PROMPTS, beams, greedy, strict=True)
    ]
    assert min(gains) > -1e-4 and max(gains) > 1e-2


def test_prompts_of_an_encoder_are_padded_behind():
    ids, mask = left_padded([[4, 5], [6]], 9, right=True)
    assert ids.tolist() == [[4, 5], [6, 9]] and mask.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize(
    ('kind', 'changes'),
    [('t5', {}), ('t5', dict(tie_word_embeddings=False)), ('bart', {})],
)
def test_exports_are_read_by_transformers(kind, changes, tmp_path):
    torch.manual_seed(0)
    config = dict(FAMILIES[kind], **changes)
    model = Seq2SeqStudent(dict(config=config), vocab_size=57).eval()
    if kind == 'bart':
        model.network.final_logits_bias[:, :57] = torch.randn(57)
    model.save_pretrained(tmp_path / 'out')
    read = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / 'out').eval()
    assert read.config.vocab_size == 57 and model.network.config.vocab_size == 64
    torch.testing.assert_close(read(**BATCH).logits, model(**BATCH))
    answer = read.generate(
        torch.tensor(PROMPTS[:1]), max_new_tokens=8, do_sample=False, eos_token_id=None
    )
    assert model.generate(PROMPTS[:1], 8, eos_id=[]) == answer[:, 1:].tolist()
    again = Seq2SeqStudent(dict(pretrained=str(tmp_path / 'out')))
    torch.testing.assert_close(again.eval()(**BATCH), model(**BATCH))
