"""Frames from CSV: no row lost, no character changed, clear errors that hold no statement."""

import re

import pandas as pd
import pytest
from frame_table_cases import RELEASED_NAMES, TRICKY, frame, released, save_csv, slots

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import ARROW, CONTEXT, SLOTS, Provenance, frame_id, statement_id
from mmkd.cobra.tables.importers import (
    read_frames_csv,
    read_own_csv,
    with_unique_ids,
    write_own_csv,
)


def load(path, **options):
    """Reads with consent."""
    return read_frames_csv(path, accept_content_warning=True, **options)


def tricky_rows():
    """Each text once in each slot; as many rows as texts."""
    return [
        slots(n, **{name: TRICKY[(n + k) % len(TRICKY)] for k, name in enumerate(CONTEXT + SLOTS)})
        for n in range(len(TRICKY))
    ]


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
def test_every_cell_is_kept_character_by_character(tmp_path, end, encoding):
    """Words for missing values, quotes, line ends and emoji, with a byte order mark and without."""
    rows = tricky_rows()
    path = save_csv(tmp_path / 'a.csv', [released(row) for row in rows], encoding, end)
    frames = load(path)
    found = [dict(statement=f.statement, **f.context(), **f.explanation()) for f in frames]
    assert found == rows
    assert [f.statement_id for f in frames] == [statement_id(row['statement']) for row in rows]
    assert [f.frame_id for f in frames] == [frame_id(row['statement'], row) for row in rows]
    assert {(f.source, f.split, f.pair_id, f.group) for f in frames} == {('a', '', None, None)}


def test_no_row_is_lost_where_a_usual_loader_loses_those_without_offence(tmp_path):
    """The control: pandas' defaults and dropna on the same file, and pandas that keeps texts."""
    rows = [slots(n, offensiveness='N/A' if n % 3 == 0 else 'praise\nindeed') for n in range(30)]
    path = save_csv(tmp_path / 'a.csv', [released(row) for row in rows])
    frames = load(path)
    assert len(frames) == 30 and path.read_text().count('\n') == 1 + 30 + 20
    lossy = pd.read_csv(path).dropna()
    assert len(lossy) == 20 and set(lossy.offensiveness) == {'praise\nindeed'}
    kept = pd.read_csv(path, keep_default_na=False, na_filter=False)
    assert kept.offensiveness.tolist() == [f.offensiveness for f in frames]


def test_both_spellings_make_the_same_table(tmp_path):
    """And columns may be in any order; what a frame has no place for is in extra, unchanged."""
    rows = [released(row, group='readers', id='07', examples='N/A\n"x"') for row in tricky_rows()]
    one = load(save_csv(tmp_path / 'one.csv', rows), source='s')
    other = [
        {'speechContext' if k == 'situationalContext' else k: row[k] for k in reversed(row)}
        for row in rows
    ]
    assert load(save_csv(tmp_path / 'two.csv', other), source='s') == one
    assert all(f.extra == {'id': '07', 'examples': 'N/A\n"x"'} for f in one)
    assert {(f.source, f.group) for f in one} == {('s', 'readers')}


def test_group_column(tmp_path):
    """Another one may be named, and must be there then; an empty cell tells no group."""
    rows = [released(slots(n), team=team) for n, team in enumerate(['N/A', ''])]
    path = save_csv(tmp_path / 'a.csv', rows)
    assert [f.group for f in load(path, group_column='team')] == ['N/A', None]
    assert load(path)[0].extra == dict(team='N/A')
    said = r"a.csv: has no column tem \(did you mean 'team'\?\); correct group_column"
    with pytest.raises(UserError, match=said):
        load(path, group_column='tem')


def test_labels(tmp_path):
    """All ways to write them; moreOff_majority comes before its like."""
    cells = {'': None, '-1': -1, '-1.0': -1, '0': 0, '0.0': 0, '1': 1, '1.0': 1}
    rows = [
        released(
            slots(n),
            moreOff_allapp='0',
            offensive_majority=cell,
            offensive_allapp='1.0',
            moreOff_majority=cell,
        )
        for n, cell in enumerate(cells)
    ]
    frames = load(save_csv(tmp_path / 'a.csv', rows))
    assert [f.label_majority for f in frames] == list(cells.values())
    assert [f.more_offensive for f in frames] == list(cells.values())
    assert {f.label_all for f in frames} == {1}
    assert all(f.extra == dict(moreOff_allapp='0') for f in frames)
    only = [released(slots(), moreOff_allapp='-1.0')]
    (f,) = load(save_csv(tmp_path / 'b.csv', only))
    assert (f.label_majority, f.label_all, f.more_offensive, f.extra) == (None, None, -1, {})


@pytest.mark.parametrize(
    ('cell', 'shown'),
    [('2', "'2'"), ('nan', "'nan'"), (' 1', "' 1'"), ('A good report.', 'a text of 14 characters')],
)
@pytest.mark.parametrize('column', ['offensive_majority', 'offensive_allapp', 'moreOff_x'])
def test_a_wrong_label_is_placed(tmp_path, cell, shown, column):
    """File, line, column and value; lines are those of the file, whatever cells hold."""
    rows = [released(slots(intent='two\nlines'), **{column: '1'})]
    rows.append(released(slots(), **{column: cell}))
    path = save_csv(tmp_path / 'a.csv', rows)
    said = f'a.csv:4: {column} must be -1, 0, 1 or empty, got {shown}'
    with pytest.raises(UserError, match=re.escape(said) + '$'):
        load(path)


def test_repeated_frames_have_their_own_ids(tmp_path):
    """Numbers in the order of rows; another explanation makes no other frame."""
    rows = [released(slots(n, intent=f'{k}')) for k, n in enumerate([0, 1, 0, 0, 1])]
    frames = load(save_csv(tmp_path / 'a.csv', rows))
    zero, one = (frame_id(slots(n)['statement'], slots(n)) for n in range(2))
    expected = [zero, one, f'{zero}#2', f'{zero}#3', f'{one}#2']
    assert [f.frame_id for f in frames] == expected
    assert [f.intent for f in frames] == list('01234')
    assert with_unique_ids(frames) == frames
    joined = [f.frame_id for f in with_unique_ids(frames + frames)]
    assert joined[:5] == expected and len(set(joined)) == 10
    assert joined[5] == f'{zero}#4'


@pytest.mark.parametrize('accepted', [False, None, 'no', 1])
@pytest.mark.parametrize('read', [read_frames_csv, read_own_csv])
def test_consent_is_needed_before_anything_is_read(tmp_path, read, accepted):
    """Nothing but True will do; the message tells what the data hold and how to go on."""
    said = 'offensive and hateful statements.*accept_content_warning=True'
    with pytest.raises(UserError, match=said):
        read(tmp_path / 'none.csv', accept_content_warning=accepted)


def renamed(row, old, new):
    """The row with another name of a column."""
    return {new if key == old else key: cell for key, cell in row.items()}


@pytest.mark.parametrize('name', ['statement', *CONTEXT, *SLOTS])
def test_each_missing_column_is_named_with_its_like(tmp_path, name):
    """Of statement, context and explanation."""
    column = RELEASED_NAMES[name]
    path = save_csv(tmp_path / 'a.csv', [renamed(released(slots()), column, column + 's')])
    said = rf"a.csv: has no column {column}( or speechContext)? \(did you mean '{column}s'.*rename"
    with pytest.raises(UserError, match=said):
        load(path)


def test_frames_without_any_explanation_are_fine(tmp_path):
    """A file of statements in contexts has none of the seven columns."""
    row = {k: v for k, v in slots().items() if k not in SLOTS}
    (f,) = load(save_csv(tmp_path / 'a.csv', [released(row)]))
    assert f.missing() == SLOTS and not f.missing(CONTEXT)


NAMES = ','.join(RELEASED_NAMES.values())
CELLS = ','.join(f'c{n}' for n in range(11))


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (f'{NAMES},x,x\n{CELLS},1,2\n', "a.csv: 'x' names two columns"),
        (f'{NAMES},intent\n{CELLS},1\n', "a.csv: 'intent' names two columns"),
        (
            f'{NAMES},speechContext\n{CELLS},1\n',
            'a.csv: columns situationalContext and speechContext are both the situation',
        ),
        (f'{NAMES}\n{CELLS}\n"x\ny",{CELLS}\n', 'a.csv:3: has 12 cells, the header has 11'),
        (f'{NAMES}\n\n{CELLS[:-4]}\n', 'a.csv:3: has 10 cells, the header has 11'),
        (f'{NAMES}\n{CELLS}\n{CELLS[:-3]},"open\n{CELLS}\n', 'a.csv:3: is no record of CSV'),
        (f'{NAMES}\n"a"b,{CELLS[3:]}\n', 'a.csv:2: is no record of CSV'),
        ('', 'a.csv: is empty'),
    ],
)
def test_malformed_files(tmp_path, content, said):
    """What is wrong, and where."""
    path = tmp_path / 'a.csv'
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(said)):
        load(path)


def test_not_utf8_and_no_file(tmp_path):
    """The line of the first byte that is wrong."""
    path = tmp_path / 'a.csv'
    path.write_bytes(f'{NAMES}\n{CELLS}\n'.encode() + f'é{CELLS}'.encode('latin-1'))
    with pytest.raises(UserError, match='a.csv:3: is not UTF-8'):
        load(path)
    with pytest.raises(UserError, match='b.csv: there is no such file'):
        load(tmp_path / 'b.csv')


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_blank_lines_are_no_rows(tmp_path, end):
    """Before, between and after rows, whatever ends a line."""
    path = tmp_path / 'a.csv'
    path.write_bytes(end.join(['', NAMES, '', CELLS, '', '']).encode())
    assert [f.intent for f in load(path)] == ['c4']


def test_our_own_columns_give_back_every_frame(tmp_path):
    """All fields of it, whatever the texts are."""
    frames = [
        frame(
            n,
            **dict(zip(SLOTS, TRICKY[n:] + TRICKY[:n], strict=False)),
            offensive_bin=[None, 0, 1][n % 3],
            label_majority=[None, -1, 0, 1][n % 4],
            pair_id=[None, 'a\rb'][n % 2],
            side=[None, 'B'][n % 2],
            group=[None, 'None'][n % 2],
            provenance=Provenance(model=TRICKY[n], attempts=n),
            extra={TRICKY[n]: TRICKY[-n], 'a': 'a\rb'},
            frame_id=f'f{n}',
            source='s',
            split='val',
        )
        for n in range(len(TRICKY))
    ]
    write_own_csv(tmp_path / 'a.csv', frames)
    assert read_own_csv(tmp_path / 'a.csv', accept_content_warning=True) == frames
    assert [each.name for each in tmp_path.iterdir()] == ['a.csv']


def test_own_columns_that_are_missing_take_defaults(tmp_path):
    """Ids are made, unknown columns kept, and the rest is as in a new frame."""
    rows = [slots(0, colour='N/A'), slots(0, colour='')]
    path = save_csv(tmp_path / 'a.csv', rows)
    one, two = read_own_csv(path, accept_content_warning=True)
    texts = {name: text for name, text in slots().items() if name != 'situation'}
    expected = frame(0, situation=slots()['situation'], **texts, source='a')
    assert one == expected.model_copy(update=dict(extra=dict(colour='N/A')))
    assert two.frame_id == f'{one.frame_id}#2' and two.extra == dict(colour='')
    path = save_csv(tmp_path / 'b.csv', [dict(slots(), source='there')])
    assert [f.source for f in read_own_csv(path, accept_content_warning=True)] == ['there']
    again = read_own_csv(path, source='here', accept_content_warning=True)
    assert [f.source for f in again] == ['here']


@pytest.mark.parametrize(
    ('more', 'said'),
    [
        (dict(side='C'), "a.csv:2: no frame: side: Input should be 'A' or 'B'"),
        (dict(offensive_bin='-1'), 'a.csv:2: no frame: offensive_bin: Input should be 0 or 1'),
        (dict(label_all='x'), "a.csv:2: label_all must be -1, 0, 1 or empty, got 'x'"),
        (dict(extra='{'), 'a.csv:2: extra must be JSON'),
        (dict(extra='[]'), 'a.csv:2: no frame: extra: Input should be a valid dictionary'),
        (dict(provenance_attempts='x'), 'a.csv:2: no frame: attempts'),
    ],
)
def test_wrong_values_of_our_own_columns(tmp_path, more, said):
    """Named with their place."""
    path = save_csv(tmp_path / 'a.csv', [slots() | more])
    with pytest.raises(UserError, match=re.escape(said)):
        read_own_csv(path, accept_content_warning=True)
    assert set(more) <= set(ARROW.names)


def test_wrong_files_name_no_text(tmp_path):
    """A file without a header is data from its first line on."""
    path = tmp_path / 'a.csv'
    path.write_text('A canary of praise.,A canary of praise.,x\n')
    with pytest.raises(UserError) as caught:
        load(path)
    assert 'has no column statement' in str(caught.value) and 'canary' not in str(caught.value)
