"""The converter of DeepPoseKit's files: exact joints and pixels, whole folders or none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from mmdistill.testing.data import real_data

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'make_fly.py'
h5py = pytest.importorskip('h5py')


def run(*args, code: int = 0) -> str:
    """Runs the converter; returns what it printed."""
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, str(TOOL), *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
    )
    assert done.returncode == code, done.stderr
    assert 'Traceback' not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def converter(monkeypatch):
    """The module of the converter."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    import make_fly

    return make_fly


def write_set(path, count=10, flags=None, skeleton=((-1, -1), (0, 2), (0, 1)), **changes):
    """Writes an annotation set of three joints; returns its arrays."""
    rng = np.random.default_rng(4)
    content = dict(
        images=rng.integers(0, 255, (count, 40, 50, 1), np.uint8),
        annotations=rng.uniform(5, 35, (count, 3, 2)),
        annotated=np.zeros((count, 3), bool) if flags is None else flags,
        skeleton=np.array(skeleton, np.int32),
    )
    content.update(changes)
    with h5py.File(path, 'w') as file:
        for key, value in content.items():
            if value is not None:
                file[key] = value
    return content


def read(out, split):
    """Reads a written annotation file."""
    return json.loads((out / 'annotations' / f'{split}.json').read_text())


def test_joints_and_pixels_are_those_of_the_file(tmp_path):
    content = write_set(tmp_path / 'a.h5')
    assert 'done' in run('--source', tmp_path / 'a.h5', '--out', tmp_path / 'out')
    seen = set()
    for split, count in (('train', 8), ('val', 2)):
        written = read(tmp_path / 'out', split)
        assert len(written['images']) == len(written['annotations']) == count
        (category,) = written['categories']
        assert category['keypoints'] == ['joint00', 'joint01', 'joint02']
        assert category['skeleton'] == [[1, 2], [1, 3]] and category['flip_indices'] == [0, 2, 1]
        for image, each in zip(written['images'], written['annotations'], strict=True):
            row = image['id'] - 1
            seen.add(row)
            pixels = cv2.imread(str(tmp_path / 'out' / 'images' / image['file_name']), -1)
            np.testing.assert_array_equal(pixels, content['images'][row, ..., 0])
            assert (image['width'], image['height']) == (50, 40) and each['image_id'] == row + 1
            joints = np.array(each['keypoints']).reshape(3, 3)
            np.testing.assert_allclose(joints[:, :2], content['annotations'][row], atol=1e-3)
            assert (joints[:, 2] == 2).all() and each['num_keypoints'] == 3
            x, y, w, h = each['bbox']
            assert x >= 0 and y >= 0 and x + w <= 49.01 and y + h <= 39.01
            inside = (joints[:, :2] > (x, y)) & (joints[:, :2] < (x + w, y + h))
            assert inside.all() and each['area'] == pytest.approx(w * h, abs=0.1)
    assert seen == set(range(10))


def test_flags_say_what_is_labelled_when_any_is_set(tmp_path):
    flags = np.zeros((10, 3), bool)
    flags[:, 0] = True
    flags[3] = False
    annotations = np.full((10, 3, 2), 20.0)
    annotations[4, 0] = np.nan
    write_set(tmp_path / 'a.h5', flags=flags, annotations=annotations)
    run('--source', tmp_path / 'a.h5', '--out', tmp_path / 'out', '--val-share', 0)
    written = read(tmp_path / 'out', 'train')
    assert [each['id'] for each in written['annotations']] == [1, 2, 3, 6, 7, 8, 9, 10]
    assert all(each['keypoints'] == [20, 20, 2] + [0] * 6 for each in written['annotations'])
    assert len(written['images']) == 10 and read(tmp_path / 'out', 'val')['images'] == []


def test_without_a_skeleton_every_joint_is_alone(tmp_path):
    write_set(tmp_path / 'a.h5')
    with h5py.File(tmp_path / 'a.h5', 'a') as file:
        del file['skeleton']
    run('--source', tmp_path / 'a.h5', '--out', tmp_path / 'out', '--names', 'a', 'b', 'c')
    (category,) = read(tmp_path / 'out', 'train')['categories']
    assert category['flip_indices'] == [0, 1, 2] and category['skeleton'] == []
    assert category['keypoints'] == ['a', 'b', 'c']


def test_the_seed_decides_the_split_and_a_folder_is_made_once(tmp_path):
    write_set(tmp_path / 'a.h5')
    args = ('--source', tmp_path / 'a.h5', '--out')
    run(*args, tmp_path / 'a')
    assert 'nothing to do' in run(*args, tmp_path / 'a')
    said = run(*args, tmp_path / 'a', '--seed', 1, code=2)
    assert '--overwrite' in said and said.count('\n') == 1
    run(*args, tmp_path / 'b')
    run(*args, tmp_path / 'c', '--seed', 1)
    a, b, c = (read(tmp_path / name, 'val') for name in 'abc')
    assert a == b and a != c
    assert {p.name for p in tmp_path.iterdir()} == {'a.h5', 'a', 'b', 'c'}


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (dict(annotations=np.zeros((9, 3, 2))), 'annotations of shape'),
        (dict(images=np.zeros((10, 4, 4, 1), np.float32)), 'images are float32'),
        (dict(skeleton=np.zeros((2, 2), int)), 'skeleton of shape'),
        (dict(annotated=np.ones((10, 2), bool)), 'annotated of shape'),
        (dict(annotations=None), "holds no 'annotations'"),
    ],
)
def test_wrong_files_are_one_line_and_leave_nothing(tmp_path, changes, said):
    write_set(tmp_path / 'a.h5', **changes)
    printed = run('--source', tmp_path / 'a.h5', '--out', tmp_path / 'out', code=2)
    assert said in printed and 'a.h5' in printed and printed.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['a.h5']


def test_wrong_options_are_named(tmp_path):
    assert 'nowhere.h5' in run('--source', tmp_path / 'nowhere.h5', '--out', tmp_path / 'o', code=2)
    write_set(tmp_path / 'a.h5')
    args = ('--source', tmp_path / 'a.h5', '--out', tmp_path / 'o')
    assert '3 joints' in run(*args, '--names', 'a', 'b', code=2)
    assert '--val-share' in run(*args, '--val-share', 1, code=2)


def test_a_missing_h5py_is_one_line(converter, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    assert converter.main(['--source', str(tmp_path / 'a'), '--out', str(tmp_path / 'o')]) == 2
    assert 'pip install' in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('claims', 'swaps', 'mended'),
    [
        ([-1, 2, 1], [0, 2, 1], []),
        ([1, 2, 3, -1], [1, 0, 3, 2], [1, 3]),
        ([1, -1], [1, 0], [1]),
        ([0, 7], [0, 1], [1]),
        ([2, 2, 0], [2, 1, 0], [1]),
    ],
)
def test_partners_become_a_pairing(converter, claims, swaps, mended):
    assert converter.pair_joints(claims) == (swaps, mended)
    assert [swaps[i] for i in swaps] == list(range(len(claims)))


def test_the_metainfo_has_the_names_of_the_converter(converter):
    info = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / 'fly-info.py').dataset_info
    meta = parse_pose_metainfo(info)
    assert [meta['keypoint_id2name'][i] for i in range(32)] == converter.FLY
    assert len(meta['skeleton_links']) == 25


def test_the_published_fly(tmp_path):
    folder = real_data('fly')
    if folder is None:
        pytest.skip('set MMDISTILL_DATA to a folder that holds fly/')
    said = run('--source', folder / 'example_annotation_set.h5', '--out', tmp_path / 'fly')
    assert 'mended: midlegL2, midlegL3' in said
    train, val = read(tmp_path / 'fly', 'train'), read(tmp_path / 'fly', 'val')
    assert (len(train['images']), len(val['images'])) == (80, 20)
    info = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / 'fly-info.py').dataset_info
    meta = parse_pose_metainfo(info)
    (category,) = train['categories']
    assert category['flip_indices'] == meta['flip_indices']
    links = {tuple(sorted((a - 1, b - 1))) for a, b in category['skeleton']}
    assert links == {tuple(sorted(link)) for link in meta['skeleton_links']}
