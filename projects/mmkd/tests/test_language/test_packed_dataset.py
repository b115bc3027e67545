"""Packs as training data: labels, positions, epochs, what is refused."""

import pickle

import numpy as np
import pytest
import torch
from text_cases import TRIPLES, many, text, tokenizer

from mmdistill.core.errors import UserError
from mmkd.language import packed_dataset
from mmkd.language.packed_dataset import PackedDataset, packed_sample
from mmkd.language.packing import best_fit
from mmkd.language.table_writer import write_table
from mmkd.language.token_table import TokenTable
from mmkd.language.tokenize import rows_of

CAP = 200


@pytest.fixture(scope='module')
def table():
    return TokenTable.from_texts([*many(120), *TRIPLES], tokenizer(), max_len=CAP)


def test_documents_one_after_the_other(table):
    found = packed_sample(table, np.array([4, 0, 7]))
    documents = [table[n] for n in (4, 0, 7)]
    sizes = [len(tokens) for tokens, _ in documents]
    assert found['input_ids'].tolist() == [t for tokens, _ in documents for t in tokens.tolist()]
    assert found['position_ids'].tolist() == [p for size in sizes for p in range(size)]
    assert found['doc_ids'].tolist() == [n for n, size in enumerate(sizes) for _ in range(size)]
    assert found['cu_seqlens'].tolist() == np.cumsum([0, *sizes]).tolist()
    assert {key: value.dtype for key, value in found.items()} == dict(
        dict.fromkeys(('input_ids', 'labels', 'position_ids', 'doc_ids'), torch.int64),
        cu_seqlens=torch.int32,
    )
    for (tokens, prompt_len), size, end in zip(
        documents, sizes, found['cu_seqlens'][1:], strict=True
    ):
        labels = found['labels'][end - size : end].tolist()
        assert labels == [-100] * prompt_len + tokens[prompt_len:].tolist()


def test_labels_are_answers_and_eos(table):
    data = PackedDataset(table, CAP)
    responses = {f'{each[2]}</s>' for each in [*many(120), *TRIPLES]}
    for number in range(len(data)):
        pack = data[number]
        for part in pack['labels'].split(pack['cu_seqlens'].diff().tolist()):
            assert text(part[part != -100]) in responses


def test_the_first_token_of_a_document_is_never_learned(table):
    class Bare:
        def __getitem__(self, index):
            return np.array([7, 8, 9], np.int32), np.int32(0)

    assert packed_sample(Bare(), np.array([0, 1]))['labels'].tolist() == [-100, 8, 9, -100, 8, 9]
    data = PackedDataset(table, CAP)
    for number in range(len(data)):
        pack = data[number]
        assert (pack['labels'][pack['position_ids'] == 0] == -100).all()


def test_the_empty_pack(table):
    empty = PackedDataset(table, CAP).empty()
    assert {key: value.tolist() for key, value in empty.items()} == dict(
        input_ids=[], labels=[], position_ids=[], doc_ids=[], cu_seqlens=[0]
    )
    full = packed_sample(table, np.array([0]))
    assert all(value.dtype == full[key].dtype for key, value in empty.items())


def test_packs_of_epochs_and_stages(table):
    data = PackedDataset(table, CAP, seed=3, stage=1)
    for epoch in (0, 1, 2, 0):
        data.set_epoch(epoch)
        wanted = best_fit(table.lengths, CAP, (3, 1, epoch))
        assert len(data) == len(wanted) == data.count(epoch)
        assert np.array_equal(data.packs(epoch).sample_ids, wanted.sample_ids)
        assert torch.equal(data[2]['input_ids'], packed_sample(table, wanted[2])['input_ids'])
        assert torch.equal(data[epoch, 2]['input_ids'], data[2]['input_ids'])
        assert len(data[epoch, len(data)]['input_ids']) == 0
        with pytest.raises(IndexError):
            data[len(data)]
    header = data.index(2).header
    assert header['samples'] == len(table) and header['epoch'] == 2 and header['stage'] == 1
    fresh = PackedDataset(table, CAP, seed=3, stage=1)
    assert len(pickle.dumps(data)) < len(pickle.dumps(fresh)) + 200


def test_an_index_with_an_epoch_does_not_depend_on_the_present_one(table):
    data = PackedDataset(table, CAP, packer='next_fit')
    counts = [data.count(epoch) for epoch in range(6)]
    assert len(set(counts)) > 1
    data.set_epoch(int(np.argmin(counts)))
    for epoch, count in enumerate(counts):
        assert len(data[epoch, count - 1]['input_ids']) > 0
    data.set_epoch(int(np.argmax(counts)))
    for epoch, count in enumerate(counts):
        assert len(data[epoch, count]['input_ids']) == 0


def test_packs_are_not_made_again_for_each_sample(table, monkeypatch):
    calls = []

    def counted(*args):
        calls.append(args[2])
        return best_fit(*args)

    monkeypatch.setattr(packed_dataset, 'packer_named', lambda name: counted)
    data = PackedDataset(table, CAP)
    for epoch in (0, 1, 2):
        for number in range(data.count(epoch)):
            data.pack(epoch, number)
    assert calls == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]
    assert [data.count(epoch) for epoch in (0, 1, 2)] and len(calls) == 3


def test_what_is_refused(table, tmp_path):
    with pytest.raises(UserError, match='tokens, a pack takes 50 .*tokenize with max_len=50'):
        PackedDataset(table, 50)
    with pytest.raises(UserError, match="packer 'best' is not known"):
        PackedDataset(table, CAP, packer='best')
    with pytest.raises(UserError, match='template is checked with its tokenizer'):
        PackedDataset(table, CAP, template='plain')
    write_table(tmp_path / 'table', rows_of(TRIPLES), tokenizer())
    for name, made in (('same', tokenizer()), ('other', tokenizer(extra='zebra zebra'))):
        made.save_pretrained(tmp_path / name)
    PackedDataset('table', CAP, tokenizer='same', template='plain', data_root=str(tmp_path))
    with pytest.raises(UserError, match='another tokenizer'):
        PackedDataset('table', CAP, tokenizer='other', data_root=str(tmp_path))
    with pytest.raises(UserError, match='another template'):
        PackedDataset('table', CAP, tokenizer='same', template='chatml', data_root=str(tmp_path))
