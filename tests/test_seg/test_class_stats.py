"""Statistics of classes: counting, the file, the files of DAFormer, and finding labels in them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.core.errors import UserError
from mmdistill.seg.class_stats import (
    ClassStats,
    StatsError,
    count_labels,
    names_hash,
    read_class_stats,
    rows_of,
    write_class_stats,
)

NAMES = ('b/2.png', 'a/1.png', 'a/2.png')
PIXELS = np.array([[0, 5, 0], [7, 0, 0], [1, 2, 0]])


def as_table(stats):
    """Pixels by name and class, without zeros."""
    return {
        name: {c: int(n) for c, n in enumerate(row) if n}
        for name, row in zip(stats.files, stats.pixels, strict=True)
    }


TABLE = as_table(ClassStats(NAMES, PIXELS))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 255]), max_size=40),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_counts_are_those_of_a_loop(ids, dtype):
    counts = count_labels(np.array(ids, dtype), 4)
    assert counts.tolist() == [ids.count(c) for c in range(4)]


def test_ids_that_are_no_class_are_named():
    with pytest.raises(UserError, match='label id 4 is none of the 4 classes and not 255'):
        count_labels(np.array([0, 4, 200], np.uint8), 4)
    assert count_labels(np.array([0, 4, 4], np.uint8), 4, ignore_index=4).tolist() == [1, 0, 0, 0]
    assert count_labels(np.array([0, 1, 1], np.uint8), 3, ignore_index=1).tolist() == [1, 0, 0]
    with pytest.raises(UserError, match='label id 300'):
        count_labels(np.array([300], np.uint16), 4)


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / 'new' / 'class_stats.json'
    write_class_stats(path, ClassStats(NAMES, PIXELS))
    stats = read_class_stats(path)
    assert as_table(stats) == TABLE and stats.num_classes == 3
    assert stats.files == tuple(sorted(NAMES))
    content = json.loads(path.read_text())
    assert content['pixels'] == [8, 7, 0] and content['num_files'] == 3
    assert content['files_sha1'] == names_hash(NAMES)
    assert [p.name for p in path.parent.iterdir()] == ['class_stats.json']


def test_the_hash_is_that_of_sort_and_sha1sum():
    # printf 'b\na\n' | sort | sha1sum
    assert names_hash(['b', 'a']) == '05dec960e24d918b8a73a1c53bcbbaac2ee5c2e0'


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'class_stats.json'
    write_class_stats(path, ClassStats(NAMES, PIXELS))
    before = path.read_bytes()

    def broken(*_):
        raise OSError('disk full')

    monkeypatch.setattr('os.replace', broken)
    with pytest.raises(OSError, match='disk full'):
        write_class_stats(path, ClassStats(NAMES[:1], PIXELS[:1]))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('form', ['list', 'dict', 'by class'])
def test_the_files_of_daformer_say_the_same(tmp_path, form):
    text = {name: {str(c): n for c, n in row.items()} for name, row in TABLE.items()}
    by_class = {str(c): [[f, r[c]] for f, r in TABLE.items() if c in r] for c in (1, 0)}
    content = {'list': [dict(row, file=name) for name, row in text.items()], 'dict': text,
               'by class': by_class}[form]  # fmt: skip
    (tmp_path / 'a.json').write_text(json.dumps(content))
    stats = read_class_stats(tmp_path / 'a.json')
    assert as_table(stats) == TABLE and stats.num_classes == 2


def ours(**changes):
    """A statistics file of ours with changed entries."""
    content = dict(kind='mmdistill class statistics', version=1, num_classes=3, ignore_index=255,
                   num_files=1, files_sha1=names_hash(['a']), pixels=[4, 0, 0],
                   files={'a': {'0': 4}})  # fmt: skip
    return json.dumps({**content, **changes})


def test_the_unchanged_file_is_read(tmp_path):
    (tmp_path / 'a.json').write_text(ours())
    assert as_table(read_class_stats(tmp_path / 'a.json')) == {'a': {0: 4}}


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'empty or no whole JSON'),
        (ours()[:-9], 'empty or no whole JSON'),
        ('[]', 'counts no pixel'),
        ('{}', 'counts no pixel'),
        ('[{"0": 3}]', 'holds no pixel counts'),
        ('[1, 2]', 'holds no pixel counts'),
        ('"text"', 'holds no pixel counts'),
        ('7', 'holds no pixel counts'),
        ('{"a.png": {"road": 3}}', 'holds no pixel counts'),
        ('{"a.png": {"0": -3}}', 'holds no pixel counts'),
        ('{"0": [["a.png"]]}', 'holds no pixel counts'),
        ('{"a.png": {}}', 'counts no pixel'),
        (ours(version=2), 'version 2'),
        (ours(pixels=[5, 0, 0]), 'counts were changed'),
        (ours(files={'b': {'0': 4}}), 'list of files was changed'),
        (ours(files={'a': {'3': 4}}), '4 pixels of class 3'),
    ],
)
def test_other_content_is_one_line_with_the_command(tmp_path, text, said):
    path = tmp_path / 'stats.json'
    path.write_text(text)
    with pytest.raises(StatsError) as caught:
        read_class_stats(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and said in message and 'class_stats.py' in message
    assert '\n' not in message


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(StatsError, match=r'none.json: no such .*class_stats.py LABEL_FOLDER'):
        read_class_stats(tmp_path / 'none.json')


def test_labels_are_found_wherever_the_folder_lies():
    stats = ClassStats(NAMES, PIXELS)
    paths = ['/data/x/a/2.png', '/data/x/b/2.png', '/data/x/a/1.png', '/data/x/a/3.png']
    assert rows_of(stats, paths).tolist() == [2, 0, 1, -1]
    moved = ClassStats(tuple(f'old/gtFine/{name}' for name in NAMES), PIXELS)
    assert rows_of(moved, paths).tolist() == [2, 0, 1, -1]
    assert rows_of(stats, []).tolist() == []


def test_two_names_that_fit_alike_are_an_error():
    stats = ClassStats(NAMES, PIXELS)
    with pytest.raises(StatsError, match='c/2.png: could be b/2.png or a/2.png'):
        rows_of(stats, ['/data/c/2.png'])
