"""Info files against mmdet3d's own converter and dataset, real frames, broken trees."""

import importlib
import pickle
import shutil
import sys
import types
from pathlib import Path

import mmdet3d
import numpy as np
import pytest
from mmdet3d.datasets import KittiDataset
from PIL import Image

from mmdistill.det3d.kitti_format import KittiFormatError, default_calibration, read_scan
from mmdistill.det3d.kitti_geometry import points_in_box
from mmdistill.det3d.kitti_infos import CLASSES, image_hw, read_ids, write_infos
from mmdistill.det3d.kitti_writer import VAL_START, Recipe, write_dataset
from mmdistill.det3d.lidar_sim import Lidar, simulate
from mmdistill.testing.data import real_data

RECIPE = Recipe(train=4, val=2, seed=7, lidar=Lidar(beams=32, azimuth_step=0.4))
NAMES = ['Pedestrian', 'Cyclist', 'Car']


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    """A small synthetic data set."""
    root = tmp_path_factory.mktemp('kitti')
    write_dataset(root, RECIPE)
    return root


@pytest.fixture
def copy(tree, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tree, tmp_path / 'kitti'))


def _load(path: Path) -> dict:
    return pickle.loads(path.read_bytes())


def _dataset(tree: Path, split: str, **settings) -> KittiDataset:
    return KittiDataset(
        str(tree),
        f'kitti_infos_{split}.pkl',
        data_prefix={'pts': 'training/velodyne_reduced'},
        metainfo={'classes': NAMES},
        **settings,
    )


def test_mmdet3d_finds_the_simulators_boxes(tree):
    dataset = _dataset(tree, 'train')
    assert len(dataset) == 4
    for index in range(4):
        scene = simulate(RECIPE.seed, index, RECIPE.lidar).scene
        wanted = {
            name: scene.boxes[[n == name for n in scene.names]] for name in dict.fromkeys(NAMES)
        }
        annotations = dataset.get_ann_info(index)
        found = annotations['gt_bboxes_3d'].tensor.numpy()
        assert len(found)
        for box, label in zip(found, annotations['gt_labels_3d'], strict=True):
            off = np.abs(wanted[NAMES[label]] - box)
            off[:, 6] = np.minimum(off[:, 6], np.abs(off[:, 6] - 2 * np.pi))
            assert off.max(1).min() < 1e-3


def test_mmdet3d_finds_the_ground(tree):
    info = _dataset(tree, 'train').get_data_info(1)
    plane = simulate(RECIPE.seed, 1, RECIPE.lidar).scene.ground.plane()
    np.testing.assert_allclose(info['plane'], plane, atol=1e-4)


def test_point_counts_are_those_of_the_reduced_scans(tree):
    dataset = _dataset(tree, 'val', test_mode=True)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        points = read_scan(info['lidar_path'])
        annotations = info['eval_ann_info']
        counts = [
            points_in_box(points, box).sum() for box in annotations['gt_bboxes_3d'].tensor.numpy()
        ]
        kept = [i for i in annotations['instances'] if CLASSES[i['bbox_label']] in NAMES]
        kept = [i for i in kept if i['bbox_label'] >= 0]
        assert counts == [i['num_lidar_pts'] for i in kept]


def test_reduced_scans_are_the_scans_inside_the_image(tree):
    rig = default_calibration()
    for path in sorted((tree / 'training' / 'velodyne').glob('*.bin')):
        points = read_scan(path)
        reduced = read_scan(tree / 'training' / 'velodyne_reduced' / path.name)
        np.testing.assert_array_equal(points[rig.in_image(points[:, :3])], reduced)
        assert 0.3 < len(reduced) / len(points) < 1


def test_splits_and_infos_agree(tree):
    train, val = read_ids(tree, 'train'), read_ids(tree, 'val')
    assert train == [f'{i:06d}' for i in range(4)]
    assert val == [f'{VAL_START + i:06d}' for i in range(2)]
    assert read_ids(tree, 'trainval') == train + val
    for split, ids in (('train', train), ('val', val), ('trainval', train + val)):
        infos = _load(tree / f'kitti_infos_{split}.pkl')
        assert [i['sample_idx'] for i in infos['data_list']] == [int(i) for i in ids]
        assert infos['metainfo']['categories']['DontCare'] == -1
        assert infos['metainfo']['categories']['Car'] == 2


def test_infos_come_from_the_files_alone(tree, tmp_path):
    path = write_infos(tree, 'trainval', tmp_path / 'out', reduced=True)
    again, first = _load(path), _load(tree / 'kitti_infos_trainval.pkl')
    assert repr(again) == repr(first)
    for scan in (tmp_path / 'out' / 'training' / 'velodyne_reduced').glob('*.bin'):
        original = tree / 'training' / 'velodyne_reduced' / scan.name
        assert scan.read_bytes() == original.read_bytes()


def _official(module: str):
    """A module of mmdet3d's dataset converters, which its wheel ships outside of the package."""
    folder = Path(mmdet3d.__file__).parent / '.mim/tools/dataset_converters'
    if not folder.is_dir():
        pytest.skip('mmdet3d was installed without its tools')
    for needed in ('nuscenes', 'skimage'):
        pytest.importorskip(needed)
    package = types.ModuleType('official_converters')
    package.__path__ = [str(folder)]
    sys.modules.setdefault('official_converters', package)
    return importlib.import_module(f'official_converters.{module}')


def _same(ours, theirs, where: str = '') -> None:
    """Compares nested infos, numbers to float32 accuracy."""
    if isinstance(theirs, dict):
        assert sorted(ours) == sorted(theirs), where
        for key, value in theirs.items():
            _same(ours[key], value, f'{where}.{key}')
    elif isinstance(theirs, list) and theirs and not isinstance(theirs[0], int | float):
        assert len(ours) == len(theirs), where
        for index, value in enumerate(theirs):
            _same(ours[index], value, f'{where}[{index}]')
    elif isinstance(theirs, str):
        assert ours == theirs, where
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=where)


def test_infos_are_those_of_mmdet3ds_converter(copy, tmp_path, capsys):
    converter, update = _official('kitti_converter'), _official('update_infos_to_v2')
    images = copy / 'training' / 'image_2'
    images.mkdir()
    for scan in (copy / 'training' / 'velodyne').glob('*.bin'):
        Image.new('L', (1242, 375)).save(images / f'{scan.stem}.png')
    first, second = tmp_path / 'v1', tmp_path / 'v2'
    first.mkdir()
    second.mkdir()
    converter.create_kitti_info_file(str(copy), with_plane=True, save_path=str(first))
    for split in ('train', 'val'):
        update.update_kitti_infos(str(first / f'kitti_infos_{split}.pkl'), str(second))
        theirs = _load(second / f'kitti_infos_{split}.pkl')
        ours = _load(copy / f'kitti_infos_{split}.pkl')
        assert any(i['bbox_label'] == -1 for f in ours['data_list'] for i in f['instances'])
        for info in theirs['data_list']:
            info.pop('cam_instances')  # for monocular training only
        _same(ours, theirs)


def test_real_frames_get_their_infos(tmp_path):
    root = real_data('kitti')
    if root is None:
        pytest.skip('set MMDISTILL_DATA to a folder that holds kitti/')
    before = sorted(root.rglob('*'))
    path = write_infos(root, 'three', tmp_path, ids=['000000', '000001', '000002'])
    first, second, third = _load(path)['data_list']
    assert sorted(root.rglob('*')) == before
    assert [i['bbox_label'] for i in first['instances']] == [CLASSES.index('Pedestrian')]
    assert first['instances'][0]['num_lidar_pts'] > 300
    assert first['instances'][0]['difficulty'] == 0
    assert (first['images']['CAM2']['height'], first['images']['CAM2']['width']) == (370, 1224)
    assert [i['index'] for i in second['instances']] == [0, 1, 2, -1, -1, -1, -1]
    assert [CLASSES[i['bbox_label']] for i in third['instances']] == ['Misc', 'Car']
    dataset = KittiDataset(
        str(root), str(path), data_prefix={'pts': 'training/velodyne'}, metainfo={'classes': NAMES}
    )
    boxes = dataset.get_ann_info(2)['gt_bboxes_3d'].tensor.numpy()
    assert len(boxes) == 1  # the car; Misc is no class here
    assert points_in_box(read_scan(dataset.get_data_info(2)['lidar_path']), boxes[0]).sum() > 50


@pytest.mark.parametrize(
    ('break_it', 'says'),
    [
        (lambda t: (t / 'velodyne/000002.bin').write_bytes(b'x' * 100), '2.bin: scan is truncated'),
        (lambda t: (t / 'velodyne/000002.bin').write_bytes(b''), '000002.bin: scan is empty'),
        (lambda t: (t / 'velodyne/000002.bin').unlink(), '000002.bin: scan is missing'),
        (lambda t: (t / 'label_2/000002.txt').unlink(), 'label_2/000002.txt: label is missing'),
        (lambda t: (t / 'calib/000002.txt').unlink(), 'calib/000002.txt: calibration is missing'),
        (lambda t: (t / 'calib/000002.txt').write_text('P0: 1'), 'calib/000002.txt: P0 needs 12'),
        (lambda t: (t / 'label_2/000002.txt').write_text('Car 1'), '000002.txt, line 1: 2 fields'),
        (lambda t: (t / 'planes/000002.txt').write_text('#'), 'planes/000002.txt: line 4'),
    ],
)
def test_broken_frames_are_named_and_nothing_is_half_written(copy, tmp_path, break_it, says):
    break_it(copy / 'training')
    out = tmp_path / 'out'
    with pytest.raises(KittiFormatError, match=says):
        write_infos(copy, 'train', out)
    assert not list(out.glob('*'))


def test_a_frame_without_labels_needs_none_when_unlabelled(copy, tmp_path):
    shutil.move(copy / 'training', copy / 'testing')
    shutil.rmtree(copy / 'testing' / 'label_2')
    path = write_infos(copy, 'train', tmp_path / 'out', labelled=False, folder='testing')
    assert all(info['instances'] == [] for info in _load(path)['data_list'])


@pytest.mark.parametrize(
    ('text', 'says'),
    [('000001\nx7\n', "line 2: 'x7' is no frame id"), ('1\n000001\n', 'line 2: .* line 1')],
)
def test_broken_splits_are_named(copy, text, says):
    (copy / 'ImageSets' / 'odd.txt').write_text(text)
    with pytest.raises(KittiFormatError, match=f'odd.txt, {says}'):
        read_ids(copy, 'odd')
    with pytest.raises(KittiFormatError, match=r"none.txt: split 'none' is missing"):
        read_ids(copy, 'none')


def test_image_sizes_come_from_the_png_header(tmp_path):
    assert image_hw(tmp_path / 'none.png') == (375, 1242)
    path = tmp_path / 'some.png'
    Image.new('L', (20, 10)).save(path)
    assert image_hw(path) == (10, 20)
    path.write_bytes(b'no image')
    with pytest.raises(KittiFormatError, match=r'some.png: image is no PNG'):
        image_hw(path)
