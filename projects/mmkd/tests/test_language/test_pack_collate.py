"""Batches of packs: every form by its definition, and that all teach the same tokens."""

import numpy as np
import pytest
import torch
from packed_cases import network
from text_cases import TRIPLES, many, tokenizer

from mmdistill.core.errors import UserError
from mmkd.language import collate
from mmkd.language.lm_loss import next_labels
from mmkd.language.packed_dataset import PackedDataset, packed_sample
from mmkd.language.token_table import TokenTable

CAP = 200


@pytest.fixture(scope='module')
def table():
    return TokenTable.from_texts([*many(120), *TRIPLES], tokenizer(), max_len=CAP)


def learned(batch):
    """Tokens that a batch teaches."""
    return int((next_labels(batch['labels'], batch['doc_ids']) != -100).sum())


def packs_of(table, packer='best_fit'):
    data = PackedDataset(table, CAP, packer=packer)
    return [data[number] for number in range(len(data))]


def test_padded_batches(table):
    samples = [packed_sample(table, np.array(each)) for each in ([0, 1], [2], [])]
    sizes = [len(each['input_ids']) for each in samples]
    for length in (None, CAP):
        batch = collate.padded_collate(samples, length=length, pad_id=9)
        width = length or max(sizes)
        assert {tuple(value.shape) for value in batch.values()} == {(3, width)}
        assert set(batch) == {'input_ids', 'labels', 'position_ids', 'doc_ids'}
        for row, (sample, size) in enumerate(zip(samples, sizes, strict=True)):
            for key in batch:
                assert torch.equal(batch[key][row, :size], sample[key])
            rest = range(width - size)
            assert batch['position_ids'][row, size:].tolist() == list(rest)
            for key, value in dict(input_ids=9, labels=-100, doc_ids=-1).items():
                assert batch[key][row, size:].tolist() == [value for _ in rest]
    with pytest.raises(UserError, match='length of padded_collate is 5'):
        collate.padded_collate(samples, length=5)


def test_the_mask_by_its_definition(table):
    samples = [packed_sample(table, np.array(each)) for each in ([0, 1, 2], [3])]
    batch = collate.padded_collate(samples, mask_dtype='float32')
    mask, docs = batch['attention_mask'], batch['doc_ids']
    assert mask.shape == (2, 1, docs.shape[1], docs.shape[1]) and mask.dtype == torch.float32
    for row in range(2):
        same = docs[row][:, None] == docs[row][None]
        wanted = torch.where(same.tril(), 0.0, torch.finfo(torch.float32).min)
        assert torch.equal(mask[row, 0], wanted)
    assert (mask.amax(-1) == 0).all() and mask.isfinite().all()
    for name in ('int32', 'floaty'):
        with pytest.raises(UserError, match='must be a float type'):
            collate.padded_collate(samples, mask_dtype=name)


def test_flat_batches(table):
    samples = [packed_sample(table, np.array(each)) for each in ([0, 1], [], [2])]
    batch = collate.flat_collate(samples)
    sizes = [int(table.lengths[n]) for n in (0, 1, 2)]
    for key in ('input_ids', 'labels', 'position_ids'):
        assert torch.equal(batch[key], torch.cat([each[key] for each in samples])[None])
    assert batch['doc_ids'].tolist() == [[n for n in range(3) for _ in range(sizes[n])]]
    for side in 'qk':
        ends = batch[f'cu_seq_lens_{side}']
        assert ends.dtype == torch.int32 and ends.tolist() == np.cumsum([0, *sizes]).tolist()
        assert batch[f'max_length_{side}'] == max(sizes)
        assert isinstance(batch[f'max_length_{side}'], int)


def test_a_document_per_row(table):
    samples = [packed_sample(table, np.array(each)) for each in ([0, 1], [], [2])]
    batch = collate.unpacked_collate(samples, pad_id=9)
    assert batch['input_ids'].shape == (3, table.lengths[:3].max())
    for row in range(3):
        alone = packed_sample(table, np.array([row]))
        wanted = collate.padded_collate([alone], batch['input_ids'].shape[1], 9)
        assert all(torch.equal(batch[key][row], wanted[key][0]) for key in wanted)


@pytest.mark.parametrize('form', ['padded_collate', 'flat_collate', 'unpacked_collate'])
def test_batches_of_nothing_have_one_place_that_teaches_nothing(table, form):
    data = PackedDataset(table, CAP)
    batch = getattr(collate, form)([data.empty(), data.empty()])
    rows = 2 if form == 'padded_collate' else 1
    assert batch['labels'].tolist() == [[-100]] * rows and learned(batch) == 0
    assert batch['doc_ids'].tolist() == [[-1]] * rows
    assert batch['position_ids'].tolist() == [[0]] * rows
    if form == 'flat_collate':
        assert batch['cu_seq_lens_q'].tolist() == [0, 1] and batch['max_length_k'] == 1


@pytest.mark.parametrize('packer', ['best_fit', 'next_fit', 'none'])
@pytest.mark.parametrize('form', ['padded_collate', 'flat_collate', 'unpacked_collate'])
def test_every_form_teaches_the_same_tokens(table, packer, form):
    wanted = int((table.lengths - table.prompt_len).sum())
    samples = packs_of(table, packer)
    made = getattr(collate, form)
    batches = [made(samples[n : n + 3]) for n in range(0, len(samples), 3)]
    assert sum(map(learned, batches)) == wanted == table.meta.counts['response_tokens']
    # also without the numbers of documents: labels alone keep documents apart
    shifted = sum(int((next_labels(each['labels']) != -100).sum()) for each in batches)
    assert shifted == wanted


def test_a_network_sees_documents_alone_through_the_mask(table):
    net = network(vocab_size=400, max_position_embeddings=256)
    sample = packed_sample(table, np.array([0, 5, 3]))
    batch = collate.padded_collate([sample], length=CAP, mask_dtype='float32')
    batch = {key: batch[key] for key in ('input_ids', 'position_ids', 'attention_mask')}
    with torch.no_grad():
        packed = net(**batch, use_cache=False).logits[0]
        begin = 0
        for number in (0, 5, 3):
            tokens = torch.tensor(table[number][0], dtype=torch.long)
            alone = net(input_ids=tokens[None], use_cache=False).logits[0]
            assert (packed[begin : begin + len(tokens)] - alone).abs().max() < 1e-3
            begin += len(tokens)
