"""Tables: what training rows alone decide, splits by count, pieces of files, lines of mistakes."""

import gzip
import logging
import os

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from mmdistill.core.errors import UserError
from mmkd.datasets import column_cache
from mmkd.datasets.columns import Layout, read_columns
from mmkd.datasets.tabular import CriteoDataset, TabularDataset, split_rows

COLUMNS = dict(label='kind', labels=['no', 'yes', 'odd'], categorical=['town', 'tree'])


@pytest.fixture
def warnings():
    """Messages of mmengine's logger."""
    found = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def table(rows=100, seed=0):
    """Rows of a table with two numbers and two words."""
    draw = np.random.default_rng(seed)
    numbers = draw.normal(50, 20, (rows, 2)).round(3)
    towns = draw.choice(['Oslo', 'Rome', 'Bern', 'Kyiv'], rows)
    trees = draw.choice(['oak', 'elm', ''], rows)
    kinds = draw.choice(['no', 'yes', 'odd'], rows)
    return [list(map(str, each)) for each in zip(*numbers.T, towns, trees, kinds, strict=True)]


def write(path, rows, header='size,age,town,tree,kind', delimiter=','):
    """A text file of them."""
    lines = [header] if header else []
    path.write_text('\n'.join([*lines, *(delimiter.join(row) for row in rows)]) + '\n')
    return str(path)


def batch(dataset):
    """All samples of a data set."""
    samples = [dataset[n] for n in range(len(dataset))]
    names = samples[0]['inputs']
    found = {name: torch.stack([each['inputs'][name] for each in samples]) for name in names}
    return found, [each['labels'] for each in samples]


@pytest.mark.parametrize(
    ('split', 'part', 'count'),
    [
        ('test', None, 20_000),
        ('train', None, 72_000),
        ('train', 'teacher', 50_400),
        ('train', 'student', 21_600),
        ('val', None, 8_000),
        ('val', 'teacher', 5_600),
        ('val', 'student', 2_400),
    ],
)
def test_the_split_of_100_000_rows_of_criteo(split, part, count):
    assert len(split_rows(100_000, split, part=part)) == count


@pytest.mark.parametrize('count', [10, 101, 1234])
@pytest.mark.parametrize('shares', [(0.72, 0.08, 0.2), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0)])
def test_splits_and_parts_have_no_row_in_common_and_miss_none(count, shares):
    given = dict(shares=shares, seed=3)
    parts = [
        *(split_rows(count, 'train', part=part, **given) for part in ('teacher', 'student')),
        split_rows(count, 'val', **given),
        *([split_rows(count, 'test', **given)] if shares[2] else []),
    ]
    assert sorted(np.concatenate(parts)) == list(range(count))
    assert all((np.diff(each) > 0).all() for each in parts)
    other = split_rows(count, 'train', shares=shares, seed=4)
    assert not np.array_equal(other, split_rows(count, 'train', **given))


def test_samples_are_the_rows_of_the_file(tmp_path):
    rows = table()
    data = TabularDataset(write(tmp_path / 'a.csv', rows), **COLUMNS, split=None, scaling=None)
    inputs, labels = batch(data)
    wanted = np.array([[float(each) for each in row[:2]] for row in rows], np.float32)
    assert np.array_equal(inputs['numeric'].numpy(), wanted)
    towns, trees = ({w: n for n, w in enumerate(words, start=2)} for words in
                    (['Bern', 'Kyiv', 'Oslo', 'Rome'], ['elm', 'oak']))  # fmt: skip
    ids = [[towns[row[2]], trees[row[3]] if row[3] else 1] for row in rows]
    assert inputs['categories'].tolist() == ids and inputs['categories'].dtype == torch.int64
    assert labels == [COLUMNS['labels'].index(row[4]) for row in rows] == data.labels.tolist()
    about = dict(classes=('no', 'yes', 'odd'), numeric=2, cardinalities=[6, 4])
    assert data.metainfo == about
    test = TabularDataset(str(tmp_path / 'a.csv'), **COLUMNS, split='test', scaling=None)
    chosen = split_rows(100, 'test')
    assert torch.equal(batch(test)[0]['numeric'], inputs['numeric'][chosen])
    assert batch(test)[1] == [labels[n] for n in chosen]


@pytest.mark.parametrize(
    ('scaling', 'scaler'), [('minmax', MinMaxScaler()), ('standard', StandardScaler())]
)
def test_scales_are_those_of_scikit_learn_on_the_training_rows(tmp_path, scaling, scaler):
    rows = table()
    path = write(tmp_path / 'a.csv', [[*row[:1], '7.5', *row[2:]] for row in rows])
    raw = np.array([[float(row[0]), 7.5] for row in rows])
    scaler.fit(raw[split_rows(100, 'train')])
    for split in ('train', 'val', 'test'):
        data = TabularDataset(path, **COLUMNS, split=split, scaling=scaling)
        wanted = scaler.transform(raw[split_rows(100, split)])
        np.testing.assert_allclose(data.numeric.numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize('scaling', ['minmax', 'standard'])
def test_rows_to_test_with_change_nothing(tmp_path, scaling):
    rows = table()
    clean = write(tmp_path / 'a.csv', rows)
    poisoned = [list(row) for row in rows]
    for n in [*split_rows(100, 'test'), *split_rows(100, 'val')]:
        poisoned[n][:4] = ['1e9', '-1e9', f'town{n}', f'tree{n}']
    spoilt = write(tmp_path / 'b.csv', poisoned)
    for part in ('teacher', 'student'):
        one, other = (
            TabularDataset(path, **COLUMNS, split='train', part=part, scaling=scaling)
            for path in (clean, spoilt)
        )
        assert torch.equal(one.numeric, other.numeric)
        assert torch.equal(one.categories, other.categories)
        assert one.metainfo == other.metainfo
    test = TabularDataset(spoilt, **COLUMNS, split='test', scaling=scaling)
    assert not test.categories.any() and float(test.numeric[:, 0].min()) > 1e6
    whole = TabularDataset(spoilt, **COLUMNS, split='train', scaling=scaling, fit_rows='all')
    assert float(whole.numeric.abs().max()) != float(one.numeric.abs().max())


def test_rare_words_are_unknown_and_counted_in_training_rows_alone(tmp_path):
    rows = table()
    train = split_rows(100, 'train')
    for n in train:
        rows[n][2] = 'Rome'
    for n in train[:3]:
        rows[n][2] = 'Oslo'
    for n in [*train[3:5], *split_rows(100, 'test')]:
        rows[n][2] = 'Bern'
    path = write(tmp_path / 'a.csv', rows)
    data = TabularDataset(path, **COLUMNS, split='train', min_count=3)
    towns = [{'Oslo': 2, 'Rome': 3, 'Bern': 0}[rows[n][2]] for n in train]
    assert data.categories[:, 0].tolist() == towns and data.metainfo['cardinalities'][0] == 4
    known = TabularDataset(path, **COLUMNS, split='train', min_count=2)
    assert known.metainfo['cardinalities'][0] == 5


def test_another_file_takes_the_statistics_of_the_fitted_one(tmp_path):
    train, test = table(80, 0), table(30, 1)
    test[3][2:4] = ['Lima', '']
    home = write(tmp_path / 'train.csv', train)
    # the columns have another order there
    turned = [[row[4], row[3], row[1], row[2], row[0]] for row in test]
    away = write(tmp_path / 'test.csv', turned, 'kind,tree,age,town,size')
    given = dict(COLUMNS, fit_path='train.csv', data_root=str(tmp_path), scaling='standard')
    one = TabularDataset('train.csv', **given, split=None)
    other = TabularDataset('test.csv', **given, split=None)
    assert one.metainfo == other.metainfo
    raw = [np.array([[float(each) for each in row[:2]] for row in rows]) for rows in (train, test)]
    wanted = StandardScaler().fit(raw[0]).transform(raw[1])
    np.testing.assert_allclose(other.numeric.numpy(), wanted, atol=1e-5)
    assert other.categories[3].tolist() == [0, 1]
    assert str(home) != away
    # a part of that file to train with, the other file to test with
    shares = dict(shares=(0.9, 0.1, 0.0), fit_rows='train')
    part = TabularDataset('test.csv', **given, **shares, split=None)
    scaler = StandardScaler().fit(raw[0][split_rows(80, 'train', (0.9, 0.1, 0))])
    np.testing.assert_allclose(part.numeric.numpy(), scaler.transform(raw[1]), atol=1e-5)


def test_what_is_no_number_is_0_after_the_scaling_and_an_empty_field_before(tmp_path, warnings):
    rows = [['10', 'a'], ['inf', 'b'], ['', 'a'], ['nan', 'b'], ['20', 'a'], ['-inf', 'b']]
    path = write(tmp_path / 'a.csv', rows, 'x,kind')
    data = TabularDataset(path, 'kind', ['a', 'b'], split=None)
    assert data.numeric[:, 0].tolist() == [0.5, 0, 0, 0, 1, 0]
    assert len(warnings) == 1 and '3 numbers are infinite or none' in warnings[0]
    standard = TabularDataset(path, 'kind', ['a', 'b'], split=None, scaling='standard')
    spread = np.std([10, 0, 20])
    wanted = np.array([0, 0, -10, 0, 10, 0]) / spread
    np.testing.assert_allclose(standard.numeric[:, 0].numpy(), wanted, atol=1e-6)
    assert 'categories' not in data[0]['inputs'] and data.metainfo['cardinalities'] == []


def test_a_column_without_any_finite_number_is_0(tmp_path):
    path = write(tmp_path / 'a.csv', [['nan', 'a'], ['inf', 'b']], 'x,kind')
    for scaling in ('minmax', 'standard', None):
        data = TabularDataset(path, 'kind', ['a', 'b'], split=None, scaling=scaling)
        assert data.numeric.tolist() == [[0], [0]]


def criteo(rows=40, seed=0):
    """Lines as Criteo has them, with fields that are missing."""
    draw = np.random.default_rng(seed)
    numbers = draw.integers(-2, 500, (rows, 13)).astype(str)
    words = np.vectorize('{:08x}'.format)(draw.integers(0, 6, (rows, 26)) + 0x68FD1E64)
    for block in (numbers, words):
        block[draw.random(block.shape) < 0.2] = ''
    return [[str(draw.integers(2)), *a, *b] for a, b in zip(numbers, words, strict=True)]


def test_criteo(tmp_path):
    rows = criteo()
    path = write(tmp_path / 'dac.txt', rows, header='', delimiter='\t')
    data = CriteoDataset(path, split=None)
    raw = np.array([[float(each or 0) for each in row[1:14]] for row in rows])
    wanted = MinMaxScaler().fit_transform(raw)
    np.testing.assert_allclose(data.numeric.numpy(), wanted, atol=1e-6)
    for column in range(26):
        words = sorted({row[14 + column] for row in rows} - {''})
        ids = [words.index(row[14 + column]) + 2 if row[14 + column] else 1 for row in rows]
        assert data.categories[:, column].tolist() == ids
        assert data.metainfo['cardinalities'][column] == len(words) + 2
    assert data.labels.tolist() == [int(row[0]) for row in rows]
    assert len(CriteoDataset(path, split='val', shares=(0.5, 0.25, 0.25))) == 10


@pytest.mark.parametrize('compressed', [False, True])
def test_borders_of_pieces_change_nothing(tmp_path, compressed):
    rows = criteo(200)
    path = tmp_path / 'dac.txt'
    write(path, rows, header='', delimiter='\t')
    if compressed:
        packed = tmp_path / 'dac.txt.gz'
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    layout = Layout(0, ('0', '1'), tuple(range(1, 14)), tuple(range(14, 40)), False, '\t')
    whole = read_columns(path, layout)
    longest = max(len('\t'.join(row)) for row in rows)
    for chunk in (longest + 2, 700, 1000, 4096):
        pieces = read_columns(path, layout, chunk)
        for name in ('numeric', 'codes', 'labels'):
            assert np.array_equal(getattr(pieces, name), getattr(whole, name))
        assert pieces.words == whole.words
    assert len(whole.labels) == 200


def test_quotes_blank_lines_and_marks_of_encoding(tmp_path):
    path = tmp_path / 'a.csv'
    for start in ('', '\ufeff', '\n\n', '\r\n'):
        path.write_bytes(f'{start}"the ""x""",kind\r\n\n"1","a, b"\n 2 , c \n'.encode())
        data = TabularDataset(str(path), 'kind', ['a, b', 'c'], numeric=['the "x"'], split=None)
        assert data.numeric[:, 0].tolist() == [0, 1] and data.labels.tolist() == [0, 1]


def test_what_was_read_is_kept_until_the_file_or_the_layout_changes(tmp_path, monkeypatch):
    path, folder = tmp_path / 'a.csv', tmp_path / 'kept'
    write(path, table())
    calls = []
    read = column_cache.read_columns
    monkeypatch.setattr(column_cache, 'read_columns', lambda *a: calls.append(a) or read(*a))

    def make(**given):
        return TabularDataset(str(path), **{**COLUMNS, **given}, cache_dir=str(folder))

    first, again = make(), make()
    assert len(calls) == 1 and len(list(folder.iterdir())) == 1
    assert torch.equal(first.numeric, again.numeric) and first.metainfo == again.metainfo
    assert torch.equal(first.categories, again.categories)
    make(split='test', scaling='standard', min_count=2, seed=4)
    assert len(calls) == 1
    make(categorical=['tree'], numeric=['age'])
    assert len(calls) == 2
    write(path, table(seed=1))
    os.utime(path, ns=(1, 1))
    changed = make()
    assert len(calls) == 3 and not torch.equal(changed.numeric, first.numeric)
    for each in folder.iterdir():
        each.write_bytes(each.read_bytes()[:100])
    assert torch.equal(make().numeric, changed.numeric) and len(calls) == 4
    assert torch.equal(make().numeric, changed.numeric) and len(calls) == 4


def refused(message, path, **given):
    """Expects an error."""
    with pytest.raises(UserError, match=message):
        TabularDataset(str(path), **{**COLUMNS, 'split': None, **given})


def test_mistakes_in_a_file_are_named_with_their_lines(tmp_path):
    path = tmp_path / 'a.csv'
    rows = table(60)
    wrong = [list(row) for row in rows]
    wrong[41][1] = 'old'
    write(path, wrong)
    refused(r"a.csv, line 43: 'old' in column 'age' is no number", path)
    path.write_text(path.read_text().replace('\n', '\n\n', 20))
    refused(r"a.csv, line 63: 'old' in column 'age' is no number", path)
    wrong = [list(row) for row in rows]
    wrong[41][4] = 'yess'
    write(path, wrong)
    refused(r"line 43: label 'yess' is no class .did you mean 'yes'.*\['no', 'yes', 'odd'\]", path)
    write(path, [*rows, ['1', '2'], *rows])
    refused(r'line 62: Expected 5 columns, got 2', path)
    write(path, [])
    refused('a.csv: there is no row', path)
    path.write_text('size,age,town,tree,kind')
    refused('a.csv: there is no row', path)
    path.write_text('\n\n')
    refused('a.csv: the file is empty', path)
    path.write_text('')
    refused('a.csv: the file is empty', path)
    path.write_bytes(b'size,age,town,tree,kind\n1,2,\xff,oak,no\n')
    refused('line 2: .*invalid UTF8', path)
    refused('b.csv: there is no such file', tmp_path / 'b.csv')


def test_lines_of_mistakes_are_right_beyond_the_first_piece(tmp_path):
    rows = table(60)
    rows[50][0] = 'x'
    path = tmp_path / 'a.csv'
    write(path, rows)
    layout = Layout('kind', ('no', 'yes', 'odd'), ('size',), (), True, ',')
    with pytest.raises(UserError, match="line 52: 'x' in column 'size' is no number"):
        read_columns(path, layout, 200)
    rows[50][0], rows[55][4] = '1', 'maybe'
    write(path, rows)
    with pytest.raises(UserError, match="line 57: label 'maybe' is no class"):
        read_columns(path, layout, 200)
    rows[20][2] = 'x' * 300
    write(path, rows)
    with pytest.raises(UserError, match='a.csv: a line is longer than 200 bytes'):
        read_columns(path, layout, 200)


def test_mistakes_in_a_config_are_named(tmp_path):
    path = tmp_path / 'a.csv'
    write(path, table())
    refused("no column 'knd' .did you mean 'kind'", path, label='knd')
    refused("no column 'ages' .did you mean 'age'", path, numeric=['ages'])
    refused('no column 5; it has 5', path, label=5)
    refused("'kind' is named twice", path, numeric=['size', 'kind'])
    refused("no column 'kind': header is False", path, header=False)
    refused('scaling must be .*max', path, scaling='max')
    refused("split must be one of .*'dev'", path, split='dev')
    refused('must add up to 1', path, split='val', shares=(0.5, 0.2, 0.2))
    refused("'pupil' of train", path, split='train', part='pupil')
    refused("'teacher' of test", path, split='test', part='teacher')
    refused('needs a split', path, part='teacher')
    refused('teacher_share must be between', path, split='val', part='teacher', teacher_share=1)
    refused('test of 100 rows .* is empty', path, split='test', shares=(0.9, 0.1, 0))
    refused("fit_rows must be .*'val'", path, fit_rows='val')
    write(path, table(), 'size,size,town,tree,kind')
    refused("two columns are called 'size'", path)


def test_hashed_words_have_known_cardinalities_and_rare_ones_stay_rare(tmp_path):
    path = write(tmp_path / 'a.csv', table())
    plain = TabularDataset(path, **COLUMNS, split=None)
    few = TabularDataset(path, **COLUMNS, split=None, buckets=2, min_count=1)
    assert few.metainfo['cardinalities'] == [4, 4]
    again = TabularDataset(
        write(tmp_path / 'b.csv', table()[::-1]), **COLUMNS, split=None, buckets=2
    )
    assert torch.equal(again.categories.flip(0), few.categories)
    assert set(few.categories.unique().tolist()) <= {0, 1, 2, 3}
    missing = plain.categories == 1
    assert torch.equal(few.categories == 1, missing)
    # one bucket per word of the plain ids
    for column in range(2):
        pairs = set(zip(plain.categories[:, column].tolist(), few.categories[:, column].tolist(),
                        strict=True))  # fmt: skip
        assert len(pairs) == len(plain.categories[:, column].unique())
    rare = TabularDataset(path, **COLUMNS, split=None, buckets=2, min_count=1000)
    assert set(rare.categories.unique().tolist()) <= {0, 1}
    with pytest.raises(UserError, match='buckets must be at least 1, got 0'):
        TabularDataset(path, **COLUMNS, buckets=0)
