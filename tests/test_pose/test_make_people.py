"""The written data set: COCO's format as its readers see it, and the command line."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.pose.figure_sim import JOINTS, LINKS, PictureSettings, simulate
from mmdistill.pose.people_writer import VAL_START, Recipe, annotations, write_dataset

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'make_synthetic.py'
RECIPE = Recipe(40, 6, 2, PictureSettings(size=96))
SMALL = ('--train', 5, '--val', 2, '--size', 64)


def _run(*args, code: int = 0) -> str:
    """Runs ``make_synthetic.py people``; returns what it printed."""
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, str(TOOL), 'people', *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
    )
    assert done.returncode == code, done.stderr
    assert 'Traceback' not in done.stderr
    return done.stdout + done.stderr


def _files(root: Path) -> dict[str, bytes]:
    """Content of all files below a folder."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def _annotations(root: Path, split: str) -> Path:
    return root / 'annotations' / f'person_keypoints_{split}.json'


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    """A small data set; never change it."""
    root = tmp_path_factory.mktemp('people')
    write_dataset(root, RECIPE)
    return root


@pytest.fixture
def coco(people):
    """Reads a split with xtcocotools, quietly."""
    from xtcocotools.coco import COCO

    def read(split='train'):
        with contextlib.redirect_stdout(io.StringIO()):
            return COCO(str(_annotations(people, split)))

    return read


def test_the_folder_holds_what_coco_has(people):
    for split, count in (('train', 40), ('val', 6)):
        content = json.loads(_annotations(people, split).read_text())
        (category,) = content['categories']
        assert category['name'] == 'person' and category['id'] == 1
        assert category['keypoints'] == list(JOINTS)
        assert category['skeleton'] == [list(link) for link in LINKS]
        names = sorted(path.name for path in (people / 'images' / split).iterdir())
        assert names == [image['file_name'] for image in content['images']] and len(names) == count
        ids = [person['id'] for person in content['annotations']]
        assert len(set(ids)) == len(ids) and min(ids) > 0
        assert {person['image_id'] for person in content['annotations']} <= {
            image['id'] for image in content['images']
        }
        for image in content['images']:
            picture = cv2.imread(str(people / 'images' / split / image['file_name']))
            assert picture.shape == (image['height'], image['width'], 3) == (96, 96, 3)


def test_annotations_are_cocos(people):
    for person in json.loads(_annotations(people, 'train').read_text())['annotations']:
        assert set(person) == {
            'id', 'image_id', 'category_id', 'iscrowd', 'bbox', 'area', 'keypoints',
            'num_keypoints',
        }  # fmt: skip
        joints = np.array(person['keypoints'], float).reshape(17, 3)
        assert person['num_keypoints'] == (joints[:, 2] > 0).sum()
        assert (joints[joints[:, 2] == 0] == 0).all() and person['iscrowd'] == 0
        x, y, w, h = person['bbox']
        assert x >= 0 and y >= 0 and x + w <= 96 and y + h <= 96 and 0 < person['area'] <= w * h
        joints = joints[joints[:, 2] > 0, :2]
        assert ((joints >= (x, y)) & (joints <= (x + w, y + h))).all()


def test_written_images_and_labels_are_the_drawn_ones(people):
    picture = simulate(2, 3, RECIPE.settings)
    file = people / 'images' / 'train' / '000000000004.jpg'
    difference = cv2.imread(str(file)).astype(int) - picture.image
    assert np.abs(difference).mean() < 8
    content = json.loads(_annotations(people, 'train').read_text())
    written = [person for person in content['annotations'] if person['image_id'] == 4]
    assert written == annotations(picture, 4)
    assert [label.area for label in picture.labels] == [person['area'] for person in written]


def test_truth_scores_one_and_errors_cost(coco):
    from xtcocotools.cocoeval import COCOeval

    truth = coco()

    def score(shift: float) -> np.ndarray:
        found = []
        for person in truth.loadAnns(truth.getAnnIds()):
            if not person['num_keypoints']:
                continue
            joints = np.array(person['keypoints'], float).reshape(17, 3)
            joints[:, :2] += shift
            joints[:, 2] = 1
            entry = {key: person[key] for key in ('image_id', 'category_id')}
            found.append({**entry, 'keypoints': joints.ravel().tolist(), 'score': 0.9})
        with contextlib.redirect_stdout(io.StringIO()):
            run = COCOeval(truth, truth.loadRes(found), 'keypoints', use_area=True)
            run.evaluate()
            run.accumulate()
            run.summarize()
        return run.stats

    assert score(0.0)[0] == pytest.approx(1.0) and score(0.0)[5] == pytest.approx(1.0)
    assert 0.1 < score(1.0)[0] < 1.0 and score(40.0)[0] < 0.05


def test_mmpose_reads_all_labelled_people(people):
    from mmpose.datasets.datasets import CocoDataset

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = CocoDataset(
            ann_file='annotations/person_keypoints_train.json',
            data_root=str(people),
            data_prefix=dict(img='images/train/'),
        )
    content = json.loads(_annotations(people, 'train').read_text())
    labelled = [person for person in content['annotations'] if person['num_keypoints']]
    assert [dataset[k]['id'] for k in range(len(dataset))] == [person['id'] for person in labelled]
    sample, person = dataset[0], labelled[0]
    assert Path(sample['img_path']).is_file()
    joints = np.array(person['keypoints']).reshape(17, 3)
    np.testing.assert_allclose(sample['keypoints'][0], joints[:, :2], atol=1e-4)
    np.testing.assert_array_equal(sample['keypoints_visible'][0], joints[:, 2] > 0)
    assert dataset.metainfo['num_keypoints'] == 17
    names = dataset.metainfo['keypoint_id2name']
    assert [names[k] for k in range(17)] == list(JOINTS)
    assert len(CocoDataset(
        ann_file='annotations/person_keypoints_val.json', data_root=str(people),
        data_prefix=dict(img='images/val/'), test_mode=True,
    )) > 0  # fmt: skip


def test_workers_change_nothing_even_after_opencv_had_threads(people, tmp_path):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        cv2.GaussianBlur(np.zeros((800, 800), np.uint8), (0, 0), 3)
        write_dataset(tmp_path, RECIPE, workers=2)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
    assert _files(tmp_path) == _files(people)


def test_later_images_change_nothing(people, tmp_path):
    grown = tmp_path / 'grown'
    grown.mkdir()
    seen = []
    write_dataset(grown, Recipe(44, 0, 2, RECIPE.settings), progress=lambda *n: seen.append(n))
    old, new = _files(people), _files(grown)
    images = [name for name in old if name.startswith('images/train')]
    assert all(new[name] == old[name] for name in images)
    before, after = (json.loads(f['annotations/person_keypoints_train.json']) for f in (old, new))
    assert after['annotations'][: len(before['annotations'])] == before['annotations']
    assert seen[-1] == (44, 44) and not any('val' in name for name in new)


@pytest.mark.parametrize(
    'counts', [(0, 1, 0), (1, -1, 0), (VAL_START + 1, 0, 0), (1, VAL_START + 1, 0), (1, 1, -1)]
)
def test_wrong_counts_are_named(counts):
    with pytest.raises(ValueError, match=f'train={counts[0]}, val={counts[1]}, seed={counts[2]}'):
        Recipe(*counts)


# --- the command line -----------------------------------------------------


def test_people_are_made_once(tmp_path):
    out = tmp_path / 'deep' / 'people'
    assert 'done' in _run('--out', out, *SMALL)
    files = _files(out)
    assert len(files) == 5 + 2 + 2 + 1
    assert 'nothing to do' in _run('--out', out, *SMALL)
    said = _run('--out', out, *SMALL, '--seed', 1, code=2)
    assert str(out) in said and '--overwrite' in said and _files(out) == files
    _run('--out', out, *SMALL, '--seed', 1, '--overwrite', '--workers', 2)
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['seed'] == 1 and manifest['kind'] == 'people' and manifest['size'] == 64
    assert _files(out) != files and [p.name for p in out.parent.iterdir()] == ['people']
    again = tmp_path / 'again'
    _run('--out', again, *SMALL)
    assert _files(again) == files


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (('--train', 0, '--val', 1), 'train=0'),
        (('--train', 1, '--val', 1, '--size', 16), 'size must be 64 to 1024 pixels, got 16'),
        (('--train', 1, '--val', 1, '--seed', -1), 'seed=-1'),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(tmp_path, wrong, named):
    said = _run('--out', tmp_path / 'people', *wrong, code=2)
    assert named in said and said.count('\n') == 1
    assert not list(tmp_path.iterdir())
