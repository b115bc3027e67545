"""Samplers: exact mixtures, every sample once, ranks disjoint, resumable at any sample."""

from itertools import islice

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset

from mmdistill.core.errors import UserError
from mmdistill.core.samplers import NaturalSampler, RatioSampler
from mmdistill.registry import DATA_SAMPLERS
from mmdistill.testing import run_gloo


def ratio(sizes, batch_size, ratios, rank=0, world=1, **settings):
    """A RatioSampler as it is on one of several ranks."""
    sampler = RatioSampler(
        range(sum(sizes)), batch_size, ratios, source_sizes=sizes, infinite=False, **settings
    )
    return on_rank(sampler, rank, world)


def on_rank(sampler, rank, world):
    """The sampler as built on a rank, without a process group."""
    sampler.rank, sampler.world = rank, world
    count = sampler.counts[sampler.epoch_of]
    sampler.batches = -(-sampler.sizes[sampler.epoch_of] // (count * world))
    return sampler


def take(sampler, count):
    return list(islice(iter(sampler), count))


@pytest.mark.parametrize('ratios, batch_size', [((1, 3), 4), ((1, 3), 8), ((2, 1), 6), ((0, 1), 5)])
@pytest.mark.parametrize('infinite', [True, False])
def test_every_batch_has_exact_counts(ratios, batch_size, infinite):
    sizes = (7, 23)
    sampler = ratio(sizes, batch_size, ratios)
    sampler.infinite = infinite
    indices = torch.tensor(take(sampler, batch_size * 12))
    batches = indices.view(-1, batch_size)
    expected = ratios[0] * batch_size // sum(ratios)
    assert ((batches < sizes[0]).sum(1) == expected).all()
    assert indices.min() >= 0 and indices.max() < sum(sizes)


def test_three_sources():
    sampler = ratio((3, 50, 9), 7, (1, 4, 2))
    batches = torch.tensor(list(sampler)).view(-1, 7)
    kinds = (batches >= 3).long() + (batches >= 53).long()
    assert kinds.tolist() == [[0, 1, 1, 1, 1, 2, 2]] * len(batches)


@pytest.mark.parametrize('epoch', [0, 1, 2, 5])
@pytest.mark.parametrize('size, world', [(12, 1), (12, 4), (13, 4), (10, 3), (3, 4), (1, 4)])
def test_natural_epoch_holds_every_sample_once(size, world, epoch):
    samplers = [
        on_rank(NaturalSampler(range(size), infinite=False), rank, world) for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    rows = [list(sampler) for sampler in samplers]
    assert {len(row) for row in rows} == {len(samplers[0])} == {-(-size // world)}
    in_order = [rows[rank][step] for step in range(len(rows[0])) for rank in range(world)]
    assert sorted(in_order[:size]) == list(range(size))
    assert in_order[size:] == in_order[: len(in_order) - size]  # padding


@pytest.mark.parametrize('world', [1, 2, 4])
def test_infinite_natural_passes_hold_every_sample_once(world):
    size, passes = 13, 8
    samplers = [on_rank(NaturalSampler(range(size)), rank, world) for rank in range(world)]
    rows = [take(sampler, size * passes // world) for sampler in samplers]
    in_order = [row[step] for step in range(size * passes // world) for row in rows]
    for start in range(0, size * passes, size):
        assert sorted(in_order[start : start + size]) == list(range(size))


def test_ranks_are_disjoint_and_cover_the_epoch():
    rows = [list(ratio((16, 48), 4, (1, 3), rank, 4)) for rank in range(4)]
    assert all(not set(rows[a]) & set(rows[b]) for a in range(4) for b in range(a))
    assert set().union(*rows) == set(range(64))


def test_source_that_defines_the_epoch():
    labeled = ratio((6, 100), 2, (1, 1), epoch_of=0)
    assert len(labeled) == 12
    assert sorted(index for index in labeled if index < 6) == list(range(6))
    longest = ratio((6, 100), 2, (1, 1))
    assert len(longest) == len(list(longest)) == 200
    assert sorted(index for index in longest if index >= 6) == list(range(6, 106))


def test_other_sources_go_on_over_epochs():
    sampler = ratio((4, 12), 2, (1, 1), epoch_of=0)
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen += [index for index in sampler if index >= 4]
    assert sorted(seen) == list(range(4, 16))  # 12 unlabelled samples, 4 an epoch, none twice


@pytest.mark.parametrize('count', [0, 1, 3, 4, 7, 29, 64])
@pytest.mark.parametrize('infinite', [True, False])
def test_skip_equals_dropping(count, infinite):
    def make():
        sampler = ratio((7, 23), 4, (1, 3))
        sampler.infinite = infinite
        return sampler

    straight, skipped = make(), make()
    skipped.skip(count)
    assert take(skipped, 40) == take(straight, count + 40)[count:]
    assert take(skipped, 40) == take(straight, 40)  # a skip is good for one iteration


def test_order_is_a_function_of_the_seed():
    orders = [take(NaturalSampler(range(30), seed=seed), 60) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:30] != orders[0][30:]  # a new permutation every pass
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert take(NaturalSampler(range(30)), 60) == orders[0]
    assert torch.equal(before, torch.get_rng_state())


def test_without_shuffle_in_order():
    assert take(NaturalSampler(range(5), shuffle=False), 12) == [0, 1, 2, 3, 4] * 2 + [0, 1]
    assert list(ratio((2, 4), 3, (1, 2), shuffle=False)) == [0, 2, 3, 1, 4, 5]


def test_state_round_trip():
    sampler = NaturalSampler(range(20), seed=7, infinite=False)
    sampler.set_epoch(3)
    other = NaturalSampler(range(20), seed=0, infinite=False)
    other.load_state_dict(sampler.state_dict())
    assert list(other) == list(sampler)


def test_seed_none_is_drawn():
    sampler = NaturalSampler(range(20), seed=None)
    assert isinstance(sampler.seed, int) and take(sampler, 20) == take(sampler, 20)


def test_concat_dataset_gives_the_sources():
    parts = [BaseDataset(data_prefix={}, serialize_data=False, lazy_init=True) for _ in range(2)]
    for part, size in zip(parts, (3, 9), strict=True):
        part.data_list, part._fully_initialized = [{}] * size, True
    sampler = DATA_SAMPLERS.build(
        dict(
            type='mmdistill.RatioSampler', dataset=ConcatDataset(parts), batch_size=4, ratios=(1, 3)
        )
    )
    assert sampler.sizes == [3, 9] and len(sampler) == 12


@pytest.mark.parametrize(
    'sizes, batch_size, ratios, settings, words',
    [
        ((0, 5), 4, (1, 3), {}, 'source 0 is empty'),
        ((5, 0), 4, (1, 3), {}, 'source 1 is empty'),
        ((5, 5), 5, (1, 3), {}, 'no multiple'),
        ((5, 5), 0, (1, 3), {}, 'no multiple'),
        ((5, 5), 4, (1,), {}, 'one number >= 0'),
        ((5, 5), 4, (-1, 5), {}, 'one number >= 0'),
        ((5, 5), 4, (0, 0), {}, 'not all of them 0'),
        ((5, 5), 4, (0, 1), dict(epoch_of=0), 'epoch_of=0'),
        ((5, 5), 4, (0.25, 0.75), {}, 'whole numbers'),
        ((5, 5), 4, '13', {}, 'whole numbers'),
        ((5, 5), 4.0, (1, 3), {}, 'whole numbers'),
        ((-2, 7), 4, (1, 3), {}, 'not be negative'),
    ],
)
def test_errors_are_clear(sizes, batch_size, ratios, settings, words):
    with pytest.raises(UserError, match=words):
        ratio(sizes, batch_size, ratios, **settings)


def test_errors_about_the_dataset():
    with pytest.raises(UserError, match='add up'):
        RatioSampler(range(5), 2, (1, 1), source_sizes=(1, 2))
    with pytest.raises(UserError, match='ConcatDataset'):
        RatioSampler(range(5), 2, (1, 1))
    with pytest.raises(UserError, match='source 0 is empty'):
        NaturalSampler([])
    with pytest.raises(UserError, match='skip'):
        NaturalSampler(range(3)).skip(-1)


def test_an_empty_source_without_a_part_is_fine():
    assert set(ratio((0, 5), 2, (0, 1))) == set(range(5))


def _on_two_ranks(rank):
    mixed = RatioSampler(range(40), 4, (1, 3), source_sizes=(10, 30), infinite=False)
    natural = NaturalSampler(range(21), seed=None)
    return list(mixed), take(natural, 10), natural.seed, mixed.state_dict()['world']


def test_two_gloo_ranks():
    (a, first, seed_a, world), (b, second, seed_b, _) = run_gloo(_on_two_ranks)
    assert world == 2 and seed_a == seed_b
    assert not set(a) & set(b) and set(a) | set(b) == set(range(40))
    assert not set(first) & set(second)
