"""Labelled splits: nested draws, the published form, errors that name line and value."""

from pathlib import Path

import pytest

from mmdistill.core.errors import UserError
from mmdistill.det3d.semi_split import (
    SplitError,
    draw_split,
    format_split,
    read_frames,
    read_split,
    write_splits,
)
from mmdistill.testing.data import real_data

TRAIN = list(range(0, 600, 3))
VAL = list(range(1, 600, 3))


@pytest.fixture
def sets(tmp_path) -> Path:
    """ImageSets with 200 training and 200 validation frames; returns the folder for splits."""
    folder = tmp_path / 'ImageSets'
    folder.mkdir()
    (folder / 'train.txt').write_text(''.join(f'{i:06d}\n' for i in TRAIN))
    (folder / 'val.txt').write_text(''.join(f'{i:06d}\n' for i in VAL))
    (tmp_path / 'ImageSets_semi').mkdir()
    return tmp_path / 'ImageSets_semi'


def test_draws_are_nested_seeded_and_unique():
    large = draw_split(TRAIN, 64, number=2, seed=5)
    assert len(set(large)) == 64 and set(large) <= set(TRAIN)
    for count in (1, 8, 63):
        assert draw_split(TRAIN, count, number=2, seed=5) == large[:count]
    assert draw_split(TRAIN, 64, number=3, seed=5) != large
    assert draw_split(TRAIN, 64, number=2, seed=6) != large


@pytest.mark.parametrize('count', [0, -1, 201])
def test_impossible_counts_are_refused(count):
    with pytest.raises(SplitError, match=f'cannot draw {count} labelled frames out of 200'):
        draw_split(TRAIN, count)


def test_written_splits_are_read_back(sets):
    done = write_splits(sets, TRAIN, [8, 0.1], numbers=2, seed=1)
    assert sorted(p.name for p in done) == [
        'train_0.1_1.txt', 'train_0.1_2.txt', 'train_8_1.txt', 'train_8_2.txt',
    ]  # fmt: skip
    assert set(done.values()) == {'drawn'}
    small, large = read_split(sets / 'train_8_1.txt'), read_split(sets / 'train_0.1_1.txt')
    assert len(small) == 8 and len(large) == 20
    assert large[:8] == small == draw_split(TRAIN, 8, number=1, seed=1)


def test_existing_splits_are_kept_but_checked(sets):
    path = sets / 'train_8_1.txt'
    path.write_text('000003 1')
    assert write_splits(sets, TRAIN, [8], numbers=1) == {path: 'kept'}
    assert read_split(path) == [3]
    path.write_text('000003 7')
    with pytest.raises(SplitError, match='index 7'):
        write_splits(sets, TRAIN, [8], numbers=1)
    assert write_splits(sets, TRAIN, [8], numbers=1, overwrite=True) == {path: 'drawn'}
    assert len(read_split(path)) == 8


def test_the_published_form_is_read(sets):
    path = sets / 'train_0.01_1.txt'
    path.write_text('000300 100\n000003 1')  # unsorted, no newline at the end
    assert read_split(path) == [300, 3]
    path.write_text('000300\n\n3\n')  # without indices
    assert read_split(path) == [300, 3]
    assert format_split([300, 3], TRAIN) == '000300 100\n000003 1\n'


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('000003 1\n000002 1', 'line 2: frame 000002 is not in train.txt \\(200 frames\\)'),
        ('000003 1\n000006 1', 'line 2: frame 000006 has index 1, but stands in line 2 '),
        ('000003 1\n000006 2\n000003 1', 'line 3: frame 000003 stands already in line 1'),
        ('000003 1\n000004 1', 'line 2: frame 000004 is a validation frame'),
        ('000003 1\n00000x 1', "line 2: '00000x 1' is not of the form"),
        ('000003 1\n000006 2 9', "line 2: '000006 2 9' is not of the form"),
        ('000003 1\n-3 1', "line 2: '-3 1' is not of the form"),
        ('\n', 'holds no frame'),
    ],
)
def test_broken_splits_name_file_line_and_value(sets, text, says):
    path = sets / 'train_0.01_1.txt'
    path.write_text(text)
    with pytest.raises(SplitError, match=says) as caught:
        read_split(path)
    assert str(caught.value).startswith(str(path))
    assert isinstance(caught.value, UserError)


def test_files_that_are_no_text_are_named(sets):
    path = sets / 'train_0.01_1.txt'
    path.write_bytes('000003 1\n'.encode('utf-16'))
    with pytest.raises(SplitError, match='train_0.01_1.txt: is no text file .*byte 0'):
        read_split(path)
    path.write_text('000003 1')
    train = sets.parent / 'ImageSets' / 'train.txt'
    train.write_bytes(b'000003\n\xff')
    with pytest.raises(SplitError, match='train.txt: is no text file .*byte 7'):
        read_split(path)


def test_a_missing_split_says_how_to_make_one(sets):
    with pytest.raises(SplitError, match='make_semi_split.py'):
        read_split(sets / 'train_9_9.txt')


def test_checks_can_be_given_instead_of_found(tmp_path):
    path = tmp_path / 'alone' / 'split.txt'
    path.parent.mkdir()
    path.write_text('000005 0\n')
    assert read_split(path) == [5]  # nothing to check against
    with pytest.raises(SplitError, match='not in train.txt'):
        read_split(path, train=[1, 2])
    with pytest.raises(SplitError, match='validation frame'):
        read_split(path, train=[5], val=[5])
    assert read_frames(path) == [5]


def test_published_kitti_splits_fit():
    root = real_data('kitti')
    if root is None or not (root / 'ImageSets_semi').is_dir():
        pytest.skip('set MMDISTILL_DATA to a folder that holds kitti/ImageSets_semi')
    for share, count in (('0.01', 37), ('0.02', 74)):
        for number in (1, 2, 3):
            frames = read_split(root / 'ImageSets_semi' / f'train_{share}_{number}.txt')
            assert len(set(frames)) == count
