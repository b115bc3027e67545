"""Tables of all kinds give the same rows; what is wrong is named with file and line."""

import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from mmdistill.core.errors import UserError
from mmkd.datasets.tables import read_table

ROWS = [('a "quoted text', '1'), ("it 's", '0'), ('zwölf', '1')]
OBJECTS = [dict(idx=n, sentence=text, label=label) for n, (text, label) in enumerate(ROWS)]


def written(kind, folder):
    """The rows as a file of a kind."""
    path = folder / f'table.{kind}'
    if kind == 'tsv':
        lines = ['idx\tsentence\tlabel', *(f'{n}\t{t}\t{lab}' for n, (t, lab) in enumerate(ROWS))]
        path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    elif kind == 'json':
        path.write_text(json.dumps(OBJECTS))
    elif kind == 'jsonl':
        path.write_text('\n'.join(map(json.dumps, OBJECTS)) + '\n\n')
    elif kind == 'parquet':
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(OBJECTS), path)
    else:
        datasets.Dataset.from_list(OBJECTS).save_to_disk(path)
    return path


@pytest.mark.parametrize('kind', ['tsv', 'json', 'jsonl', 'parquet', 'saved'])
def test_all_kinds_give_the_same_rows(kind, tmp_path):
    path = written(kind, tmp_path)
    assert read_table(path, ['sentence', 'label']) == ROWS
    assert read_table(path, ['label']) == [(label,) for _, label in ROWS]
    with pytest.raises(UserError, match=rf'table.{kind}.* no.* .sentense.* .did you mean'):
        read_table(path, ['sentense'])


def test_columns_by_number_without_header(tmp_path):
    path = tmp_path / 'cola.tsv'
    path.write_text('gj04\t1\t\tThey sailed.\n\ngj04\t0\t*\tThey sail did.\n')
    assert read_table(path, [3, 1], header=False) == [
        ('They sailed.', '1'),
        ('They sail did.', '0'),
    ]
    assert read_table(path, [-1], header=False)[0] == ('They sailed.',)
    with pytest.raises(UserError, match="no column 'label'; it has no header"):
        read_table(path, ['label'], header=False)


def test_short_lines_are_named(tmp_path):
    path = tmp_path / 'short.tsv'
    path.write_text('text\tlabel\nfine\t1\nbroken\n')
    with pytest.raises(UserError, match=r'short.tsv, line 3: 1 columns'):
        read_table(path, ['text', 'label'])


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.jsonl', '{"x": 1}\n{"x" 2}\n', r'a.jsonl, line 2: this is no JSON'),
        ('a.json', '{"x": 1}', 'a list of objects is wanted, found dict'),
        ('a.csv', 'x,y', r'a.csv: unknown kind of table'),
        ('a.json', '[1]', r"a.json, row 1: there is no 'x'"),
    ],
)
def test_broken_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / name, ['x'])


def test_missing_files_and_several_splits(tmp_path):
    with pytest.raises(UserError, match='nowhere.tsv: there is no such file'):
        read_table(tmp_path / 'nowhere.tsv', ['x'])
    with pytest.raises(UserError, match='no data set of datasets.save_to_disk'):
        read_table(tmp_path, ['x'])
    split = datasets.DatasetDict(train=datasets.Dataset.from_list(OBJECTS))
    split.save_to_disk(tmp_path / 'both')
    with pytest.raises(UserError, match=r"several splits, name one: \['train'\]"):
        read_table(tmp_path / 'both', ['label'])
    assert len(read_table(tmp_path / 'both' / 'train', ['label'])) == 3


def test_files_of_glue_with_header_and_pairs(tmp_path):
    # the mark of UTF-8 before the header, quotes that belong to the text, a label at the end
    path = tmp_path / 'train.tsv'
    path.write_text('\ufeffQuality\t#1\t#2\n1\t"A " b\tc"\n0\t"d\te\n', encoding='utf-8')
    rows = [('"A " b', 'c"', '1'), ('"d', 'e', '0')]
    assert read_table(path, [1, 2, 0]) == rows
    assert read_table(path, ['#1', '#2', 'Quality']) == rows
    assert read_table(path, [1, 2, -3]) == rows


def test_short_lines_are_left_out_on_demand(tmp_path):
    path = tmp_path / 'qqp.tsv'
    path.write_text('id\tone\ttwo\tsame\n0\ta\tb\t1\n1\tc\n2\td\te\n3\tf\tg\t0\n')
    # the third line has a last column, but too few of them
    for label in (3, -1):
        found = read_table(path, [1, 2, label], skip_short=True)
        assert found == [('a', 'b', '1'), ('f', 'g', '0')]
    with pytest.raises(UserError, match='qqp.tsv, line 3: 2 columns'):
        read_table(path, [1, 2, 3])
