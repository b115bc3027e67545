"""Tables of frames: whole files, every character, and clear errors for others."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frame_table_cases import TRICKY, frame

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import ARROW, CONTEXT, SLOTS, Provenance, to_columns
from mmkd.cobra.tables import table as tables
from mmkd.cobra.tables.table import read_frames, read_frames_metadata, write_frames


def some():
    """Frames with each tricky text in each slot, and with all fields."""
    names = CONTEXT + SLOTS
    return [
        frame(
            n,
            **{name: TRICKY[(n + k) % len(TRICKY)] for k, name in enumerate(names)},
            label_all=[None, -1, 0, 1][n % 4],
            group=[None, '', 'N/A'][n % 3],
            provenance=Provenance(model='m', attempts=n),
            extra={TRICKY[n]: TRICKY[-n]},
        )
        for n in range(len(TRICKY))
    ]


@pytest.mark.parametrize('rows', [5, 4096])
def test_parquet_gives_back_every_frame_in_order(tmp_path, monkeypatch, rows):
    """In one row group and in several."""
    monkeypatch.setattr(tables, 'GROUP', rows)
    path, frames = tmp_path / 'new' / 'a.parquet', some()[::-1]
    write_frames(path, frames, dict(seed=3, note='é'))
    assert read_frames(path) == frames
    assert read_frames_metadata(path) == dict(seed=3, note='é')
    assert os.listdir(path.parent) == ['a.parquet']
    assert pq.ParquetFile(path).num_row_groups == -(-len(frames) // rows)
    write_frames(tmp_path / 'b.parquet', frames, dict(note='é', seed=3))
    assert (tmp_path / 'b.parquet').read_bytes() == path.read_bytes()


def test_a_table_of_nothing(tmp_path):
    """Has its columns, and no metadata where none are given."""
    write_frames(tmp_path / 'a.parquet', [])
    assert read_frames(tmp_path / 'a.parquet') == []
    assert read_frames_metadata(tmp_path / 'a.parquet') == {}


def test_json_lines(tmp_path):
    """The same frames; blank lines are none."""
    path = tmp_path / 'a.jsonl'
    path.write_text('\n'.join(f.model_dump_json() + '\n' for f in some()), 'utf-8')
    assert read_frames(path) == some()
    path.write_text(path.read_text('utf-8') + '{"frame_id": "x"}\n', 'utf-8')
    with pytest.raises(UserError, match=r'a.jsonl:24: no frame: statement_id: Field required'):
        read_frames(path)


def test_one_id_twice_is_refused(tmp_path):
    """In writing, where the old file stays, and in reading."""
    path, frames = tmp_path / 'a.parquet', some()
    path.write_text('old')
    twice = [*frames, frames[2]]
    said = f'frames 3 and {len(twice)} have the same frame_id {frames[2].frame_id}'
    with pytest.raises(UserError, match=f'a.parquet: {said}'):
        write_frames(path, twice)
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a.parquet']
    lines = tmp_path / 'a.jsonl'
    lines.write_text(''.join(f.model_dump_json() + '\n' for f in twice), 'utf-8')
    with pytest.raises(UserError, match=f'a.jsonl: {said}'):
        read_frames(lines)


def test_what_fails_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    """After some rows."""
    path, frames = tmp_path / 'a.parquet', some()
    write_frames(path, frames[:3])
    monkeypatch.setattr(tables, 'GROUP', 2)
    calls = iter([to_columns] * 5)
    monkeypatch.setattr(tables, 'to_columns', lambda each: next(calls)(each))
    with pytest.raises(StopIteration):
        write_frames(path, frames)
    assert read_frames(path) == frames[:3] and os.listdir(tmp_path) == ['a.parquet']


def saved(path, change=lambda table: table, **columns):
    """A Parquet file of a frame whose columns are changed."""
    row = to_columns(frame()) | columns
    pq.write_table(change(pa.Table.from_pylist([row], ARROW)), path)


OTHER_VERSION = ARROW.metadata | {b'mmkd.frames': b'2'}


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda t: t.replace_schema_metadata(OTHER_VERSION), 'has version 2 .* reads version 1'),
        (lambda t: t.replace_schema_metadata({}), 'is no table of frames; make it with'),
        (lambda t: t.drop_columns(['power', 'side']), 'has no column power, side$'),
        (lambda t: t.append_column('x', [['a']]), 'has unknown columns x$'),
        (
            lambda t: t.drop_columns(['frame_id']).append_column('id', [['a']]),
            'has no column frame_id and has unknown columns id$',
        ),
        (
            lambda t: t.set_column(0, t.column_names[0], pa.array([1])),
            f'column {ARROW.names[0]} must be string, got int64',
        ),
    ],
)
def test_other_columns(tmp_path, change, said):
    """Version, names and types; metadata are not read from such a file either."""
    path = tmp_path / 'a.parquet'
    saved(path)
    assert read_frames(path) == [frame()]
    saved(path, change)
    for read in (read_frames, read_frames_metadata):
        with pytest.raises(UserError, match=f'a.parquet: {said}'):
            read(path)


@pytest.mark.parametrize(
    ('columns', 'said'),
    [
        (dict(label_all=7), 'no frame: label_all: Input should be -1, 0 or 1'),
        (dict(power=None), 'no frame: power: Input should be a valid string'),
        (dict(extra='{'), 'no frame: extra must be JSON'),
        (dict(extra=None), 'no frame: extra must be JSON'),
        (dict(extra='[]'), 'no frame: extra: Input should be a valid dictionary'),
    ],
)
def test_malformed_rows(tmp_path, columns, said):
    """Their number, and what is wrong; no text of them."""
    path = tmp_path / 'a.parquet'
    saved(path, **columns)
    with pytest.raises(UserError, match=f'a.parquet:1: {said}') as caught:
        read_frames(path)
    assert frame().statement not in str(caught.value)


def test_other_files(tmp_path):
    """None at all, and those of another kind."""
    for name in ('a.parquet', 'a.jsonl'):
        with pytest.raises(UserError, match=f'{name}: there is no such file'):
            read_frames(tmp_path / name)
    (tmp_path / 'a.parquet').write_text('no')
    (tmp_path / 'a.csv').write_text('no')
    with pytest.raises(UserError, match='a.parquet: no Parquet file'):
        read_frames(tmp_path / 'a.parquet')
    with pytest.raises(UserError, match='a.csv: must end in .parquet or .jsonl'):
        read_frames(tmp_path / 'a.csv')
    with pytest.raises(UserError, match='b.csv: must end in .parquet'):
        write_frames(tmp_path / 'b.csv', some())
