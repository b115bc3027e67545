"""Trees like nuScenes and Waymo: read by mmdet3d's own datasets, moving as their labels say."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from mmdistill.det3d.boxes import points_in_batch_boxes
from mmdistill.det3d.datasets import SemiDet3DDataset
from mmdistill.det3d.kitti_format import default_calibration
from mmdistill.det3d.lidar_sim import Lidar, compose
from mmdistill.det3d.lidar_sim.motion import draw_velocities, moved
from mmdistill.det3d.sequence_writer import Recipe, write_nuscenes, write_waymo

LIDAR = Lidar(beams=16, azimuth_step=1.0, sector=180.0)
META = ('sample_idx', 'labeled', 'hidden', 'box_type_3d', 'box_mode_3d')
TREES = dict(
    nuscenes=(
        write_nuscenes,
        'NuScenesDataset',
        dict(pts='samples/LIDAR_TOP', sweeps='sweeps/LIDAR_TOP'),
    ),
    waymo=(write_waymo, 'WaymoDataset', dict(pts='training/velodyne')),
)


@pytest.fixture(scope='module', params=list(TREES))
def tree(request, tmp_path_factory):
    """Kind and folder of a tree of four sequences."""
    root = tmp_path_factory.mktemp(request.param)
    TREES[request.param][0](root, Recipe(4, 1, frames=3, sweeps=2, seed=5, lidar=LIDAR))
    return request.param, root


def infos(kind, root, split='train'):
    """Frames of an info file."""
    return pickle.loads((root / f'{kind}_infos_{split}.pkl').read_bytes())['data_list']


def dataset(kind, root, **options):
    """mmdet3d's dataset of a tree with labels for one sequence."""
    host = dict(
        type=TREES[kind][1],
        data_root=f'{root}/',
        ann_file=f'{kind}_infos_train.pkl',
        data_prefix=TREES[kind][2],
        modality=dict(use_lidar=True, use_camera=False),
    )
    dims = dict(nuscenes=5, waymo=6)[kind]
    load = dict(type='mmdistill.LoadLiDARPoints', coord_type='LIDAR', load_dim=dims, use_dim=dims)
    sweeps = dict(type='LoadPointsFromMultiSweeps', sweeps_num=2, remove_close=True)
    pipeline = [
        load,
        *([sweeps] if kind == 'nuscenes' else []),
        dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
        dict(
            type='Pack3DDetInputs',
            keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'],
            meta_keys=META,
        ),
    ]
    split = root / 'ImageSets_semi' / 'train_sequence_0.25_1.json'
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        return SemiDet3DDataset(host, str(split), pipeline=pipeline, **options)


def test_the_hosts_dataset_reads_it_and_labels_stay_hidden(tree):
    kind, root = tree
    found = dataset(kind, root)
    assert found.source_sizes == (3, 9) and len(set(found.frame_ids)) == 12
    dims = dict(nuscenes=9, waymo=7)[kind]
    for row in (0, 2, 3, 11):
        sample = found[row]['data_samples']
        boxes = sample.gt_instances_3d.bboxes_3d.tensor
        assert sample.labeled == (row < 3) and boxes.shape[1] == dims
        if sample.labeled:
            assert len(boxes) > 3
        else:
            assert len(boxes) == 0 and sample.hidden[0].shape[1] == dims
    assert found.split_id != dataset(kind, root, role='labeled').dataset.ann_file


def test_boxes_hold_the_points_that_they_count(tree):
    kind, root = tree
    found = dataset(kind, root)
    info = found.dataset.get_data_info(found.rows[0])
    counts = [each['num_lidar_pts'] for each in info['instances'] if each['num_lidar_pts'] > 0]
    points = np.fromfile(info['lidar_points']['lidar_path'], np.float32)
    points = torch.from_numpy(points.reshape(-1, dict(nuscenes=5, waymo=6)[kind]))
    boxes = info['ann_info']['gt_bboxes_3d'].tensor[:, :7].clone()
    boxes[:, 3:6] += 0.2  # the noise of the ranges
    boxes[:, 2] -= 0.1
    here = torch.zeros(len(points), dtype=torch.long)
    valid = torch.ones(1, len(boxes), dtype=torch.bool)
    inside = points_in_batch_boxes(points[:, :3], here, boxes[None], valid).sum(0)
    near = torch.linalg.vector_norm(boxes[:, :2], dim=1) < 30
    assert near.sum() > 2
    close = np.array(counts)[near.numpy()]
    assert (inside[near].numpy() >= 0.95 * close - 1).all()


def test_objects_are_where_their_velocity_takes_them(tree):
    kind, root = tree
    first, second = infos(kind, root)[:2]
    if kind == 'waymo':
        shift = [
            np.subtract(b['bbox_3d'], a['bbox_3d'])[3:]
            for a, b in zip(first['instances'], second['instances'], strict=False)
        ]
        assert np.abs(shift[0]).max() < 1e-9
        assert second['timestamp'] - first['timestamp'] == 100_000
        return
    moving = 0
    for a, b in zip(first['instances'], second['instances'], strict=True):
        expected = np.array(a['bbox_3d'])
        expected[:2] += 0.5 * np.array(a['velocity'])
        np.testing.assert_allclose(b['bbox_3d'], expected, atol=1e-9)
        moving += np.abs(a['velocity']).max() > 0
    assert moving > 0


def test_sweeps_come_before_their_key_frame(tree):
    kind, root = tree
    if kind == 'waymo':
        pytest.skip('Waymo frames have no sweeps')
    for info in infos(kind, root)[:3]:
        ages = [info['timestamp'] - each['timestamp'] for each in info['lidar_sweeps'][:2]]
        assert ages == pytest.approx([0.05, 0.1], abs=1e-3)
    cloud = dataset(kind, root)[0]['inputs']['points']
    assert cloud[:, -1].unique().tolist() == pytest.approx([0, 0.05, 0.1], abs=1e-3)


@pytest.mark.parametrize('kind', list(TREES))
def test_files_depend_on_the_recipe_alone(kind, tmp_path):
    write = partial(TREES[kind][0], recipe=Recipe(2, 0, frames=2, sweeps=1, seed=1, lidar=LIDAR))
    write(tmp_path / 'one')
    write(tmp_path / 'two', workers=2)
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}
        for root in (tmp_path / 'one', tmp_path / 'two')
    )
    assert one == two and len(one) > 4


def test_a_moved_scene_goes_back_and_scenery_stays():
    rng = np.random.default_rng(3)
    scene = compose(rng, 1.73, default_calibration())
    velocities = draw_velocities(scene, rng)
    there = moved(scene, velocities, 2.0)
    back = moved(there, velocities, -2.0)
    np.testing.assert_allclose(back.boxes, scene.boxes, atol=1e-12)
    np.testing.assert_allclose(back.solids.center, scene.solids.center, atol=1e-12)
    still = scene.solids.owner < 0
    assert (there.solids.center[still] == scene.solids.center[still]).all()
    speed = np.linalg.norm(velocities, axis=1)
    along = np.stack([np.cos(scene.boxes[:, 6]), np.sin(scene.boxes[:, 6])], 1)
    np.testing.assert_allclose((velocities * along).sum(1), speed, atol=1e-12)
    assert (speed > 0).any()


@pytest.mark.parametrize('bad', [dict(train=0), dict(frames=0), dict(sweeps=-1), dict(val=501)])
def test_bad_recipes_are_refused(bad):
    with pytest.raises(ValueError, match='sequences'):
        Recipe(**{'train': 1, 'val': 0, **bad})
