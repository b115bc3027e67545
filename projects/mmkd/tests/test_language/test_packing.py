"""Packers: every sample once and whole, few packs, the same for the same keys; files of packs."""

import time

import numpy as np
import pytest

from mmdistill.core.errors import UserError
from mmkd.language.pack_index import PackIndex
from mmkd.language.packing import (
    PACKERS,
    Packs,
    best_fit,
    next_fit,
    packer_named,
    shuffled,
    unpacked,
)

CAP = 2048


def log_normal(count, mean=620, sigma=0.75, seed=0):
    """Lengths of the distribution that has about the paper's 2.7 examples per sequence."""
    draws = np.random.default_rng(seed).lognormal(np.log(mean) - sigma**2 / 2, sigma, count)
    return np.clip(draws.astype(int), 1, CAP)


def contents(packs, lengths):
    """Lengths in each pack, in an order that does not depend on it."""
    return sorted(sorted(lengths[packs[n]].tolist()) for n in range(len(packs)))


def slow_best_fit(lengths, cap):
    """Sums of the packs of best-fit decreasing, item by item; ties do not matter to them."""
    rooms = []
    for size in sorted(lengths.tolist(), reverse=True):
        fitting = [n for n, room in enumerate(rooms) if room >= size]
        if not fitting:
            rooms.append(cap)
            fitting = [len(rooms) - 1]
        rooms[min(fitting, key=rooms.__getitem__)] -= size
    return sorted(cap - room for room in rooms)


def least_packs(sizes, cap):
    """The least number of packs, by trying every division."""
    best = [len(sizes)]

    def place(number, rooms):
        if len(rooms) >= best[0]:
            return
        if number == len(sizes):
            best[0] = len(rooms)
            return
        for n in range(len(rooms)):
            if rooms[n] >= sizes[number] and rooms[n] not in rooms[:n]:
                place(number + 1, [*rooms[:n], rooms[n] - sizes[number], *rooms[n + 1 :]])
        place(number + 1, [*rooms, cap - sizes[number]])

    place(0, [])
    return best[0]


@pytest.mark.parametrize('packer', PACKERS.values())
@pytest.mark.parametrize('count', [0, 1, 2, 997, 20_000])
def test_each_sample_once_and_no_pack_too_long(packer, count):
    lengths = log_normal(count)
    packs = packer(lengths, CAP, (3,))
    assert np.array_equal(np.sort(packs.sample_ids), np.arange(count))
    assert packs.indptr[0] == 0 and packs.indptr[-1] == count
    sums = [lengths[packs[n]].sum() for n in range(len(packs))]
    assert all(0 < each <= CAP for each in sums) and sum(sums) == lengths.sum()
    assert packs.efficiency(lengths, CAP) == (sum(sums) / (len(packs) * CAP) if count else 1)
    with pytest.raises(IndexError):
        packs[len(packs)]


@pytest.mark.parametrize('seed', range(30))
def test_best_fit_is_best_fit_decreasing(seed):
    draw = np.random.default_rng(seed)
    cap = int(draw.integers(5, 60))
    lengths = draw.integers(1, cap + 1, draw.integers(1, 200))
    if seed % 2:
        lengths = np.minimum(lengths, cap // 3 + 1)
    packs = best_fit(lengths, cap, (seed,))
    assert sorted(map(sum, contents(packs, lengths))) == slow_best_fit(lengths, cap)


def test_windows_are_packed_by_themselves():
    lengths = log_normal(1000)
    packs = best_fit(lengths, CAP, (1,), window=300)
    windows = np.array_split(shuffled(1000, 1, 0), 4)
    sums = {n: [] for n in range(4)}
    for n in range(len(packs)):
        (home,) = (w for w in range(4) if np.isin(packs[n], windows[w]).any())
        assert np.isin(packs[n], windows[home]).all()
        sums[home].append(lengths[packs[n]].sum())
    for n, window in enumerate(windows):
        assert sorted(sums[n]) == slow_best_fit(lengths[window], CAP)


@pytest.mark.parametrize('seed', range(60))
def test_bound_of_first_fit_decreasing_on_small_instances(seed):
    draw = np.random.default_rng(100 + seed)
    cap = int(draw.integers(10, 40))
    lengths = draw.integers(1, cap + 1, draw.integers(1, 11))
    least = least_packs(lengths.tolist(), cap)
    assert least <= len(best_fit(lengths, cap, (0,))) <= 11 / 9 * least + 6 / 9
    assert len(next_fit(lengths, cap, (0,))) <= max(1, 2 * least - 1)


def test_brute_force_knows_the_optimum():
    assert least_packs([6, 5, 5, 4], 10) == 2 and least_packs([6, 6, 6], 10) == 3
    # best-fit decreasing is not optimal here: 3 packs, where 2 are enough
    sizes = np.array([4, 4, 3, 3, 3, 3])
    assert least_packs(sizes.tolist(), 10) == 2 and len(best_fit(sizes, 10, (0,))) == 3


@pytest.mark.parametrize(
    ('mean', 'sigma', 'examples', 'full'),
    [(620, 0.75, 2.64, 0.799), (300, 0.8, 5.96, 0.874), (954, 0.6, 1.65, 0.768)],
)
def test_how_full_packs_are(mean, sigma, examples, full):
    lengths = log_normal(20_000, mean, sigma)
    paper, best = (each(lengths, CAP, (0,)) for each in (next_fit, best_fit))
    assert paper.efficiency(lengths, CAP) == pytest.approx(full, abs=0.01)
    assert len(lengths) / len(paper) == pytest.approx(examples, rel=0.06)
    assert best.efficiency(lengths, CAP) >= 0.99 > paper.efficiency(lengths, CAP)


def test_windows_cost_little():
    lengths = log_normal(60_000)
    whole, parts = (best_fit(lengths, CAP, (0,), window) for window in (60_000, 20_000))
    assert contents(whole, lengths) != contents(parts, lengths)
    assert parts.efficiency(lengths, CAP) > whole.efficiency(lengths, CAP) - 0.002


def test_packs_come_in_no_order_of_length():
    lengths = log_normal(20_000)
    packs = best_fit(lengths, CAP, (0,))
    means = np.array([lengths[packs[n]].mean() for n in range(len(packs))])
    firsts = np.array([lengths[packs[n][0]] for n in range(len(packs))])
    half = len(means) // 2
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.05
    assert means[:half].mean() == pytest.approx(means[half:].mean(), rel=0.05)
    # the longest document of a pack is not always its first one
    longest = np.array([lengths[packs[n]].max() for n in range(len(packs))])
    several = np.diff(packs.indptr) >= 2
    assert 0.2 < (firsts == longest)[several].mean() < 0.6


@pytest.mark.parametrize('packer', PACKERS.values())
def test_a_function_of_its_keys(packer):
    lengths = log_normal(3000)
    one, again, *others = (
        packer(lengths, CAP, keys)
        for keys in [(1, 0, 2), (1, 0, 2), (1, 0, 3), (1, 1, 2), (2, 0, 2)]
    )
    assert np.array_equal(one.sample_ids, again.sample_ids)
    assert np.array_equal(one.indptr, again.indptr)
    assert not any(np.array_equal(one.sample_ids, other.sample_ids) for other in others)


def test_golden_packs():
    lengths = np.array([5, 1, 4, 9, 6, 3, 2])
    packs = best_fit(lengths, 10, (0, 0, 0))
    assert contents(packs, lengths) == [[1, 9], [2, 3, 5], [4, 6]]
    packs = next_fit(lengths, 10, (0, 0, 0))
    sums, ids = np.add.reduceat(lengths[packs.sample_ids], packs.indptr[:-1]), packs.sample_ids
    following = lengths[ids[packs.indptr[1:-1]]]
    assert (sums[:-1] + following > 10).all() and (sums <= 10).all()
    assert np.array_equal(unpacked(lengths, 10, (0, 0, 0)).indptr, np.arange(8))


def test_a_million_lengths_take_seconds():
    lengths = log_normal(1_000_000)
    begin = time.process_time()
    packs = best_fit(lengths, CAP, (0,))
    assert time.process_time() - begin < 5 and packs.efficiency(lengths, CAP) > 0.99


@pytest.mark.parametrize('packer', PACKERS.values())
def test_samples_that_do_not_fit(packer):
    with pytest.raises(UserError, match=r'sample 1 has 12 tokens, a pack takes 10 \(2 such .*13'):
        packer(np.array([1, 12, 10, 13]), 10, (0,))
    with pytest.raises(UserError, match='sample 2 has no token'):
        packer(np.array([1, 2, 0]), 10, (0,))


def test_unknown_packer():
    assert packer_named('next_fit') is next_fit
    with pytest.raises(UserError, match="packer 'best-fit' is not known .did you mean 'best_fit'"):
        packer_named('best-fit')


HEADER = dict(cap=CAP, packer='best_fit', seed=1, stage=0, epoch=2, tokenizer='a', table='b')


def index(count=500):
    return PackIndex(best_fit(log_normal(count), CAP, (1, 0, 2)), dict(HEADER, samples=count))


def test_saved_packs_are_the_same(tmp_path):
    made = index()
    made.save(tmp_path / 'deep' / 'packs.npz')
    again = PackIndex.load(tmp_path / 'deep' / 'packs.npz', cap=CAP, tokenizer='a', samples=500)
    assert np.array_equal(again.packs.indptr, made.packs.indptr)
    assert np.array_equal(again.packs.sample_ids, made.packs.sample_ids)
    assert again.header == made.header
    assert [each.name for each in (tmp_path / 'deep').iterdir()] == ['packs.npz']


@pytest.mark.parametrize('key', [*HEADER, 'samples'])
def test_packs_of_something_else_are_refused(tmp_path, key):
    index().save(tmp_path / 'packs.npz')
    with pytest.raises(UserError, match=f'packs.npz was packed with {key} = .*, asked for is 7'):
        PackIndex.load(tmp_path / 'packs.npz', **{key: 7})


def test_damaged_packs_are_named(tmp_path):
    path = tmp_path / 'packs.npz'
    with pytest.raises(UserError, match='there is no such file of packs'):
        PackIndex.load(path)
    index().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match='packs.npz is damaged'):
        PackIndex.load(path)
    good = index().packs
    for ids, ends in [
        (np.zeros_like(good.sample_ids), good.indptr),
        (good.sample_ids, good.indptr[:-1]),
        (good.sample_ids, np.array([0, 0, 500])),
    ]:
        PackIndex(Packs(ends, ids), dict(HEADER, samples=500)).save(path)
        with pytest.raises(UserError, match='do not hold each of 500 samples once'):
            PackIndex.load(path)
