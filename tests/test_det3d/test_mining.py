"""Mining rounds: every frame once, on any number of ranks, resumable, outside the data folder."""

import hashlib
from types import SimpleNamespace

import pytest
import torch
from det3d_scenes import CLASSES, LABELLED, PerfectTeacher, read_pipeline
from mining_ranks import mine, spread_scores
from mmengine.logging import MessageHub

from mmdistill.core.errors import UserError
from mmdistill.det3d import mining
from mmdistill.det3d.boxes import bev_iou
from mmdistill.det3d.mining import PseudoMiningHook
from mmdistill.testing import captured_log, run_gloo

GROUPS = dict(Pedestrian=5, Cyclist=5, Car=5)


@pytest.fixture
def runner(hssda, semi_data, marked_kitti, tmp_path):
    """What a hook sees of a runner: model with a perfect teacher, dataset, place in time."""

    def build(data=None, iteration=20, epoch=3, **changes):
        options = dict(object_bank=dict(sample_groups=GROUPS, min_points=3))
        model = hssda(**{**options, **changes})
        model.teacher.predict = PerfectTeacher(spread_scores)
        return SimpleNamespace(
            model=model,
            train_dataloader=SimpleNamespace(dataset=data or semi_data(marked_kitti)),
            work_dir=str(tmp_path),
            iter=iteration,
            epoch=epoch,
            message_hub=MessageHub.get_instance('mining'),
        )

    return build


def state(model):
    """Thresholds and store."""
    return dict(high=model.filter.high, low=model.filter.low, **model.store.contents())


def equal_states(first, second):
    """Every tensor is bitwise equal."""
    return all(torch.equal(first[name], second[name]) for name in first)


def fingerprint(folder):
    """Hash of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        digest.update(str(path).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_a_round_populates_thresholds_store_bank_and_side_car(
    runner, truth, marked_kitti, tmp_path
):
    """Mined boxes are true objects of unlabelled frames; the data folder is left alone (B11)."""
    before = fingerprint(marked_kitti)
    run = runner()
    model = run.model
    with captured_log() as lines:
        PseudoMiningHook(interval=5).refresh(run)
    assert fingerprint(marked_kitti) == before
    defaults = torch.tensor([[0.99] * 3, [0.93] * 3])
    assert not torch.equal(model.filter.high, defaults)
    assert float(model.filter.high[0, 2]) < 0.9 and float(model.filter.low[0, 2]) == 0.5
    assert len(model.store) >= 1 and not set(model.store.frame_ids()) & set(LABELLED)
    for frame in model.store.frame_ids():
        boxes, labels, _ = model.store.frame(frame)
        known, known_labels = truth[frame]
        overlap, which = bev_iou(boxes, known).max(1)
        assert float(overlap.min()) > 0.99
        assert torch.equal(known_labels[which], labels)
    assert set(model.bank.frames[model.bank.mined].tolist()) == set(model.store.frame_ids())
    assert sorted(path.name for path in (tmp_path / 'pseudo_labels').iterdir()) == [
        'v001.json',
        'v001.npz',
    ]
    said = [line for line in lines if 'mining round 1' in line]
    assert len(said) == 1 and 'Car: ' in said[0] and 'thresholds cls 0.8' in said[0]
    logged = {name: each.current() for name, each in run.message_hub.log_scalars.items()}
    assert logged['train/store/Car'] == int((model.store.labels == 2).sum())
    assert logged['train/store/boxes'] == len(model.store)


def test_every_frame_is_looked_at_once_in_two_views(runner):
    run = runner()
    records = PseudoMiningHook(interval=5, batch_size=5).collect_records(run)
    assert sorted(record['frame'] for record in records) == list(range(12))
    assert {r['frame'] for r in records if r['labeled']} == set(LABELLED)
    assert run.model.teacher.predict.calls == 2 * 3  # two views of three batches


@pytest.mark.parametrize('batch_size', [1, 5, 12])
def test_batch_size_does_not_matter(runner, batch_size):
    states = []
    for size in (4, batch_size):
        run = runner()
        PseudoMiningHook(interval=5, batch_size=size).refresh(run)
        states.append(state(run.model))
    assert len(states[0]['frames']) > 0 and equal_states(*states)


@pytest.mark.parametrize('world', [2, 5])
def test_ranks_share_the_frames_and_find_the_same(runner, world, monkeypatch):
    alone = runner()
    hook = PseudoMiningHook(interval=5, batch_size=3)
    hook.refresh(alone)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(mining, 'get_rank', lambda rank=rank: rank)
        monkeypatch.setattr(mining, 'get_world_size', lambda: world)
        shares.append(hook.collect_records(runner()))
    frames = [record['frame'] for share in shares for record in share]
    assert sorted(frames) == list(range(12))
    together = runner()
    together.model.refresh([record for share in reversed(shares) for record in share])
    assert equal_states(state(alone.model), state(together.model))


def test_collecting_leaves_modes_and_random_numbers_as_they_were(runner):
    run = runner()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}
    for training in (True, False):
        run.model.train(training)
        PseudoMiningHook(interval=5).collect_records(run)
        assert run.model.training is training and run.model.student.training is training
        assert not run.model.teacher.training
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_loader_processes_read_the_same(runner):
    states = []
    for workers in (0, 1):
        run = runner()
        PseudoMiningHook(interval=5, num_workers=workers).refresh(run)
        states.append(state(run.model))
    assert equal_states(*states)


def test_views_of_a_round_belong_to_the_iteration_even_at_the_start_of_an_epoch(runner):
    """A resumed run starts there with a fresh model; an unbroken one still holds the last step."""
    states = []
    for last_seen in (0, 19, 20):
        run = runner(iteration=20, epoch=2)
        run.model.cur_iter = last_seen
        PseudoMiningHook(interval=2, by_epoch=True).before_train_epoch(run)
        states.append(state(run.model))
    assert equal_states(states[0], states[1]) and equal_states(states[1], states[2])
    later = runner(iteration=21, epoch=2)
    records = [PseudoMiningHook(interval=2).collect_records(r) for r in (runner(), later)]
    overlaps = [torch.cat([record['pair_iou'] for record in each]) for each in records]
    assert overlaps[0].tolist() != overlaps[1].tolist()


@pytest.mark.parametrize('by_epoch', [False, True])
def test_rounds_come_at_their_interval(by_epoch, monkeypatch):
    hook, rounds = PseudoMiningHook(interval=5, by_epoch=by_epoch, begin=2), []
    monkeypatch.setattr(hook, 'refresh', lambda run: rounds.append(run.iter))
    for step in range(14):
        run = SimpleNamespace(iter=step, epoch=step)
        hook.before_train_epoch(run)
        hook.before_train_iter(run, 0)
    assert rounds == [2, 7, 12]
    with pytest.raises(ValueError, match='interval'):
        PseudoMiningHook(interval=0)


def test_two_rounds_add_a_version_and_keep_what_was_found(runner, tmp_path):
    run, hook = runner(), PseudoMiningHook(interval=5)
    hook.refresh(run)
    first = set(map(tuple, run.model.store.boxes.tolist()))
    run.iter = 25
    hook.refresh(run)
    second = set(map(tuple, run.model.store.boxes.tolist()))
    assert first <= second and int(run.model.store.version) == 2
    assert len(list((tmp_path / 'pseudo_labels').glob('*.npz'))) == 2


def test_a_broken_frame_costs_nothing_but_itself(runner, semi_data, marked_kitti, tmp_path):
    import shutil

    root = shutil.copytree(marked_kitti, tmp_path / 'broken')
    (root / 'training' / 'velodyne_reduced' / '000004.bin').write_bytes(b'')
    whole, broken = runner(), runner(semi_data(root))
    for run in (whole, broken):
        PseudoMiningHook(interval=5).refresh(run)
    assert torch.equal(whole.model.filter.high, broken.model.filter.high)
    assert 4 not in broken.model.store.frame_ids()
    others = whole.model.store.frames != 4
    assert torch.equal(whole.model.store.boxes[others], broken.model.store.boxes)


def test_models_without_a_bank_are_mined_too(runner):
    run = runner(object_bank=None)
    PseudoMiningHook(interval=5).refresh(run)
    assert len(run.model.store) > 0


def test_datasets_without_labels_and_splits_are_refused(runner):
    run = runner(data=[1, 2])
    with pytest.raises(UserError, match='SemiDet3DDataset'):
        PseudoMiningHook(interval=5).after_refresh(run)


FLIP = dict(type='mmdet3d.RandomFlip3D', flip_ratio_bev_horizontal=0.5)


@pytest.mark.parametrize(
    ('transform', 'name'),
    [
        (FLIP, 'RandomFlip3D'),
        (dict(type='mmdet3d.GlobalRotScaleTrans'), 'GlobalRotScaleTrans'),
        (dict(type='mmdet3d.RandomJitterPoints'), 'RandomJitterPoints'),
        (
            dict(type='mmdistill.ObjectBankSample', class_names=CLASSES, sample_groups=GROUPS),
            'ObjectBankSample',
        ),
        (dict(type='RandomApply', transforms=[FLIP]), 'RandomFlip3D'),
        (dict(type='RandomChoice', transforms=[[], [FLIP]]), 'RandomFlip3D'),
    ],
)
def test_pipelines_that_move_points_are_refused(runner, semi_data, marked_kitti, transform, name):
    """hssda fact 11: mined boxes are stored in raw coordinates."""
    first, *rest = read_pipeline()
    run = runner(semi_data(marked_kitti, pipeline=[first, transform, *rest]))
    with pytest.raises(UserError, match=f'holds {name}, .*student_view'):
        PseudoMiningHook(interval=5).before_train(run)


def test_pipelines_that_only_read_are_welcome(runner, semi_data, marked_kitti):
    first, *rest = read_pipeline()
    whole = [0, -12.8, -3, 25.6, 12.8, 1]
    keep = dict(type='mmdet3d.PointsRangeFilter', point_cloud_range=whole)
    for pipeline in (read_pipeline(), [first, keep, dict(type='mmdet3d.PointShuffle'), *rest]):
        PseudoMiningHook(interval=5).before_train(
            runner(semi_data(marked_kitti, pipeline=pipeline))
        )


def test_two_ranks_have_the_thresholds_store_and_bank_of_one(marked_kitti, tmp_path):
    """A gloo group: whatever a rank held before, afterwards all hold what one rank finds."""
    (tmp_path / 'alone').mkdir()
    alone = mine(0, str(marked_kitti), str(tmp_path / 'alone'))
    ranks = run_gloo(mine, 2, str(marked_kitti), str(tmp_path), timeout=300)
    calls = alone.pop('looked_at'), [each.pop('looked_at') for each in ranks]
    assert calls == (2 * 4, [2 * 2, 2 * 2])
    assert alone['frames'] and alone == ranks[0] == ranks[1]
    for name in ('v001.json', 'v001.npz'):
        first, second = (
            folder / 'pseudo_labels' / name for folder in (tmp_path, tmp_path / 'alone')
        )
        assert first.is_file() and second.is_file()
    assert len(list((tmp_path / 'pseudo_labels').iterdir())) == 2
