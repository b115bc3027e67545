"""Trajectories on disk: round trips, processes that race or are killed, damage, differences."""

import json
import multiprocessing
import os
import pickle
import signal
import tracemalloc

import numpy as np
import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.experts import claims
from mmkd.experts import store as module
from mmkd.experts.store import TrajectoryStore

ABOUT = dict(network=dict(type='Net', width=8), data='abc', training=dict(lr=0.1), seed=0)
SIZES = dict(experts=3, epochs=2, size=5, buffer_size=2, names=('a', 'b'), shapes=((2, 2), (1,)))
FORK = multiprocessing.get_context('fork')


def make(folder, **changed):
    """A store."""
    return TrajectoryStore.create_or_open(folder, **{'about': ABOUT, **SIZES, **changed})


def values(expert, epoch):
    """Parameters and running statistics of a snapshot."""
    draw = torch.Generator().manual_seed(10 * expert + epoch)
    return torch.randn(5, generator=draw), torch.randn(2, generator=draw)


def fill(store, expert, epochs=(0, 1, 2)):
    """Writes snapshots."""
    for epoch in epochs:
        store.write(expert, epoch, *values(expert, epoch))


@pytest.fixture
def folder(tmp_path):
    """Of a store with expert 1 finished."""
    store = make(tmp_path / 'set' / 'store')
    fill(store, 1)
    store.finish(1)
    return store.folder


def child(function, *args):
    """Starts a process; what it sends arrives at the pipe."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=function, args=(there, *args), daemon=True)
    process.start()
    there.close()
    return process, here


def answer(function, *args):
    """What a process sends before it ends."""
    process, pipe = child(function, *args)
    found = pipe.recv()
    process.join()
    return found


def kill(process):
    """Kills it as a full memory or a scheduler would."""
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_what_was_written_comes_back(folder):
    for store in (TrajectoryStore.open(folder), make(folder)):
        for epoch in range(3):
            theta, buffers = store.snapshot(1, epoch)
            assert theta.dtype == buffers.dtype == torch.float32
            assert torch.equal(theta, values(1, epoch)[0])
            assert torch.equal(buffers, values(1, epoch)[1])
        start, target = store.segment(1, 0, 2)
        assert torch.equal(start, values(1, 0)[0]) and torch.equal(target, values(1, 2)[0])
        assert store.finished() == [1] and store.unfinished() == [0, 2]
        assert [store.written(each) for each in range(3)] == [0, 3, 0]
        assert store.about == ABOUT and store.names == ('a', 'b')
        assert store.shapes == ((2, 2), (1,))
        assert (store.experts, store.epochs, store.size, store.buffer_size) == (3, 2, 5, 2)
        assert store.nbytes == 4 * 9 * (5 + 2 + 1) + 3 * (4 + 1)


def test_every_bit_pattern_comes_back(tmp_path):
    store = make(tmp_path / 'store', buffer_size=0, experts=1, epochs=1)
    odd = np.array([0x7FC00001, 0xFF800000, 0x80000000, 1, 0x3F800001], np.uint32)
    for epoch in range(2):
        store.write(0, epoch, torch.from_numpy(odd.view(np.float32)))
    store.finish(0)
    theta, buffers = store.snapshot(0, 1)
    assert theta.numpy().view(np.uint32).tolist() == odd.tolist() and buffers.shape == (0,)
    assert not (store.folder / 'buffers.npy').exists()


def test_arrays_are_plain_files_of_numpy(folder):
    theta = np.load(folder / 'theta.npy')
    assert theta.shape == (3, 3, 5) and theta.dtype == np.float32 and theta.flags.c_contiguous
    assert np.array_equal(theta[1, 2], values(1, 2)[0]) and not theta[0].any()
    assert np.load(folder / 'buffers.npy').shape == (3, 3, 2)
    assert np.isnan(np.load(folder / 'scores.npy')).all()
    assert np.load(folder / 'done.npy').tolist() == [0, 1, 0]


def test_scores(folder):
    store = make(folder)
    fill(store, 0)
    store.write(0, 2, *values(0, 2), score=91.5)
    store.finish(0)
    assert store.score(0, 2) == 91.5 and np.isnan(store.score(0, 1))


def test_snapshots_are_copies(folder):
    store = make(folder)
    theta, buffers = values(0, 0)
    kept = theta.clone(), buffers.clone()
    store.write(0, 0, theta, buffers)
    theta.zero_(), buffers.zero_()
    store.write(0, 1, theta, buffers)
    theta.fill_(7)
    store.write(0, 2, theta, buffers)
    store.finish(0)
    assert all(torch.equal(a, b) for a, b in zip(store.snapshot(0, 0), kept, strict=True))
    assert not store.snapshot(0, 1)[0].any() and (store.snapshot(0, 2)[0] == 7).all()
    store.segment(0, 0, 1)[0].fill_(3)
    assert torch.equal(store.snapshot(0, 0)[0], kept[0])


def test_a_gradient_or_double_precision_is_no_hindrance(folder):
    store = make(folder)
    theta = torch.full((5,), 1 / 3, dtype=torch.float64, requires_grad=True)
    store.write(0, 0, theta, torch.zeros(2))
    found, _ = store.snapshot(0, 0, partial=True)
    assert torch.equal(found, theta.detach().float()) and not found.requires_grad


def test_a_segment_reads_two_rows(tmp_path):
    size = 100_000
    store = TrajectoryStore.create_or_open(tmp_path / 'large', {}, 1000, 3, size)
    assert store.nbytes > 1.5e9
    for epoch in range(4):
        store.write(700, epoch, torch.full((size,), epoch + 1.0))
    store.finish(700)
    # holes take no room on the disk
    assert 512 * (store.folder / 'theta.npy').stat().st_blocks < 10 * 4 * size
    store = TrajectoryStore.open(store.folder)
    tracemalloc.start()
    start, target = store.segment(700, 1, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (start == 2).all() and (target == 4).all()
    assert 2 * 4 * size <= peak < 2.5 * 4 * size


def test_pickled_as_the_name_of_its_folder(folder):
    store = make(folder)
    content = pickle.dumps(store)
    assert len(content) < 2000
    found = pickle.loads(content)
    assert torch.equal(found.segment(1, 1, 1)[1], values(1, 2)[0])
    fill(store, 0)
    store.finish(0)
    # both see the same files
    assert found.finished() == [0, 1] and torch.equal(found.snapshot(0, 2)[0], values(0, 2)[0])


def test_readable_by_workers_of_a_loader(folder):
    store = make(folder)
    rows = torch.utils.data.DataLoader(
        range(3),
        batch_size=None,
        num_workers=1,
        collate_fn=lambda epoch: store.snapshot(1, epoch)[0],
    )
    for epoch, theta in enumerate(rows):
        assert torch.equal(theta, values(1, epoch)[0])


def _create(pipe, folder, barrier, seed):
    """Makes a store that is complete when all others are, then renames it."""
    rename = os.rename

    def together(*args):
        barrier.wait(10)
        rename(*args)

    module.os.rename = together
    try:
        make(folder, about=dict(seed=seed))
        pipe.send('made')
    except UserError as error:
        pipe.send(str(error))


def test_of_two_processes_that_make_a_store_one_opens_that_of_the_other(tmp_path):
    barrier = FORK.Barrier(2)
    both = [child(_create, tmp_path / 'store', barrier, 0) for _ in range(2)]
    assert [pipe.recv() for _, pipe in both] == ['made', 'made']
    for process, _ in both:
        process.join()
    assert os.listdir(tmp_path) == ['store'] and make(tmp_path / 'store', about=dict(seed=0))


def test_the_slower_of_two_different_stores_is_told(tmp_path):
    barrier = FORK.Barrier(2)
    both = [child(_create, tmp_path / 'store', barrier, seed) for seed in range(2)]
    said = sorted((pipe.recv() for _, pipe in both), key=len)
    for process, _ in both:
        process.join()
    assert said[0] == 'made' and 'its experts have seed = ' in said[1]
    assert os.listdir(tmp_path) == ['store']


def test_nothing_is_left_of_a_store_that_cannot_be_made(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(module, 'write_atomic', full)
    with pytest.raises(UserError, match='store cannot be made: No space left on device'):
        make(tmp_path / 'store')
    assert os.listdir(tmp_path) == []


def _claims(pipe, folder, expert):
    """Whether a process gets an expert; keeps it until it is told to end."""
    with TrajectoryStore.open(folder).claim(expert) as mine:
        pipe.send(mine)
        pipe.poll(30)


def _claims_briefly(pipe, folder, expert):
    """Whether a process gets an expert."""
    with TrajectoryStore.open(folder).claim(expert) as mine:
        pipe.send(mine)


def _claims_inherited(pipe, store, expert):
    """The same with a store of the parent."""
    with store.claim(expert) as mine:
        pipe.send(mine)


def test_claims_exclude_other_processes(folder):
    store = make(folder)
    with store.claim(0) as mine:
        assert mine
        assert not answer(_claims_briefly, folder, 0)
        assert not answer(_claims_inherited, store, 0)
        assert answer(_claims_briefly, folder, 2)
    assert answer(_claims_briefly, folder, 0)


def test_claims_exclude_other_stores_of_the_process_and_outlive_them(folder):
    with make(folder).claim(0) as mine:
        with TrajectoryStore.open(folder).claim(0) as again:
            assert mine and not again
        with TrajectoryStore.open(folder).claim(2) as other:
            assert other
        pickle.loads(pickle.dumps(make(folder)))
        # neither the end of a claim nor another store gives up the first claim
        assert not answer(_claims_briefly, folder, 0)
        assert answer(_claims_briefly, folder, 2)
    with make(folder).claim(0) as mine:
        assert mine


def _claims_when_told(pipe, store, expert):
    """Whether a process gets an expert that its parent had when it was made."""
    pipe.recv()
    with store.claim(expert) as mine:
        pipe.send(mine)


def test_a_forked_process_does_not_think_that_it_has_the_claims_of_its_parent(folder):
    store = make(folder)
    with store.claim(0) as mine:
        process, pipe = child(_claims_when_told, store, 0)
        assert mine
    pipe.send('free')
    assert pipe.recv()
    process.join()


def test_claims_end_with_an_error(folder):
    store = make(folder)
    with pytest.raises(KeyError), store.claim(0):
        raise KeyError
    assert answer(_claims_briefly, folder, 0)


def test_claims_of_a_killed_process_vanish(folder):
    process, pipe = child(_claims, folder, 0)
    assert pipe.recv()
    with make(folder).claim(0) as mine:
        assert not mine
    kill(process)
    with make(folder).claim(0) as mine:
        assert mine


def test_finished_experts_are_not_claimed(folder):
    with make(folder).claim(1) as mine:
        assert not mine


def test_file_systems_without_locks(folder, monkeypatch):
    class NoLocks:
        LOCK_EX = LOCK_NB = LOCK_UN = 0

        @staticmethod
        def lockf(*_):
            raise OSError(37, 'No locks available')

    monkeypatch.setattr(claims, 'fcntl', NoLocks)
    with (
        pytest.raises(UserError, match='cannot lock files .No locks available.'),
        make(folder).claim(0),
    ):
        pass
    monkeypatch.setattr(claims, 'fcntl', None)
    with pytest.raises(UserError, match='no POSIX locks'), make(folder).claim(0):
        pass


def _writes(pipe, folder, stop):
    """Writes expert 0, then waits to be killed: in the middle of a row, or before the end."""
    store = TrajectoryStore.open(folder)
    if stop == 'again':
        fill(store, 0)
    put = store._put

    def half(name, place, row, **rest):
        if stop != 'end' and (name, place) == ('theta', (0, 1)):
            put(name, place, row[:3], **rest)
            pipe.send('stopped')
            pipe.poll(30)
        put(name, place, row, **rest)

    store._put = half
    fill(store, 0, [1] if stop == 'again' else [0, 1, 2])
    pipe.send('stopped')
    pipe.poll(30)
    store.finish(0)


@pytest.mark.parametrize(('stop', 'whole'), [('row', 1), ('again', 1), ('end', 3)])
def test_killed_in_the_middle(folder, stop, whole):
    process, pipe = child(_writes, folder, stop)
    assert pipe.recv() == 'stopped'
    kill(process)
    store = TrajectoryStore.open(folder)
    assert store.finished() == [1] and store.unfinished() == [0, 2]
    assert store.written(0) == whole
    for epoch in range(3):
        with pytest.raises(UserError, match='expert 0 is not finished; run its training again'):
            store.snapshot(0, epoch)
        assert torch.equal(store.snapshot(1, epoch)[0], values(1, epoch)[0])
    # the training goes on behind the last whole snapshot
    last, _ = store.snapshot(0, whole - 1, partial=True)
    assert torch.equal(last, values(0, whole - 1)[0])
    fill(store, 0, range(whole, 3))
    store.finish(0)
    assert all(torch.equal(store.snapshot(0, n)[0], values(0, n)[0]) for n in range(3))


def test_snapshots_behind_one_that_is_written_again_do_not_count(folder):
    store = make(folder)
    fill(store, 0)
    assert store.written(0) == 3
    store.write(0, 0, *values(2, 0))
    assert store.written(0) == 1
    with pytest.raises(UserError, match='expert 0 has 1 of 3 snapshots and cannot be finished'):
        store.finish(0)
    with pytest.raises(UserError, match='snapshot 2 of expert 0 is not there, only 1 are'):
        store.snapshot(0, 2, partial=True)
    assert torch.equal(store.snapshot(0, 0, partial=True)[0], values(2, 0)[0])


def test_rows_are_on_the_disk_before_they_count(folder, monkeypatch):
    store, events = make(folder), []
    put, sync = store._put, os.fsync

    def noted(name, *args, **rest):
        put(name, *args, **rest)
        events.append(name)

    def synced(handle):
        events.append(f'sync {os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))}')
        sync(handle)

    store._put = noted
    monkeypatch.setattr(module.os, 'fsync', synced)
    fill(store, 0)
    at = [n for n, each in enumerate(events) if each == 'progress']
    assert len(at) == 3
    for begin, end in zip([0, *at], at, strict=False):
        assert {'sync theta.npy', 'sync buffers.npy'} <= set(events[begin:end])
    events.clear()
    store.finish(0)
    files = {f'sync {name}.npy' for name in ('theta', 'buffers', 'scores', 'progress')}
    assert files <= set(events[:-2]) and events[-2:] == ['sync done.npy', 'done']


@pytest.mark.parametrize(
    ('changed', 'said'),
    [
        (dict(about={**ABOUT, 'data': 'x'}), r"data = 'abc', asked for is 'x'; name another"),
        (
            dict(about={**ABOUT, 'network': dict(type='Net', width=9)}),
            'network.width = 8, asked for is 9',
        ),
        (dict(about={**ABOUT, 'training': {}}), r'training = nothing, asked for is \{\}'),
        (dict(about={**ABOUT, 'zca': 0.1}), 'zca = nothing, asked for is 0.1'),
        (dict(about={k: v for k, v in ABOUT.items() if k != 'seed'}), 'seed = 0, .* nothing'),
        (dict(experts=4), 'room for 3 experts, 4 are asked for; a store cannot grow: name another'),
        (dict(experts=2), 'experts = 3, asked for is 2'),
        (dict(epochs=1), 'epochs = 2, asked for is 1'),
        (dict(size=6, shapes=()), 'size = 5, asked for is 6'),
        (dict(buffer_size=0), 'buffer_size = 2, asked for is 0'),
        (dict(names=('a', 'c')), r"names = \['a', 'b'\], asked for is \['a', 'c'\]"),
        (dict(shapes=((4,), (1,))), r'shapes = \[\[2, 2\], \[1\]\], asked for'),
    ],
)
def test_another_store_than_asked_for(folder, changed, said):
    with pytest.raises(UserError, match=said) as caught:
        make(folder, **changed)
    assert str(caught.value).startswith(str(folder))


def test_opened_with_some_of_what_it_depends_on(folder):
    assert TrajectoryStore.open(folder, dict(network=ABOUT['network'], data='abc')).experts == 3
    assert TrajectoryStore.open(folder, {}).experts == 3
    with pytest.raises(UserError, match="network.type = 'Net', asked for is 'Other'"):
        TrajectoryStore.open(folder, dict(network=dict(type='Other', width=8)))
    with pytest.raises(UserError, match='zca = nothing, asked for is 0.1'):
        TrajectoryStore.open(folder, dict(zca=0.1))


def test_tuples_are_lists_in_about(tmp_path):
    for _ in range(2):
        store = make(tmp_path / 'store', about=dict(sizes=(1, 2), lr=1e-3, none=None))
    assert store.about == dict(sizes=[1, 2], lr=1e-3, none=None)


def test_what_cannot_be_asked_for(tmp_path):
    for changed, said in (
        (dict(about=dict(data=torch.zeros(1))), 'data = tensor.* cannot be noted'),
        (dict(about=dict(lr=float('nan'))), 'lr = nan cannot be noted'),
        (dict(experts=0), 'must be at least 1, got 0, 2 and 5'),
        (dict(size=6), 'the shapes of parameters do not add up to 6'),
    ):
        with pytest.raises(UserError, match=said):
            make(tmp_path / 'store', **changed)
    (tmp_path / 'store').mkdir()
    (tmp_path / 'store' / 'thesis.txt').touch()
    with pytest.raises(UserError, match='store is neither empty nor a store: name another folder'):
        make(tmp_path / 'store')
    assert os.listdir(tmp_path) == ['store']
    (tmp_path / 'store' / 'thesis.txt').unlink()
    assert make(tmp_path / 'store').unfinished() == [0, 1, 2]


def test_missing_and_damaged_files(folder):
    with pytest.raises(UserError, match='nowhere: there are no trajectories in it; train experts'):
        TrajectoryStore.open(folder.parent / 'nowhere')
    theta, meta = folder / 'theta.npy', folder / 'meta.json'
    whole, text = theta.read_bytes(), meta.read_text()
    for content in (whole[:-4], whole + b'0000', whole[:50], b''):
        theta.write_bytes(content)
        with pytest.raises(UserError, match=r'theta.npy is damaged, float32 \(3, 3, 5\) is exp'):
            TrajectoryStore.open(folder)
    for array in (np.zeros((3, 5, 3), np.float32), np.zeros((3, 3, 5))):
        np.save(theta, array)
        with pytest.raises(UserError, match='theta.npy is damaged'):
            TrajectoryStore.open(folder)
    theta.unlink()
    with pytest.raises(UserError, match='theta.npy is damaged, .* No such file'):
        TrajectoryStore.open(folder)
    theta.write_bytes(whole)
    for content in (text[:-9], '[]', json.dumps(dict(experts=3))):
        meta.write_text(content)
        with pytest.raises(UserError, match='meta.json is damaged'):
            TrajectoryStore.open(folder)
    meta.write_text(json.dumps({**json.loads(text), 'version': 9}))
    with pytest.raises(UserError, match='has version 9 of the format, not 1'):
        TrajectoryStore.open(folder)
    meta.write_text(text)
    assert TrajectoryStore.open(folder).finished() == [1]


def test_reading_and_writing_what_is_not_there(folder):
    store, (theta, buffers) = make(folder), values(0, 0)
    for call, said in (
        (lambda: store.segment(1, 1, 2), 'there is no epoch 3, only 0 to 2'),
        (lambda: store.segment(1, -1, 2), 'there is no epoch -1, only 0 to 2'),
        (lambda: store.segment(0, 0, 1), 'expert 0 is not finished'),
        (lambda: store.score(0, 0), 'expert 0 is not finished'),
        (lambda: store.snapshot(3, 0), 'there is no expert 3, only 0 to 2'),
        (lambda: store.snapshot(-1, 0), 'there is no expert -1'),
        (lambda: store.written(3), 'there is no expert 3'),
        (lambda: store.finish(3), 'there is no expert 3'),
        (lambda: store.claim(3).__enter__(), 'there is no expert 3'),
        (lambda: store.write(0, 3, theta, buffers), 'there is no epoch 3'),
        (lambda: store.write(0, 1, theta, buffers), 'snapshot 0 of expert 0 comes next, not 1'),
        (lambda: store.write(1, 2, theta, buffers), 'expert 1 is finished and is not changed'),
        (lambda: store.write(0, 0, theta[1:], buffers), r'theta must be \(5,\), got \(4,\)'),
        (lambda: store.write(0, 0, theta[None], buffers), r'got \(1, 5\)'),
        (lambda: store.write(0, 0, theta), r'buffers must be \(2,\), got \(0,\)'),
    ):
        with pytest.raises(UserError, match=said):
            call()
    assert store.written(0) == 0 and store.finished() == [1]


def test_a_full_disk_is_said_and_the_snapshot_does_not_count(folder, monkeypatch):
    store = make(folder)
    fill(store, 0, [0])

    def full(*_):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr(module.os, 'fsync', full)
        with pytest.raises(UserError, match='theta.npy cannot be written: No space left on dev'):
            store.write(0, 1, *values(0, 1))
    assert store.written(0) == 1
