"""The written streets: Cityscapes' layout as mmseg reads it, and the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.seg.class_stats import read_class_stats
from mmdistill.seg.street_sim import CLASSES, DOMAINS, StreetSettings, simulate
from mmdistill.seg.streets_writer import (
    PER_TOWN,
    VAL_START,
    Recipe,
    image_files,
    write_dataset,
)

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'make_synthetic.py'
RECIPE = Recipe(11, 3, 2, StreetSettings(size=(64, 48)))
SMALL = ('--train', 3, '--val', 1, '--size', '64x32')


def _run(*args, code: int = 0) -> str:
    """Runs ``make_synthetic.py streets``; returns what it printed."""
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, str(TOOL), 'streets', *map(str, args)],
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


@pytest.fixture(scope='module')
def streets(tmp_path_factory):
    """A small data set; never change it."""
    root = tmp_path_factory.mktemp('streets')
    write_dataset(root, RECIPE)
    return root


def test_the_folder_is_laid_out_as_cityscapes(streets):
    for domain in DOMAINS:
        for split, count in (('train', 11), ('val', 3)):
            images = sorted((streets / domain / 'leftImg8bit' / split).glob('*/*'))
            labels = sorted((streets / domain / 'gtFine' / split).glob('*/*'))
            assert len(images) == len(labels) == count
            for image, label in zip(images, labels, strict=True):
                stem = image.name.removesuffix('_leftImg8bit.png')
                assert label.name == f'{stem}_gtFine_labelTrainIds.png'
                assert image.parent.name == label.parent.name == stem.split('_')[0]
    assert sorted(path.name for path in streets.iterdir()) == sorted(DOMAINS)


def test_written_files_are_the_drawn_streets(streets):
    for domain, split, index in (('source', 'train', 4), ('target', 'val', VAL_START + 2)):
        image, label = (streets / path for path in image_files(domain, split, index))
        street = simulate(domain, 2, index, RECIPE.settings)
        np.testing.assert_array_equal(cv2.imread(str(image), cv2.IMREAD_UNCHANGED), street.image)
        read = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
        assert read.dtype == np.uint8 and read.shape == (48, 64)
        np.testing.assert_array_equal(read, street.label)


def test_every_image_has_its_own_file():
    images = Recipe(PER_TOWN + 5, 4).images()
    files = [path for image in images for path in image_files(*image)]
    assert len(set(files)) == len(files) == 2 * 2 * (PER_TOWN + 9)
    towns = {path.parent.name for path in files}
    assert towns == {'town000', 'town001', 'town500'}


@pytest.mark.parametrize('domain', DOMAINS)
@pytest.mark.parametrize(('split', 'count'), [('train', 11), ('val', 3)])
def test_mmseg_reads_them_as_cityscapes(streets, domain, split, count):
    from mmseg.datasets import CityscapesDataset

    dataset = CityscapesDataset(
        data_root=str(streets / domain),
        data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='mmseg.LoadAnnotations')],
    )
    assert len(dataset) == count
    assert tuple(dataset.metainfo['classes']) == CLASSES
    start = 0 if split == 'train' else VAL_START
    for number in (0, count - 1):
        sample, street = dataset[number], simulate(domain, 2, start + number, RECIPE.settings)
        np.testing.assert_array_equal(sample['img'], street.image)
        np.testing.assert_array_equal(sample['gt_seg_map'], street.label)


def test_workers_change_nothing_even_after_opencv_had_threads(streets, tmp_path):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        cv2.GaussianBlur(np.zeros((800, 800), np.uint8), (0, 0), 3)
        write_dataset(tmp_path, RECIPE, workers=2)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
    assert _files(tmp_path) == _files(streets)


def test_later_images_change_nothing(streets, tmp_path):
    seen = []
    write_dataset(
        tmp_path, Recipe(13, 0, 2, RECIPE.settings), progress=lambda *counts: seen.append(counts)
    )
    old, new = _files(streets), _files(tmp_path)
    kept = [name for name in old if '/train/' in name]
    assert len(kept) == 44 and all(new[name] == old[name] for name in kept)
    assert seen[-1] == (26, 26) and not any('/val/' in name for name in new)


@pytest.mark.parametrize(
    'counts', [(0, 1, 0), (1, -1, 0), (VAL_START + 1, 0, 0), (1, VAL_START + 1, 0), (1, 1, -1)]
)
def test_wrong_counts_are_named(counts):
    with pytest.raises(ValueError, match=f'train={counts[0]}, val={counts[1]}, seed={counts[2]}'):
        Recipe(*counts)


# --- the command line -----------------------------------------------------


def test_streets_are_made_once(tmp_path):
    out = tmp_path / 'deep' / 'streets'
    assert 'done' in _run('--out', out, *SMALL)
    files = _files(out)
    # images and labels of both domains, the manifest, and the classes of the source
    assert len(files) == 2 * 2 * (3 + 1) + 2
    stats = read_class_stats(out / 'source' / 'class_stats.json')
    labels = sorted((out / 'source' / 'gtFine' / 'train').rglob('*.png'))
    assert [Path(name).name for name in stats.files] == [path.name for path in labels]
    for path, pixels in zip(labels, stats.pixels, strict=True):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert pixels.tolist() == [int((label == c).sum()) for c in range(19)]
    assert 'nothing to do' in _run('--out', out, '--train', 3, '--val', 1, '--size', 64, 32)
    said = _run('--out', out, *SMALL, '--seed', 1, code=2)
    assert str(out) in said and '--overwrite' in said and _files(out) == files
    _run('--out', out, *SMALL, '--seed', 1, '--overwrite', '--workers', 2)
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['seed'] == 1 and manifest['kind'] == 'streets' and manifest['size'] == [64, 32]
    assert _files(out) != files and [p.name for p in out.parent.iterdir()] == ['streets']
    again = tmp_path / 'again'
    _run('--out', again, *SMALL)
    assert _files(again) == files
    assert cv2.imread(str(next(again.rglob('*_leftImg8bit.png')))).shape == (32, 64, 3)


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (('--train', 0, '--val', 1), 'train=0'),
        (('--train', 1, '--val', 1, '--size', '16x32'), '32 to 2048 pixels, got 16x32'),
        (('--train', 1, '--val', 1, '--size', 'wide'), "as in 256x128, got 'wide'"),
        (('--train', 1, '--val', 1, '--size', 64, 64, 3), "as in 256x128, got '64 64 3'"),
        (('--train', 1, '--val', 1, '--seed', -1), 'seed=-1'),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(tmp_path, wrong, named):
    said = _run('--out', tmp_path / 'streets', *wrong, code=2)
    assert named in said and said.count('\n') == 1
    assert not list(tmp_path.iterdir())
