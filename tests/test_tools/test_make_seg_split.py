"""The split tool: nested, whole, repeatable splits, and published lists."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mmdistill.seg  # noqa: F401  (the tool loads parts of it without its hosts)
from mmdistill.testing.data import real_data

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the tool in this process; returns what it printed."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import make_seg_split

    def _run(*args, code=0):
        assert make_seg_split.main([str(a) for a in args]) == code
        out = capsys.readouterr()
        return out.out + out.err

    yield _run
    for name in ('make_seg_split', 'label_files', 'generated_folder'):
        sys.modules.pop(name, None)


@pytest.fixture
def ids(tmp_path):
    """A list of 160 ids."""
    path = tmp_path / 'all.txt'
    path.write_text('\n'.join(f'city{n % 3}/{n:06d}' for n in range(160)))
    return path


def lists(folder):
    """Ids of the two lists of a split."""
    return [(folder / f'{name}.txt').read_text().split() for name in ('labeled', 'unlabeled')]


def test_splits_are_disjoint_whole_nested_and_named_by_their_hash(run, ids, tmp_path):
    sizes = ['1/16', '1/8', '30', '1/2']
    said = run('--ids', ids, '--sizes', *sizes, '--out', tmp_path / 'out')
    everything, smaller = set(ids.read_text().split()), set()
    manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
    for name, count in zip(('1_16', '1_8', '30', '1_2'), (10, 20, 30, 80), strict=True):
        labeled, rest = lists(tmp_path / 'out' / name)
        assert len(labeled) == len(set(labeled)) == count
        assert set(labeled) | set(rest) == everything and not set(labeled) & set(rest)
        assert smaller < set(labeled)
        smaller = set(labeled)
        digest = hashlib.sha1((tmp_path / 'out' / name / 'labeled.txt').read_bytes()).hexdigest()
        assert manifest['labeled_sha1'][name] == digest
        assert f'{count} images, sha1 {digest}' in said
    assert manifest['seed'] == 0 and manifest['images'] == 160


def test_the_seed_decides_and_nothing_is_drawn_over_other_splits(run, ids, tmp_path):
    args = ('--ids', ids, '--sizes', '1/4', '--out')
    run(*args, tmp_path / 'a')
    run(*args, tmp_path / 'b', '--seed', 1)
    assert lists(tmp_path / 'a' / '1_4') != lists(tmp_path / 'b' / '1_4')
    assert 'nothing to do' in run(*args, tmp_path / 'a')
    said = run(*args, tmp_path / 'a', '--seed', 1, code=2)
    assert '--overwrite' in said and said.count('\n') == 1
    run(*args, tmp_path / 'a', '--seed', 1, '--overwrite')
    assert lists(tmp_path / 'a' / '1_4') == lists(tmp_path / 'b' / '1_4')


def test_images_of_a_folder_are_the_same_as_their_list(run, ids, tmp_path):
    for name in ids.read_text().split():
        path = tmp_path / 'images' / f'{name}_leftImg8bit.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    run('--ids', ids, '--sizes', '1/4', '--out', tmp_path / 'a')
    images = ('--images', tmp_path / 'images', '--suffix', '_leftImg8bit.png')
    run(*images, '--sizes', '1/4', '--out', tmp_path / 'b')
    assert lists(tmp_path / 'a' / '1_4') == lists(tmp_path / 'b' / '1_4')


def test_published_lists_become_ids_with_their_rest(run, ids, tmp_path):
    chosen = sorted(ids.read_text().split())[:7]
    published = tmp_path / 'labeled.txt'
    published.write_text('\n'.join(
        f'leftImg8bit/train/{i}_leftImg8bit.png gtFine/train/{i}_gtFine_labelTrainIds.png'
        for i in reversed(chosen)
    ))  # fmt: skip
    said = run('--published', published, '--ids', ids, '--out', tmp_path / 'out')
    digest = hashlib.sha1(''.join(f'{i}\n' for i in chosen).encode()).hexdigest()
    assert f'7 images, sha1 {digest}' in said
    lines = ''.join(f'{line}\n' for line in sorted(published.read_text().splitlines()))
    assert f'lines as they are {hashlib.sha1(lines.encode()).hexdigest()}' in said
    labeled, rest = lists(tmp_path / 'out')
    assert labeled == chosen and len(rest) == 153
    plain = run('--published', tmp_path / 'out' / 'labeled.txt')
    assert digest in plain and 'as they are' not in plain


def test_wrong_arguments_are_one_line_and_leave_nothing(run, ids, tmp_path):
    other = tmp_path / 'other.txt'
    other.write_text('somewhere\n')
    cases = [
        (('--sizes', '1/4', '--out', tmp_path / 'out'), '--ids or --images'),
        (('--sizes', '1/4', '--ids', ids), 'needs --out'),
        (('--sizes', '3/2', '--ids', ids, '--out', tmp_path / 'out'), "size '3/2'"),
        (('--sizes', '4', '--ids', tmp_path / 'no.txt', '--out', tmp_path / 'out'), 'no.txt: no'),
        (('--published', other, '--ids', ids, '--out', tmp_path / 'out'), 'instance somewhere'),
        (('--published', other, '--out', tmp_path / 'out'), 'needs one --published list'),
    ]
    for args, expected in cases:
        said = run(*args, code=2)
        assert expected in said.splitlines()[-1] and 'Traceback' not in said
        assert {p.name for p in tmp_path.iterdir()} == {'all.txt', 'other.txt'}


def test_it_starts_without_torch(ids):
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', str(TOOLS / 'make_seg_split.py'), '--published', ids],
        capture_output=True,
        text=True,
        env={'PYTHONPATH': str(TOOLS.parents[1]), 'PATH': ''},
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert '160 images' in done.stdout and ' torch\n' not in done.stderr


def test_a_split_of_the_real_camvid_is_read_by_its_dataset(run, tmp_path):
    root = real_data('camvid')
    if root is None:
        pytest.skip('set MMDISTILL_DATA to a folder that holds camvid/')
    from mmdistill.seg.datasets import CamVidDataset

    images = ('--images', root / 'images' / 'train', '--suffix', '.jpg')
    run(*images, '--sizes', '1/8', '--out', tmp_path / 'splits')
    prefix = dict(img_path='images/train', seg_map_path='annotations/train')
    sizes = [
        len(CamVidDataset(data_root=str(root), data_prefix=prefix, ann_file=str(path)))
        for path in (tmp_path / 'splits' / '1_8' / f'{n}labeled.txt' for n in ('', 'un'))
    ]
    assert sizes == [46, 321]
