"""The synthetic KITTI tree: what it holds, that it repeats itself and can grow."""

from pathlib import Path

import numpy as np
import pytest

from mmdistill.det3d.kitti_format import default_calibration, parse_labels, parse_plane
from mmdistill.det3d.kitti_geometry import to_lidar_boxes
from mmdistill.det3d.kitti_writer import (
    FOLDERS,
    VAL_START,
    Recipe,
    camera_plane,
    frame_labels,
    write_dataset,
)
from mmdistill.det3d.lidar_sim import Lidar, simulate
from mmdistill.det3d.semi_split import read_split

LIDAR = Lidar(beams=24, azimuth_step=0.5)


def _write(root: Path, **settings) -> dict[str, bytes]:
    """Writes a data set; returns its files by relative name."""
    workers = settings.pop('workers', 1)
    root.mkdir()
    write_dataset(root, Recipe(**settings, lidar=LIDAR), workers)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def test_the_same_recipe_gives_the_same_bytes(tmp_path):
    one = _write(tmp_path / 'a', train=6, val=2, seed=3)
    two = _write(tmp_path / 'b', train=6, val=2, seed=3, workers=2)
    other = _write(tmp_path / 'c', train=6, val=2, seed=4)
    assert one == two
    assert one['training/velodyne/000000.bin'] != other['training/velodyne/000000.bin']


def test_both_splits_can_grow(tmp_path):
    small = _write(tmp_path / 'a', train=2, val=1)
    large = _write(tmp_path / 'b', train=3, val=2)
    frames = [name for name in small if name.startswith('training/')]
    assert len(frames) == 3 * len(FOLDERS)
    assert all(small[name] == large[name] for name in frames)


def test_labelled_splits_come_with_the_tree(tmp_path):
    _write(tmp_path / 'a', train=10, val=1)
    folder = tmp_path / 'a' / 'ImageSets_semi'
    four, eight = read_split(folder / 'train_4_1.txt'), read_split(folder / 'train_8_1.txt')
    assert eight[:4] == four and max(eight) < 10
    assert not list(folder.glob('train_12_*'))


def test_labels_say_what_the_rays_say():
    rig = default_calibration()
    kinds = set()
    for index in range(12):
        frame = simulate(2, index)
        labels = frame_labels(frame, rig)
        real = [o for o in labels if o.name != 'DontCare']
        assert labels[: len(real)] == real  # DontCare last
        states = frame.occlusion()
        for label in real:
            box = to_lidar_boxes([label], rig)[0]
            k = np.abs(frame.scene.boxes[:, :3] - box[:3]).max(1).argmin()
            np.testing.assert_allclose(frame.scene.boxes[k, :6], box[:6], atol=1e-6)
            assert frame.visible[k] >= 3
            assert label.occluded == states[k]
            assert label.name == frame.scene.names[k] != 'Far'
            assert -np.pi <= label.alpha < np.pi
            left, top, right, bottom = label.bbox
            assert 0 <= left < right <= 1241 and 0 <= top < bottom <= 374
            kinds.add((label.name, label.occluded))
    assert {name for name, _ in kinds} >= {'Car', 'Pedestrian', 'Cyclist'}
    assert {state for _, state in kinds} == {0, 1, 2, 3}


def test_hidden_objects_get_no_label():
    rig = default_calibration()
    dropped = regions = 0
    for index in range(30):
        frame = simulate(2, index)
        labels = frame_labels(frame, rig)
        hidden = (frame.visible == 0).sum()
        assert len(labels) <= len(frame.scene.names) - hidden
        dropped += hidden
        regions += sum(o.name == 'DontCare' for o in labels)
    assert dropped > 0 and regions > 0


def test_the_tree_is_kittis(tmp_path):
    files = _write(tmp_path / 'a', train=1, val=1)
    base = tmp_path / 'a' / 'training'
    name = f'{VAL_START:06d}'
    assert np.fromfile(base / 'velodyne' / f'{name}.bin', np.float32).size % 4 == 0
    assert parse_labels((base / 'label_2' / '000000.txt').read_text())
    plane = parse_plane((base / 'planes' / '000000.txt').read_text())
    assert plane[1] == pytest.approx(-1, abs=0.01) and plane[3] == pytest.approx(1.65, abs=0.2)
    splits = {Path(f).name for f in files if f.startswith('ImageSets/')}
    assert splits == {'train.txt', 'val.txt', 'trainval.txt', 'test.txt'}
    assert files['ImageSets/trainval.txt'].decode().split() == ['000000', name]


def test_planes_move_with_their_points():
    rig = default_calibration()
    plane = np.array([0.01, -0.02, 0.99975, 1.7])
    points = np.random.default_rng(0).normal(0, 10, (20, 3))
    before = points @ plane[:3] + plane[3]
    after = rig.to_camera(points) @ camera_plane(plane, rig)[:3] + camera_plane(plane, rig)[3]
    np.testing.assert_allclose(after, before, atol=1e-9)


@pytest.mark.parametrize('bad', [{'train': 0}, {'val': -1}, {'seed': -1}, {'train': 10**7}])
def test_impossible_recipes_are_refused(bad):
    with pytest.raises(ValueError, match='training frames'):
        Recipe(**{'train': 1, 'val': 1, **bad})
