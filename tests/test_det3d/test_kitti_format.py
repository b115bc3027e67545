"""KITTI's files: reading what was written, difficulty rules, errors that name the file."""

import numpy as np
import pytest

from mmdistill.det3d.kitti_format import (
    KittiFormatError,
    KittiObject,
    default_calibration,
    format_calibration,
    format_plane,
    parse_calibration,
    parse_labels,
    parse_plane,
    read_scan,
)

LINE = 'Car 0.12 1 -1.57 600.00 150.50 650.25 190.00 1.50 1.60 3.90 0.50 1.60 20.00 -1.55'


def test_labels_survive_a_round_trip():
    text = LINE + '\nDontCare -1 -1 -10 1.00 2.00 3.00 4.00 -1 -1 -1 -1000 -1000 -1000 -10\n'
    objects = parse_labels(text)
    assert ''.join(o.line() + '\n' for o in objects) == text
    car = objects[0]
    assert (car.name, car.truncated, car.occluded) == ('Car', 0.12, 1)
    assert car.dimensions == (1.5, 1.6, 3.9) and car.location == (0.5, 1.6, 20.0)
    assert parse_labels(text.replace('\n', ' \n\n')) == objects


@pytest.mark.parametrize(
    ('height', 'occluded', 'truncated', 'expected'),
    [
        (40.1, 0, 0.15, 0), (40.0, 0, 0.0, 1), (40.1, 1, 0.0, 1), (40.1, 0, 0.16, 1),
        (25.1, 1, 0.30, 1), (25.1, 2, 0.30, 2), (25.1, 1, 0.31, 2), (25.1, 2, 0.50, 2),
        (25.0, 0, 0.0, -1), (60.0, 3, 0.0, -1), (60.0, 0, 0.51, -1),
    ],
)  # fmt: skip
def test_difficulty_follows_kittis_rules(height, occluded, truncated, expected):
    item = KittiObject('Car', truncated, occluded, 0.0, (0.0, 0.0, 10.0, height))
    assert item.difficulty == expected


@pytest.mark.parametrize(
    ('row', 'says'),
    [
        (LINE.rsplit(' ', 1)[0], '14 fields'),
        (LINE.replace('3.90', 'x'), 'could not convert'),
        (LINE.replace(' 1 -1.57', ' 1.5 -1.57'), 'invalid literal'),
    ],
)
def test_broken_labels_are_named(row, says):
    with pytest.raises(KittiFormatError, match=f'some/file.txt, line 2: .*{says}'):
        parse_labels(LINE + '\n' + row, 'some/file.txt')


def test_calibrations_survive_a_round_trip():
    rig = default_calibration()
    again = parse_calibration(format_calibration(rig))
    np.testing.assert_array_equal(again.projections, rig.projections)
    np.testing.assert_array_equal(again.lidar2cam, rig.lidar2cam)
    rotation = rig.lidar2cam[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-10)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_camera_axes_are_kittis():
    """Ahead is +z, left is -x, up is -y, and what lies ahead is seen near the image's middle."""
    rig = default_calibration()
    moved = rig.to_camera(np.array([[20.0, 0, 0], [20, 5, 0], [20, 0, 2]]))
    assert moved[0, 2] == pytest.approx(19.7, abs=0.1)
    assert moved[1, 0] - moved[0, 0] == pytest.approx(-5, abs=0.05)
    assert moved[2, 1] - moved[0, 1] == pytest.approx(-2, abs=0.05)
    np.testing.assert_allclose(rig.to_lidar(moved)[1], [20, 5, 0], atol=1e-9)
    u, v, depth = rig.pixels(np.array([[30.0, 0, 0]]))[0]
    assert (u, v) == (pytest.approx(610, abs=25), pytest.approx(175, abs=25))
    assert depth == pytest.approx(29.7, abs=0.1)
    seen = rig.in_image(np.array([[30, 0, 0], [-30, 0, 0], [30, 40, 0], [30, 0, 15]], float))
    assert seen.tolist() == [True, False, False, False]


@pytest.mark.parametrize('key', ['P2', 'R0_rect', 'Tr_velo_to_cam'])
def test_broken_calibrations_are_named(key):
    rows = format_calibration(default_calibration()).splitlines()
    missing = '\n'.join(row for row in rows if not row.startswith(key))
    with pytest.raises(KittiFormatError, match=f'a/b.txt: {key} needs .* found 0'):
        parse_calibration(missing, 'a/b.txt')
    with pytest.raises(KittiFormatError, match=f'a/b.txt: {key}'):
        parse_calibration('\n'.join(rows).replace(f'{key}: ', f'{key}: word '), 'a/b.txt')


def test_planes_survive_a_round_trip():
    plane = np.array([0.01, -0.9999, 0.002, 1.7])
    np.testing.assert_allclose(parse_plane(format_plane(plane)), plane)
    with pytest.raises(KittiFormatError, match='p.txt: line 4'):
        parse_plane('# Plane\nWidth 4\n', 'p.txt')


def test_scans_are_read_back_and_broken_ones_named(tmp_path):
    points = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = tmp_path / '000001.bin'
    points.tofile(path)
    np.testing.assert_array_equal(read_scan(path), points)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(KittiFormatError, match=r'000001.bin: scan is truncated: 45 bytes'):
        read_scan(path)
    path.write_bytes(b'')
    with pytest.raises(KittiFormatError, match=r'000001.bin: scan is empty'):
        read_scan(path)
    path.unlink()
    with pytest.raises(KittiFormatError, match=r'000001.bin: scan is missing'):
        read_scan(path)
