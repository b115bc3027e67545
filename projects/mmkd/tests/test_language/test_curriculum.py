"""The order of a training in stages: every pack once an epoch, and whole steps for all ranks."""

from itertools import islice

import pytest

from mmdistill.core.errors import UserError
from mmdistill.core.samplers import NaturalSampler
from mmkd.language.curriculum import Curriculum


class Packs:
    """Packs that are their own names; another number of them in each epoch."""

    def __init__(self, name, counts):
        self.name, self.counts = name, counts

    def count(self, epoch):
        return self.counts[epoch]

    def pack(self, epoch, number):
        assert 0 <= number < self.counts[epoch]
        return (self.name, epoch, number)

    def empty(self):
        return None


def made(**settings):
    stages = [
        dict(name='first', dataset=Packs('a', [5, 4]), epochs=2),
        dict(name='second', dataset=Packs('b', [3]), epochs=1),
    ]
    return Curriculum(stages, **settings)


def test_every_pack_is_there_once_and_epochs_are_whole_steps():
    found = made(batch_size=2, accumulate=2)
    assert found.names == ['first', 'second'] and found.sizes == [8 + 4, 4]
    assert len(found) == 16
    rows = [found[place] for place in range(16)]
    assert rows[:8] == [('a', 0, n) for n in range(5)] + [None] * 3
    assert rows[8:12] == [('a', 1, n) for n in range(4)]
    assert rows[12:] == [('b', 0, n) for n in range(3)] + [None]
    assert found.place(9) == (0, 1, 1) and found.place(12) == (1, 0, 0)


def test_steps_of_all_ranks_count(monkeypatch):
    monkeypatch.setattr('mmkd.language.curriculum.get_world_size', lambda: 3)
    assert made(batch_size=2, accumulate=1).sizes == [6 + 6, 6]


@pytest.mark.parametrize('done', [0, 2])
def test_ranks_share_the_packs_and_take_as_many_steps(monkeypatch, done):
    monkeypatch.setattr('mmkd.language.curriculum.get_world_size', lambda: 3)
    data, seen = made(batch_size=2, accumulate=1), []
    for rank in range(3):
        monkeypatch.setattr('mmdistill.core.samplers.get_dist_info', lambda rank=rank: (rank, 3))
        sampler = NaturalSampler(data, shuffle=False)
        sampler.skip(done)
        seen.append(list(islice(sampler, len(data) // 3 - done)))
    assert sorted(sum(seen, [])) == list(range(3 * done, len(data)))
    for step in range(0, len(seen[0]), 2):
        places = [place for own in seen for place in own[step : step + 2]]
        assert len({data.place(place)[:2] for place in places}) == 1  # all in one epoch


def test_nothing_is_filled_up_where_it_fits():
    found = made()
    assert found.sizes == [9, 3] and None not in [found[n] for n in range(len(found))]


@pytest.mark.parametrize('place', [-1, 12])
def test_a_place_beyond_is_an_index_error(place):
    with pytest.raises(IndexError):
        made()[place]


@pytest.mark.parametrize(
    ('stages', 'message'),
    [
        ([], 'stages of Curriculum is empty'),
        ([dict(name='a', dataset=Packs('a', [1]), epoch=1)], "stage 'a' must have name, dataset"),
        ([dict(name='a', epochs=1)], "stage 'a' must have name, dataset"),
        ([dict(name='a', dataset=Packs('a', [1]), epochs=0)], "epochs of stage 'a' must be"),
        ([dict(name='a', dataset=Packs('a', [1]), epochs=1.5)], "epochs of stage 'a' must be"),
        ([dict(name='a', dataset=Packs('a', [1]))] * 2, "two stages are named 'a'"),
    ],
)
def test_wrong_stages_have_one_clear_error(stages, message):
    with pytest.raises(UserError, match=message):
        Curriculum(stages)


def test_wrong_numbers():
    with pytest.raises(UserError, match='at least 1, got 0 and 1'):
        made(batch_size=0)
