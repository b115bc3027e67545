"""Samples as a function of (seed, position)."""

import os
import signal
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import PositionedBatchSampler, positioned_loader
from mmdistill.core.rng import rng_state
from mmdistill.core.samplers import NaturalSampler, RatioSampler
from mmdistill.testing.compare import assert_same_state


class Noise(Dataset):
    """(index, noise, process id)"""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, float(torch.rand(())) + float(np.random.rand()), os.getpid()  # noqa: NPY002


class Slow(Noise):
    """Takes its time."""

    def __getitem__(self, index):
        time.sleep(0.2)
        return super().__getitem__(index)


def rows(loader, count=8):
    """The first batches without the process ids."""
    iterator = iter(loader)
    return [[row[:2] for row in next(iterator)] for _ in range(count)]


def make(workers=0, seed=1, infinite=True, dataset=None, **options):
    """A positioned loader with batches of 3 of 10 samples."""
    options.update(dict(multiprocessing_context='fork') if workers else {})
    loader = DataLoader(
        dataset or Noise(), batch_size=3, num_workers=workers, collate_fn=list, **options
    )
    return positioned_loader(loader, seed, infinite)


def test_a_seek_changes_nothing_but_the_start():
    whole = rows(make(), 9)
    for start in (0, 1, 4, 7):
        loader = make()
        loader.batch_sampler.seek(start)
        assert rows(loader, 9 - start) == whole[start:]


def test_workers_and_their_number_change_nothing():
    assert rows(make(0)) == rows(make(1)) == rows(make(2, persistent_workers=True))


def test_seed_epoch_and_position_change_the_noise():
    first = rows(make(), 8)
    noise = [value for batch in first for _, value in batch]
    assert len(set(noise)) == len(noise)  # two epochs, all different
    assert all(a != b for a, b in zip(noise, [v for r in rows(make(seed=2)) for _, v in r]))  # noqa: B905


def test_the_training_generators_are_left_alone():
    before = rng_state()
    rows(make(0))
    rows(make(2))
    assert_same_state(rng_state(), before)


def test_epochs_of_a_finite_loader():
    loader = make(infinite=False)
    assert len(loader) == 4 and [len(batch) for batch in loader] == [3, 3, 3, 1]
    zero = rows(loader, 4)
    loader.batch_sampler.set_epoch(1)
    one = rows(loader, 4)
    assert zero != one and [[i for i, _ in b] for b in zero] == [[i for i, _ in b] for b in one]
    loader.batch_sampler.set_epoch(0)
    assert rows(loader, 4) == zero


def test_infinite_sampler_is_skipped_not_replayed():
    class Endless(SequentialSampler):
        infinite, skipped, start = True, [], 0

        def skip(self, samples):
            self.skipped.append(samples)
            self.start = samples

        def __iter__(self):
            position = self.start
            while True:
                yield position % 10
                position += 1

    dataset = Noise()
    whole = rows(make(dataset=dataset, sampler=Endless(dataset)), 9)
    loader = make(dataset=dataset, sampler=Endless(dataset))
    loader.batch_sampler.seek(6)
    assert rows(loader, 3) == whole[6:]
    assert Endless.skipped == [18]


def test_plain_indices_still_work():
    dataset = Noise()
    make(dataset=dataset)
    assert [
        row[0] for row in DataLoader(dataset, batch_size=2, collate_fn=list).__iter__().__next__()
    ] == [0, 1]  # noqa: E501
    assert dataset[3][0] == 3


def test_options_are_kept():
    loader = make(2, persistent_workers=True, prefetch_factor=3, timeout=30)
    assert (loader.num_workers, loader.prefetch_factor, loader.timeout) == (2, 3, 30)
    assert loader.persistent_workers and loader.batch_sampler.batch_size == 3
    assert isinstance(loader.batch_sampler, PositionedBatchSampler)


def test_streams_are_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(UserError, match='Stream'):
        positioned_loader(DataLoader(Stream(), batch_size=2), 0, True)
    with pytest.raises(UserError, match='batch_size'):
        positioned_loader(DataLoader(Noise(), batch_size=None), 0, True)


def test_a_ratio_for_another_batch_size_is_refused():
    def build(batch_size):
        dataset = Noise()
        sizes = (len(dataset) - 2, 2)
        sampler = RatioSampler(dataset, 4, (1, 1), source_sizes=sizes)
        loader = DataLoader(dataset, batch_size, sampler=sampler, collate_fn=list)
        return positioned_loader(loader, 0, True)

    assert len(next(iter(build(4)))) == 4
    with pytest.raises(UserError, match='batch_size is 4 in the RatioSampler and 6 in the data'):
        build(6)


def test_a_natural_sampler_has_no_batch_size():
    dataset = Noise()
    loader = DataLoader(dataset, 3, sampler=NaturalSampler(dataset), collate_fn=list)
    assert len(next(iter(positioned_loader(loader, 0, True)))) == 3


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_job_spares_the_workers(number):
    """A helper process signals the workers, as a scheduler does."""
    iterator = iter(make(2, dataset=Slow()))
    pids = {row[2] for _ in range(2) for row in next(iterator)}
    assert len(pids) == 2 and os.getpid() not in pids
    os.system(f'kill -{int(number)} {" ".join(map(str, pids))}')
    assert {row[2] for _ in range(4) for row in next(iterator)} == pids


def test_workers_obey_their_parent():
    import multiprocessing

    others = set(multiprocessing.active_children())  # of tests before, not yet collected
    iterator = iter(make(1, dataset=Slow()))
    next(iterator)
    (worker,) = set(multiprocessing.active_children()) - others
    worker.terminate()
    worker.join(10)
    assert not worker.is_alive()
