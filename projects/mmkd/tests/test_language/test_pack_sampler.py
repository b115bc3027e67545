"""Packs of ranks, epochs and a resumed training: the same order, nothing read twice."""

import pytest
import torch
from mmengine.runner import Runner
from text_cases import TRIPLES, many, tokenizer
from torch.utils.data import DataLoader

from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import positioned_loader
from mmkd.language import collate, pack_sampler
from mmkd.language.curriculum import Curriculum
from mmkd.language.lm_loss import next_labels
from mmkd.language.pack_sampler import PackSampler
from mmkd.language.packed_dataset import PackedDataset
from mmkd.language.table_writer import write_table
from mmkd.language.token_table import TokenTable
from mmkd.language.tokenize import rows_of

CAP = 200


@pytest.fixture(scope='module')
def table():
    return TokenTable.from_texts([*many(120), *TRIPLES], tokenizer(), max_len=CAP)


def learned(batch):
    """Tokens that a batch teaches."""
    return int((next_labels(batch['labels'], batch['doc_ids']) != -100).sum())


def ranks(monkeypatch, data, world, **settings):
    """The sampler of each rank."""
    found = []
    for rank in range(world):
        monkeypatch.setattr(pack_sampler, 'get_dist_info', lambda rank=rank: (rank, world))
        found.append(PackSampler(data, **settings))
    return found


@pytest.mark.parametrize('world', [1, 2, 3, 7])
@pytest.mark.parametrize(('batch_size', 'accumulate'), [(1, 1), (2, 1), (2, 3)])
def test_ranks_share_all_packs_in_equal_steps(table, monkeypatch, world, batch_size, accumulate):
    data = PackedDataset(table, CAP)
    settings = dict(batch_size=batch_size, accumulate=accumulate)
    samplers = ranks(monkeypatch, data, world, **settings)
    for epoch in (0, 1):
        for each in samplers:
            each.set_epoch(epoch)
        count = data.count(epoch)
        taken = [list(each) for each in samplers]
        steps = -(-count // (world * batch_size * accumulate))
        assert {len(each) for each in taken} == {steps * batch_size * accumulate}
        assert {len(each) for each in samplers} == {steps * batch_size * accumulate}
        assert {e for each in taken for e, _ in each} == {epoch}
        numbers = sorted(number for each in taken for _, number in each)
        assert numbers == list(range(len(numbers))) and len(numbers) - count < (
            world * batch_size * accumulate
        )
        assert taken[-1][0] == (epoch, world - 1)


def test_ranks_have_the_same_packs(table):
    one, other = PackedDataset(table, CAP, seed=5), PackedDataset(table, CAP, seed=5)
    other.count(3), other.set_epoch(7)
    for number in range(one.count(1)):
        assert torch.equal(one.pack(1, number)['input_ids'], other.pack(1, number)['input_ids'])


@pytest.mark.parametrize('done', [0, 1, 5, 'all', 'more'])
def test_skip_is_the_rest_of_the_order(table, monkeypatch, done):
    data = PackedDataset(table, CAP)
    straight, resumed = (
        ranks(monkeypatch, data, 2, batch_size=2, infinite=True)[1] for _ in range(2)
    )
    sizes = [straight.size(epoch) for epoch in range(4)]
    done = dict(all=sizes[0], more=sizes[0] + sizes[1] + 3).get(done, done)
    order = iter(straight)
    whole = [next(order) for _ in range(sum(sizes))]
    assert [e for e, _ in whole] == [e for e in range(4) for _ in range(sizes[e])]
    resumed.skip(done)
    order = iter(resumed)
    assert [next(order) for _ in range(sum(sizes) - done)] == whole[done:]
    again = iter(resumed)
    assert next(again) == whole[0]


def test_skip_within_an_epoch(table):
    sampler = PackSampler(PackedDataset(table, CAP))
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.skip(4)
    assert list(sampler) == whole[4:] and list(sampler) == whole
    with pytest.raises(UserError, match='cannot skip -1'):
        sampler.skip(-1)


class Counted(PackedDataset):
    """Notes what is read."""

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)


def loader(data, infinite, **settings):
    """A loader of a training."""
    made = DataLoader(
        data, 2, sampler=PackSampler(data, 2, infinite=infinite), collate_fn=collate.padded_collate
    )
    return positioned_loader(made, seed=0, infinite=True)


@pytest.mark.parametrize('infinite', [False, True])
def test_a_resumed_training_reads_nothing_twice(table, infinite):
    data = Counted(table, CAP)
    data.read = []
    straight = iter(loader(data, infinite))
    batches = [next(straight)['input_ids'] for _ in range(len(data) // 2 + 9)]
    read, data.read = data.read, []
    resumed = loader(data, infinite)
    resumed.batch_sampler.seek(len(data) // 2 + 4)
    resumed = iter(resumed)
    for wanted in batches[len(data) // 2 + 4 :]:
        assert torch.equal(next(resumed)['input_ids'], wanted)
    assert data.read == read[2 * (len(data) // 2 + 4) :] and {e for e, _ in data.read} == {1}


def test_workers_that_persist_know_the_epoch(table, tmp_path):
    made = write_table(tmp_path / 'table', rows_of(many(40)), tokenizer())
    found = []
    for workers in (0, 1):
        data = PackedDataset(made, CAP)
        sampler = PackSampler(data)
        reader = DataLoader(
            data,
            1,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=collate.flat_collate,
        )
        batches = []
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            batches += [each['input_ids'].tolist() for each in reader]
        found.append(batches)
    assert found[0] == found[1]


def test_state_of_another_training_is_refused(table, monkeypatch):
    data = PackedDataset(table, CAP, seed=4)
    sampler = ranks(monkeypatch, data, 2)[0]
    sampler.set_epoch(3)
    other = ranks(monkeypatch, data, 2)[1]
    other.load_state_dict(sampler.state_dict())
    assert other.epoch == 3
    with pytest.raises(UserError, match='shared with world = 2, now it is 3'):
        ranks(monkeypatch, data, 3)[0].load_state_dict(sampler.state_dict())
    with pytest.raises(UserError, match='shared with seed = 4, now it is 0'):
        ranks(monkeypatch, PackedDataset(table, CAP), 2)[0].load_state_dict(sampler.state_dict())
    with pytest.raises(UserError, match='at least 1, got 0 and 1'):
        PackSampler(data, 0)
    with pytest.raises(UserError, match='of a PackedDataset, not list'):
        PackSampler([1, 2])


def test_built_from_a_config(tmp_path):
    write_table(tmp_path / 'table', rows_of(many(30)), tokenizer())
    reader = Runner.build_dataloader(
        dict(
            batch_size=2,
            dataset=dict(type='mmkd.PackedDataset', table=str(tmp_path / 'table'), cap=CAP),
            sampler=dict(type='mmkd.PackSampler', batch_size=2),
            collate_fn=dict(type='mmkd.padded_collate', length=CAP),
        ),
        seed=0,
    )
    batches = list(reader)
    assert {tuple(each['input_ids'].shape) for each in batches} == {(2, CAP)}
    assert sum(map(learned, batches)) == reader.dataset.table.meta.counts['response_tokens']


def test_stages_read_packs_in_their_order(table):
    data = PackedDataset(table, CAP, seed=2)
    stages = Curriculum([dict(name='a', dataset=data, epochs=2)], batch_size=2, accumulate=2)
    rows = [stages[place]['input_ids'] for place in range(len(stages))]
    first = stages.sizes[0] - (-(-data.count(1) // 4) * 4)
    for number in range(data.count(1)):
        assert torch.equal(rows[first + number], data.pack(1, number)['input_ids'])
    assert sum(map(len, rows)) == 2 * table.lengths.sum()
