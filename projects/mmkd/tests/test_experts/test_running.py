"""Stores of experts: whole, the same after a kill, and shared by processes."""

import dataclasses
import multiprocessing
import os
import re
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmkd.datasets.prepared import PreparedImages
from mmkd.experts import gsam, running
from mmkd.experts.running import run_experts
from mmkd.experts.store import TrajectoryStore
from mmkd.experts.training import ExpertRecipe, ExpertTrainer

# autograd of a forked process fails once its parent has used a GPU
START = multiprocessing.get_context('spawn' if torch.cuda.is_available() else 'fork')
NET = dict(type='mmkd.CondensationNet', num_classes=3, image_size=8, in_channels=1)
MLP = dict(NET, name='MLP', width=4)
BATCH = dict(NET, name='ConvNetBN', width=4, depth=1)
RECIPE = ExpertRecipe(
    MLP, epochs=3, batch_size=6, lr=0.1, rho=0.1, alpha=0.3, augment=dict(type='mmkd.DSA'), seed=7
)
MOMENTUM = dataclasses.replace(RECIPE, momentum=0.9)
STATISTICS = dataclasses.replace(RECIPE, network=BATCH)
SIZE = 65 * 4 + 5 * 4 + 5 * 3


class Random(Dataset):
    """Images of noise."""

    def __init__(self, count, seed):
        draw = torch.Generator().manual_seed(seed)
        self.images = torch.randn(count, 1, 8, 8, generator=draw)
        self.labels = torch.randint(0, 3, (count,), generator=draw).tolist()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        inputs = dict(pixel_values=self.images[index])
        return dict(inputs=inputs, labels=self.labels[index])


def data(count=16, seed=0):
    """Images to train with, three batches of which the last is smaller."""
    return PreparedImages(Random(count, seed))


def run(folder, recipe=RECIPE, experts=3, said=None, held_out=None, **options):
    """Trains; number of experts that were finished."""
    say = [].append if said is None else said.append
    return run_experts(recipe, data(), held_out, folder, experts, say=say, **options)


def arrays(folder):
    """Arrays of a store that trajectories consist of, as bytes."""
    names = [each for each in ('theta', 'buffers', 'done') if (folder / f'{each}.npy').exists()]
    return {name: (folder / f'{name}.npy').read_bytes() for name in names}


@pytest.fixture
def epochs(monkeypatch):
    """Expert and number of the epochs that are trained one by one."""
    found, original = [], ExpertTrainer.epoch

    def epoch(self, expert, number, *rest):
        found.append((expert, number))
        return original(self, expert, number, *rest)

    monkeypatch.setattr(ExpertTrainer, 'epoch', epoch)
    return found


def test_all_snapshots_are_there_and_differ(tmp_path, epochs):
    said = []
    assert run(tmp_path / 'store', said=said) == 3
    assert said == [f'expert {expert} is finished' for expert in range(3)]
    assert epochs == [(expert, epoch) for expert in range(3) for epoch in range(3)]
    store = TrajectoryStore.open(tmp_path / 'store')
    assert store.finished() == [0, 1, 2]
    assert (store.experts, store.epochs, store.size, store.buffer_size) == (3, 3, SIZE, 0)
    assert store.names[:2] == ('hidden.0.weight', 'hidden.0.bias') and store.shapes[0] == (4, 64)
    theta = torch.from_numpy(np.load(tmp_path / 'store' / 'theta.npy'))
    assert theta.shape == (3, 4, SIZE)
    assert len(theta.flatten(0, 1).unique(dim=0)) == 12
    trainer = ExpertTrainer(RECIPE, data().images, data().labels)
    for expert in range(3):
        assert torch.equal(theta[expert, 0], trainer.initial(expert)[0])
        for epoch in range(3):
            again = trainer.epoch(expert, epoch, theta[expert, epoch], torch.empty(0))[0]
            assert torch.equal(again, theta[expert, epoch + 1])


@pytest.mark.parametrize('recipe', [RECIPE, MOMENTUM], ids=['plain', 'momentum'])
def test_a_finished_store_is_not_trained_again(recipe, tmp_path, epochs):
    folder, said = tmp_path / 'store', []
    run(folder, recipe)
    before, count = arrays(folder), len(epochs)
    assert run(folder, recipe, said=said) == 0 and said == [] and len(epochs) == count
    assert arrays(folder) == before


def test_several_at_once_with_an_odd_tail(tmp_path):
    folder, said = tmp_path / 'store', []
    assert run(folder, MOMENTUM, 5, said, together=2) == 5
    assert said == [f'expert {expert} is finished' for expert in range(5)]
    run(tmp_path / 'loop', MOMENTUM, 5)
    found, wanted = (np.load(each / 'theta.npy') for each in (folder, tmp_path / 'loop'))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert len(np.unique(found.reshape(-1, SIZE), axis=0)) == 20
    assert (found[:, 0] == wanted[:, 0]).all()


def test_together_with_running_statistics_says_so(tmp_path):
    with pytest.raises(UserError, match="mode='loop' trains them one by one"):
        run(tmp_path / 'store', STATISTICS, together=2)
    assert not (tmp_path / 'store').exists()


def _stops(pipe, folder, recipe, steps):
    """Trains until so many steps are made, in the middle of an epoch, and waits to be killed."""
    torch.set_num_threads(1)
    step, made = gsam.step, []

    def stop(*args, **rest):
        if len(made) == steps:
            pipe.send('stopped')
            pipe.poll(60)
        made.append(1)
        return step(*args, **rest)

    gsam.step = stop
    run(folder, recipe)


def child(function, *args):
    """Starts a process; what it sends arrives at the pipe."""
    here, there = START.Pipe()
    process = START.Process(target=function, args=(there, *args), daemon=True)
    process.start()
    there.close()
    return process, here


@pytest.mark.parametrize(
    ('recipe', 'left'),
    [(RECIPE, [(1, 2)]), (STATISTICS, [(1, 2)]), (MOMENTUM, [(1, 0), (1, 1), (1, 2)])],
    ids=['plain', 'statistics', 'momentum'],
)
def test_killed_and_run_again_as_never_disturbed(recipe, left, tmp_path, epochs):
    folder = tmp_path / 'store'
    # three steps an epoch: one expert, two epochs and two steps
    process, pipe = child(_stops, folder, recipe, 9 + 6 + 2)
    assert pipe.recv() == 'stopped'
    store = TrajectoryStore.open(folder)
    assert store.finished() == [0] and store.written(1) == 3
    for epoch in range(4):
        with pytest.raises(UserError, match='expert 1 is not finished'):
            store.snapshot(1, epoch)
    # others train what it has not taken, and do not wait
    assert run(folder, recipe) == 1 and store.finished() == [0, 2] and store.written(1) == 3
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL and store.finished() == [0, 2]
    del epochs[:]
    assert run(folder, recipe) == 1 and epochs == left
    assert store.unfinished() == []
    run(tmp_path / 'whole', recipe)
    assert arrays(folder) == arrays(tmp_path / 'whole')


def test_killed_before_the_first_epoch_ends_and_behind_the_last(tmp_path, epochs, monkeypatch):
    for name, place in (('first', (0, 0)), ('last', (0, 3))):
        folder, write = tmp_path / name, TrajectoryStore.write

        def full(self, expert, epoch, *rest, place=place, write=write):
            write(self, expert, epoch, *rest)
            if (expert, epoch) == place:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(TrajectoryStore, 'write', full)
            with pytest.raises(KeyboardInterrupt):
                run(folder)
        store = TrajectoryStore.open(folder)
        assert store.finished() == [] and store.written(0) == place[1] + 1
        del epochs[:]
        assert run(folder) == 3 and len(epochs) == 9 - place[1]
    assert arrays(tmp_path / 'first') == arrays(tmp_path / 'last')


def test_some_at_once_after_a_kill(tmp_path, monkeypatch):
    folder, write = tmp_path / 'store', TrajectoryStore.write

    def full(self, expert, epoch, *rest):
        write(self, expert, epoch, *rest)
        if (expert, epoch) == (0, 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrajectoryStore, 'write', full)
        with pytest.raises(KeyboardInterrupt):
            run(folder, together=2)
    store = TrajectoryStore.open(folder)
    assert store.finished() == [] and [store.written(each) for each in range(3)] == [3, 2, 0]
    assert run(folder, together=2) == 3
    run(tmp_path / 'whole', together=2)
    assert arrays(folder) == arrays(tmp_path / 'whole')


def _shares(pipe, folder, barrier):
    """Trains beside another process, both having begun before either goes on."""
    torch.set_num_threads(1)
    original, seen = ExpertTrainer.epoch, []

    def epoch(self, *args):
        if not seen:
            barrier.wait(60)
        seen.append(args[:2])
        return original(self, *args)

    ExpertTrainer.epoch = epoch
    said = []
    done = run(folder, experts=6, said=said)
    pipe.send((done, said, seen))


def test_two_processes_share_the_work(tmp_path):
    folder, barrier = tmp_path / 'store', START.Barrier(2)
    both = [child(_shares, folder, barrier) for _ in range(2)]
    found = [pipe.recv() for _, pipe in both]
    for process, _ in both:
        process.join()
        assert process.exitcode == 0
    (done, said, seen), (others, more, rest) = found
    assert done + others == 6 and min(done, others) >= 1
    assert sorted(said + more) == [f'expert {expert} is finished' for expert in range(6)]
    assert (len(said), len(more)) == (done, others)
    assert sorted(seen + rest) == [(expert, epoch) for expert in range(6) for epoch in range(3)]
    run(tmp_path / 'alone', experts=6)
    assert arrays(folder) == arrays(tmp_path / 'alone')


def test_running_statistics_are_stored(tmp_path):
    run(tmp_path / 'store', STATISTICS)
    store = TrajectoryStore.open(tmp_path / 'store')
    assert store.buffer_size == 8
    trainer = ExpertTrainer(STATISTICS, data().images, data().labels)
    for expert in range(3):
        theta, buffers = store.snapshot(expert, 0)
        assert buffers.tolist() == [0.0] * 4 + [1.0] * 4
        for epoch in range(3):
            theta, buffers, _ = trainer.epoch(expert, epoch, theta, buffers)
            for own, kept in zip((theta, buffers), store.snapshot(expert, epoch + 1), strict=True):
                assert torch.equal(own, kept)
    moved = torch.from_numpy(np.load(store.folder / 'buffers.npy'))
    assert len(moved[:, 1:].flatten(0, 1).unique(dim=0)) == 9


@pytest.mark.parametrize(
    ('recipe', 'together'), [(RECIPE, 2), (STATISTICS, 1)], ids=['plain', 'statistics']
)
def test_last_snapshots_are_scored(recipe, together, tmp_path):
    held_out, said = data(40, seed=1), []
    run(tmp_path / 'store', recipe, said=said, held_out=held_out, together=together)
    store = TrajectoryStore.open(tmp_path / 'store')
    trainer = ExpertTrainer(recipe, data().images, data().labels)
    for expert in range(3):
        network = trainer.network.load(*store.snapshot(expert, 3)).eval()
        right = (network(held_out.images).logits.argmax(-1) == held_out.labels).double().mean()
        assert store.score(expert, 3) == pytest.approx(100 * float(right))
        assert said[expert] == f'expert {expert} is finished, accuracy {100 * float(right):.1f}'
        assert all(np.isnan(store.score(expert, epoch)) for epoch in range(3))
    run(tmp_path / 'unscored', recipe, together=together)
    assert arrays(tmp_path / 'store') == arrays(tmp_path / 'unscored')


def test_progress_is_said_every_now_and_then(tmp_path, monkeypatch):
    said, now = [], iter(range(0, 1000, 4))
    monkeypatch.setattr(running, 'time', SimpleNamespace(monotonic=lambda: next(now)))
    run(tmp_path / 'store', experts=2, said=said)
    # four seconds an epoch, a line after ten
    lines = [each for each in said if 'finished,' in each]
    assert lines == [
        'expert 0, epoch 3/3; 0 of 2 finished, about 0:00:12 left',
        'expert 1, epoch 3/3; 1 of 2 finished, about 0:00:00 left',
    ]
    assert [running._clock(each) for each in (10_000, 59.6)] == ['2:46:40', '0:01:00']


OTHERS = [
    (dict(lr=0.2), 'training.lr = 0.1, asked for is 0.2'),
    (dict(epochs=4), 'training.epochs = 3, asked for is 4'),
    (dict(batch_size=5), 'training.batch_size = 6, asked for is 5'),
    (dict(momentum=0.9), 'training.momentum = 0.0, asked for is 0.9'),
    (dict(rho=0.0), 'training.rho = 0.1, asked for is 0.0'),
    (dict(adaptive=False), 'training.adaptive = True, asked for is False'),
    (dict(augment=None), 'training.augment'),
    (dict(augment=dict(type='mmkd.DSA', flip=0.0)), 'training.augment.flip = nothing'),
    (dict(network=dict(MLP, width=5)), 'network.width = 4, asked for is 5'),
    (dict(seed=8), 'seed = 7, asked for is 8'),
]


def test_another_recipe_is_refused_and_named(tmp_path):
    folder = tmp_path / 'store'
    run(folder)
    before = arrays(folder)
    for changes, message in OTHERS:
        with pytest.raises(UserError, match=f'its experts have {re.escape(message)}'):
            run(folder, dataclasses.replace(RECIPE, **changes))
    for other in (data(seed=1), data(count=15)):
        with pytest.raises(UserError, match='its experts have data = '):
            run_experts(RECIPE, other, None, folder, 3)
    with pytest.raises(UserError, match='has room for 3 experts, 4 are asked for'):
        run(folder, experts=4)
    assert arrays(folder) == before
