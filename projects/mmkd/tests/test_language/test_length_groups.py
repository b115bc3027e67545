"""Batches of like length: whole epochs, the same on all ranks, resumable anywhere."""

from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import positioned_loader
from mmkd.language import length_groups as module
from mmkd.language.length_groups import LengthGroupedSampler, length_groups
from mmkd.registry import DATA_SAMPLERS

LENGTHS = np.random.default_rng(0).lognormal(4, 0.8, 203).astype(int)


class Data:
    """Samples that are their indices."""

    lengths = LENGTHS

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        return index


def sampler(**settings):
    """A sampler of batches of 8."""
    return DATA_SAMPLERS.build(
        {'type': 'mmkd.LengthGroupedSampler', 'dataset': Data(), 'batch_size': 8, **settings}
    )


def on_rank(rank, world, monkeypatch, **settings):
    """A sampler of one of several ranks."""
    monkeypatch.setattr(module, 'get_dist_info', lambda: (rank, world))
    return sampler(**settings)


def waste(runs):
    """Share of padding in batches."""
    sizes = LENGTHS[runs]
    return 1 - sizes.sum() / (sizes.max(1) * sizes.shape[1]).sum()


def test_an_epoch_has_every_sample_and_fills_the_last_run():
    runs = length_groups(LENGTHS, 8, 4, (1,))
    assert runs.shape == (26, 8)
    numbers, counts = np.unique(runs, return_counts=True)
    assert numbers.tolist() == list(range(203)) and sorted(counts)[-6:] == [1, 2, 2, 2, 2, 2]
    assert length_groups(LENGTHS[:3], 8, 4, (1,)).shape == (1, 8)
    assert not np.array_equal(runs, length_groups(LENGTHS, 8, 4, (2,)))
    assert np.array_equal(runs, length_groups(LENGTHS, 8, 4, (1,)))


def test_batches_of_like_length_have_little_padding():
    grouped, mixed = (waste(length_groups(LENGTHS, 8, window, (1,))) for window in (50, 1))
    assert mixed > 0.4 and grouped < 0.12
    means = LENGTHS[length_groups(LENGTHS, 8, 50, (1,))].mean(1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5  # their order is random


def test_ranks_share_the_runs_of_one(monkeypatch):
    one = on_rank(0, 1, monkeypatch, batch_size=16)
    two = [on_rank(rank, 2, monkeypatch) for rank in range(2)]
    assert {len(each) for each in two} == {104} and len(one) == 208
    runs = [np.array(each.order(3)).reshape(-1, 8) for each in two]
    assert np.array_equal(np.sort(np.hstack(runs)), np.sort(np.reshape(one.order(3), (-1, 16))))
    assert abs(LENGTHS[runs[0]] - LENGTHS[runs[1]]).mean() < 0.1 * LENGTHS.mean()


def test_epochs_and_positions():
    made = sampler(seed=5)
    made.set_epoch(2)
    whole = list(made)
    assert len(whole) == len(made) == 208 and {epoch for epoch, _ in whole} == {2}
    assert [number for _, number in whole] == made.order(2) != made.order(3)
    made.skip(50)
    assert list(made) == whole[50:] and list(made) == whole
    other = sampler(seed=1)
    other.load_state_dict(made.state_dict())
    assert list(other) == whole
    endless = sampler(seed=5, infinite=True)
    first = list(islice(endless, 700))
    assert first[416:624] == whole and [epoch for epoch, _ in first[:208]] == [0] * 208
    endless.skip(500)
    assert list(islice(endless, 200)) == first[500:]


@pytest.mark.parametrize('infinite', [False, True])
def test_a_loader_goes_on_at_any_batch(infinite):
    def loader():
        made = sampler(seed=5, infinite=infinite)
        return positioned_loader(
            DataLoader(Data(), batch_size=8, sampler=made, collate_fn=list), 7, infinite
        )

    whole = list(islice(loader(), 40))
    again = loader()
    again.batch_sampler.seek(11)
    assert list(islice(again, 29)) == whole[11:] and len(whole) == (40 if infinite else 26)


def test_mistakes():
    with pytest.raises(UserError, match='batch_size and window must be at least 1, got 0 and 50'):
        sampler(batch_size=0)
    with pytest.raises(UserError, match='list has no lengths: give them'):
        LengthGroupedSampler([1, 2], 2)
    with pytest.raises(UserError, match='there are 3 lengths and 2 samples'):
        LengthGroupedSampler([1, 2], 2, lengths=[1, 2, 3])
    with pytest.raises(UserError, match='cannot skip -1 samples'):
        sampler().skip(-1)
