"""Labelled and unlabelled frames: what training can see of them, and what broken files do."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from det3d_scenes import LABELLED, kitti_cfg
from mmengine.dataset import pseudo_collate

from mmdistill.core.errors import UserError
from mmdistill.det3d.semi_split import draw_split, read_split
from mmdistill.testing import captured_log


@pytest.fixture
def build(semi_data, kitti_folder):
    """Builds the semi-supervised dataset on the tiny tree."""

    def make(root=None, **changes):
        return semi_data(root or kitti_folder, **changes)

    return make


@pytest.fixture
def plain(host, kitti_folder):
    """The host's dataset with all annotations: {frame: info}."""
    from mmengine.registry import DATASETS

    dataset = DATASETS.build(dict(kitti_cfg(kitti_folder), filter_empty_gt=False))
    infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    return {info['sample_idx']: info for info in infos}


def by_frame(dataset):
    """{frame: sample} of a whole dataset."""
    samples = [dataset[index] for index in range(len(dataset))]
    return {each['data_samples'].sample_idx: each for each in samples}


# ------------------------------------------------------------------ what there is


def test_every_frame_once_labelled_ones_first(build):
    dataset = build()
    assert len(dataset) == 12 and sorted(dataset.frame_ids) == list(range(12))
    assert sorted(dataset.frame_ids[:4]) == sorted(LABELLED)
    assert dataset.source_sizes == (4, 8) and dataset.labeled_ids == set(LABELLED)
    flags = {frame: each['data_samples'].labeled for frame, each in by_frame(dataset).items()}
    assert {frame for frame, labeled in flags.items() if labeled} == set(LABELLED)


@pytest.mark.parametrize(('role', 'count'), [('labeled', 4), ('unlabeled', 8)])
def test_roles(build, role, count):
    dataset = build(role=role)
    assert len(dataset) == count
    assert all((frame in LABELLED) == (role == 'labeled') for frame in dataset.frame_ids)
    with pytest.raises(UserError, match="'unlabelled'"):
        build(role='unlabelled')


def test_labelled_frames_are_the_hosts(build, plain):
    found = by_frame(build())
    for frame in LABELLED:
        truth = plain[frame]['ann_info']
        instances = found[frame]['data_samples'].gt_instances_3d
        assert torch.equal(instances.bboxes_3d.tensor, truth['gt_bboxes_3d'].tensor)
        assert instances.labels_3d.tolist() == truth['gt_labels_3d'].tolist()
        assert found[frame]['data_samples'].hidden is None
    assert sum(len(plain[frame]['ann_info']['gt_labels_3d']) for frame in LABELLED) > 10


def holds(value, needle):
    """True when an array with the numbers of ``needle`` hides anywhere in a nested value."""
    if isinstance(value, dict):
        return any(holds(each, needle) for each in value.values())
    if isinstance(value, (list, tuple)) and not (value and isinstance(value[0], (int, float))):
        return any(holds(each, needle) for each in value)
    if hasattr(value, 'tensor'):
        value = value.tensor
    if isinstance(value, (str, bytes, bool, type(None), type)) or callable(value):
        return False
    try:
        numbers = np.asarray(value, dtype=float).ravel()
    except (TypeError, ValueError):
        return False
    return bool(len(numbers)) and bool(
        np.isclose(numbers[:, None], needle[None], atol=1e-6).any(0).all()
    )


def test_annotations_of_unlabelled_frames_reach_no_pipeline(build, plain):
    """hssda fact 29: neither boxes in LiDAR coordinates nor in the camera's, nor their 2D boxes."""
    dataset = build(keep_hidden=False)
    looked = 0
    for index, frame in enumerate(dataset.frame_ids):
        truth = plain[frame]
        needles = [np.asarray(each['bbox_3d'][:3], float) for each in truth['instances']]
        needles += [np.asarray(each['bbox'], float) for each in truth['instances']]
        needles += [box[:3].numpy() for box in truth['ann_info']['gt_bboxes_3d'].tensor]
        info = dataset.get_data_info(index)
        seen = [holds(info, needle.astype(float)) for needle in needles]
        if frame in LABELLED:
            assert all(seen)
        else:
            looked += len(needles)
            assert not any(seen)
            assert len(info['ann_info']['gt_labels_3d']) == 0
    assert looked > 50


def test_camera_instances_are_taken_away_too(build, kitti_copy):
    """Infos of the host's converter hold the objects a second time, per camera."""
    path = kitti_copy / 'kitti_infos_train.pkl'
    infos = pickle.loads(path.read_bytes())
    for info in infos['data_list']:
        info['cam_instances'] = dict(CAM2=[dict(each) for each in info['instances']])
    path.write_bytes(pickle.dumps(infos))
    dataset = build(kitti_copy)
    for index, frame in enumerate(dataset.frame_ids):
        info = dataset.get_data_info(index)
        assert ('instances' in info) == (frame in LABELLED)
        assert ('cam_instances' in info) == (frame in LABELLED)


def test_hidden_truth_travels_for_the_log_only(build, plain):
    found, silent = by_frame(build()), by_frame(build(keep_hidden=False))
    for frame in set(plain) - set(LABELLED):
        boxes, labels = found[frame]['data_samples'].hidden
        truth = plain[frame]['ann_info']
        assert np.array_equal(boxes, truth['gt_bboxes_3d'].tensor.numpy())
        assert np.array_equal(labels, truth['gt_labels_3d'])
        assert len(found[frame]['data_samples'].gt_instances_3d.labels_3d) == 0
        assert silent[frame]['data_samples'].hidden is None


def test_reading_changes_nothing_for_the_next_reader(build):
    dataset = build()
    first, second = by_frame(dataset), by_frame(dataset)
    for frame, sample in first.items():
        sample['inputs']['points'].fill_(0)
        again = second[frame]['data_samples'].gt_instances_3d
        boxes = sample['data_samples'].gt_instances_3d.bboxes_3d
        assert torch.equal(boxes.tensor, again.bboxes_3d.tensor)
    info = dataset.get_data_info(0)
    info['ann_info']['gt_bboxes_3d'].tensor.fill_(0)
    assert dataset.get_data_info(0)['ann_info']['gt_bboxes_3d'].tensor.abs().sum() > 0


def test_ground_plane_is_in_lidar_coordinates(build):
    """Low points near the sensor lie on it: the simulated ground is that plane plus relief."""
    dataset = build()
    heights = []
    for sample in by_frame(dataset).values():
        plane = sample['data_samples'].plane
        assert plane is not None and len(plane) == 4
        a, b, c, d = (float(each) for each in plane)
        points = sample['inputs']['points']
        near = points[(points[:, :2].norm(dim=1) < 20)]
        ground = -(a * near[:, 0] + b * near[:, 1] + d) / c
        heights.append((near[:, 2] - ground).quantile(0.1).abs())
        assert -2.5 < float(-d / c) < -1
    assert float(torch.stack(heights).max()) < 0.15


def test_a_plane_is_not_required(build, kitti_copy):
    path = kitti_copy / 'kitti_infos_train.pkl'
    infos = pickle.loads(path.read_bytes())
    for info in infos['data_list'][:6]:
        info.pop('plane')
    path.write_bytes(pickle.dumps(infos))
    planes = {f: each['data_samples'].plane for f, each in by_frame(build(kitti_copy)).items()}
    assert [planes[frame] is None for frame in range(12)] == [True] * 6 + [False] * 6


@pytest.mark.parametrize('order', [[0, 8], [8, 0], [8, 9], [0, 1]])
def test_batches_of_any_order_collate(build, hssda, order):
    """hssda fact 31: a batch may begin with an unlabelled or a labelled frame."""
    dataset = build()
    batch = pseudo_collate([dataset[index] for index in order])
    model = hssda()
    data = model.data_preprocessor(batch, True)
    scenes = model.read_batch(data['inputs'], data['data_samples'])
    assert scenes.labeled == [index < 4 for index in order]
    assert scenes.frames == [dataset.frame_ids[index] for index in order]


def test_frames_are_known_by_their_id_not_by_their_row(build, kitti_folder):
    """The host numbers samples by rows; KITTI's splits, stores and views need frame ids."""
    everything = kitti_cfg(kitti_folder, ann_file='kitti_infos_trainval.pkl')
    dataset = build(dataset=everything)
    assert sorted(dataset.frame_ids) == [*range(12), 500000, 500001]
    assert dataset[13]['data_samples'].sample_idx == dataset.frame_ids[13] >= 500000
    assert '500001.bin' in dataset[dataset.frame_ids.index(500001)]['data_samples'].lidar_path
    only_val = kitti_cfg(kitti_folder, ann_file='kitti_infos_val.pkl')
    with pytest.raises(UserError, match='names frame 000000'):
        build(dataset=only_val)


# ------------------------------------------------------------------ samplers


@pytest.mark.parametrize('world', [1, 4])
def test_natural_mixing_shows_every_frame_once_per_epoch(build, world, monkeypatch):
    """hssda fact 30, on 1 and 4 ranks."""
    from mmdistill.core import samplers

    dataset = build()
    for epoch in range(3):
        seen = []
        for rank in range(world):
            monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world))
            sampler = samplers.NaturalSampler(dataset, seed=3, infinite=False)
            sampler.set_epoch(epoch)
            own = list(sampler)
            assert len(own) == 12 // world
            seen += own
        assert sorted(seen) == list(range(12))


def test_ratio_mode_gives_exact_counts_and_ends(build, monkeypatch):
    from mmdistill.core import samplers

    dataset = build()
    monkeypatch.setattr(samplers, 'get_dist_info', lambda: (0, 1))
    sampler = samplers.RatioSampler(
        dataset, batch_size=4, ratios=(1, 3), source_sizes=dataset.source_sizes, infinite=False
    )
    indices = list(sampler)
    assert len(indices) == len(sampler)
    for start in range(0, len(indices), 4):
        labelled = [index < 4 for index in indices[start : start + 4]]
        assert sum(labelled) == 1
    assert set(indices) >= set(range(4, 12))


# ------------------------------------------------------------------ splits


def test_published_splits_if_there_are_any():
    """hssda fact 29: 37 and 74 unique frames, in train.txt at their index, none of val."""
    from mmdistill.testing import real_data

    folder = real_data('kitti')
    if folder is None:
        pytest.skip('set MMDISTILL_DATA to a folder that holds kitti/')
    folder = folder / 'ImageSets_semi'
    lists = {}
    for name, size in (('train', 3712), ('val', 3769), ('test', 7518)):
        lists[name] = [int(line) for line in (folder / f'{name}.txt').read_text().split()]
        assert len(lists[name]) == size
    for percent, count in (('0.01', 37), ('0.02', 74)):
        for number in (1, 2, 3):
            frames = read_split(folder / f'train_{percent}_{number}.txt')
            assert len(frames) == len(set(frames)) == count == int(float(percent) * 3712)
            assert set(frames) <= set(lists['train']) and not set(frames) & set(lists['val'])
            rows = (folder / f'train_{percent}_{number}.txt').read_text().split()
            pairs = list(zip(rows[::2], rows[1::2], strict=True))
            assert [lists['train'][int(index)] for _, index in pairs] == frames


def test_drawn_splits_are_nested():
    train = list(range(100, 200))
    small, large = draw_split(train, 5), draw_split(train, 20)
    assert large[:5] == small and len(set(large)) == 20


# ------------------------------------------------------------------ broken files


def scan(root, frame):
    """Path of a frame's scan."""
    return root / 'training' / 'velodyne_reduced' / f'{frame:06d}.bin'


DAMAGE = {
    'empty': (lambda path: path.write_bytes(b''), 'is empty'),
    'cut': (lambda path: path.write_bytes(path.read_bytes()[:-3]), 'no multiple of 16'),
    'gone': (lambda path: path.unlink(), 'is missing'),
    'nan': (lambda path: np.full(400, np.nan, np.float32).tofile(path), 'no finite point'),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_broken_unlabelled_scan_is_skipped_with_a_warning(build, kitti_copy, kind):
    spoil, message = DAMAGE[kind]
    spoil(scan(kitti_copy, 5))
    dataset = build(kitti_copy)
    place = dataset.frame_ids.index(5)
    around = [place, (place + 1) % 12, place]
    with captured_log() as lines:
        frames = [dataset[index]['data_samples'].sample_idx for index in around]
    assert frames == [dataset.frame_ids[(place + 1) % 12]] * 3
    assert dataset.broken == {5}
    # said once, with the frame, the file, the reason and the limit
    assert len(lines) == 1 and lines[0].startswith(
        'WARNING frame 000005 is skipped (1 of at most 10)'
    )
    assert '000005.bin' in lines[0] and message in lines[0]


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_broken_labelled_scan_stops_with_its_name(build, kitti_copy, kind):
    spoil, message = DAMAGE[kind]
    spoil(scan(kitti_copy, 7))
    dataset = build(kitti_copy)
    with pytest.raises(UserError, match=f'000007.bin.*{message}'):
        by_frame(dataset)


def test_too_many_broken_scans_stop(build, kitti_copy):
    for frame in (4, 5, 6):
        scan(kitti_copy, frame).write_bytes(b'')
    assert len(by_frame(build(kitti_copy, max_broken=3))) == 9
    with pytest.raises(UserError, match='max_broken=2.*is empty'):
        by_frame(build(kitti_copy, max_broken=2))


def test_points_that_are_not_finite_are_dropped(build, kitti_copy):
    path = scan(kitti_copy, 7)
    points = np.fromfile(path, np.float32).reshape(-1, 4)
    points[:5, 2] = np.nan
    points[9, 0] = np.inf
    points.tofile(path)
    found = by_frame(build(kitti_copy))[7]['inputs']['points']
    assert len(found) == len(points) - 6 and bool(found.isfinite().all())


def test_a_missing_folder_of_scans_names_the_first_file(build, kitti_copy):
    shutil.rmtree(kitti_copy / 'training' / 'velodyne_reduced')
    with pytest.raises(UserError, match='velodyne_reduced.*is missing.*data_prefix'):
        build(kitti_copy, role='labeled')[0]
    with pytest.raises(UserError, match='broken'):
        build(kitti_copy, role='unlabeled')[0]


def test_a_wrong_split_names_the_frame(build, kitti_copy):
    split = kitti_copy / 'ImageSets_semi' / 'mine.txt'
    for text, message in (
        ('000003\n000099\n', '000099'),
        ('', 'no frame'),
        ('000003 7\n', 'line 3'),
        ('three\n', 'three'),
        ('500000\n', '500000'),
    ):
        split.write_text(text)
        with pytest.raises(UserError, match=message):
            build(kitti_copy, split='mine.txt')
    with pytest.raises(UserError, match='no such split file'):
        build(kitti_copy, split='absent.txt')


def test_a_split_without_train_txt_is_checked_against_the_infos(build, kitti_copy):
    shutil.rmtree(kitti_copy / 'ImageSets')
    (kitti_copy / 'ImageSets_semi' / 'mine.txt').write_text('000003\n000042\n')
    with pytest.raises(UserError, match='000042.*12 frames.*kitti_infos_train.pkl'):
        build(kitti_copy, split='mine.txt')


def test_a_split_of_everything_leaves_no_unlabelled_frame(build, kitti_copy):
    split = kitti_copy / 'ImageSets_semi' / 'all.txt'
    split.write_text(''.join(f'{frame:06d}\n' for frame in range(12)))
    assert build(kitti_copy, split='all.txt').source_sizes == (12, 0)
    with pytest.raises(UserError, match='all.txt leaves no unlabeled frame'):
        build(kitti_copy, split='all.txt', role='unlabeled')


def test_unknown_keys_are_refused(build):
    with pytest.raises(TypeError, match='splitfile'):
        build(splitfile='x')


def test_missing_infos_are_named(build, kitti_copy):
    (kitti_copy / 'kitti_infos_train.pkl').unlink()
    with pytest.raises(FileNotFoundError, match='kitti_infos_train.pkl'):
        build(kitti_copy)


def test_a_frame_without_any_object(build, kitti_copy):
    """A labelled frame may be empty: all anchors learn background."""
    path = kitti_copy / 'kitti_infos_train.pkl'
    infos = pickle.loads(path.read_bytes())
    for info in infos['data_list']:
        if info['sample_idx'] == 7:
            info['instances'] = []
    path.write_bytes(pickle.dumps(infos))
    sample = by_frame(build(kitti_copy))[7]['data_samples']
    assert sample.labeled and len(sample.gt_instances_3d.labels_3d) == 0
    assert sample.gt_instances_3d.bboxes_3d.tensor.shape == (0, 7)
