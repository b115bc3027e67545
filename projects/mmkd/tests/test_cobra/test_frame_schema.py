"""Frames keep every text as it is, whatever it looks like."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mmkd.cobra.schema import (
    ARROW,
    CONTEXT,
    SLOTS,
    Frame,
    frame_id,
    from_columns,
    statement_id,
    to_columns,
)
from mmkd.traces.schema import read_record

TRICKY = [
    'None',
    'N/A',
    'none',
    'null',
    'NaN',
    '',
    ' ',
    '"',
    "a, 'b'\n\n\tc\r\n",
    '🙂é',
    'Q: x A: y',
]
text = st.one_of(st.sampled_from(TRICKY), st.text(max_size=20).filter(lambda s: s.isprintable()))


def frame_of(values: dict[str, str], **others: object) -> Frame:
    """A frame with these slots."""
    return Frame(frame_id='f', statement_id='s', statement='Well done.', **values, **others)


def test_the_order_of_slots_is_fixed() -> None:
    """Prompts, targets and parsers rely on it."""
    assert CONTEXT == ('situation', 'speaker', 'listener')
    assert SLOTS == (
        'intent',
        'target_group',
        'power',
        'implication',
        'emotional',
        'cognitive',
        'offensiveness',
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(text, min_size=10, max_size=10), st.sampled_from([None, -1, 0, 1]), text)
def test_json_and_parquet_give_back_every_character(values, label, other) -> None:
    """Words that table readers take for missing values, quotes and line ends among them."""
    frame = frame_of(
        dict(zip(CONTEXT + SLOTS, values, strict=True)),
        label_majority=label,
        pair_id=None if label is None else other,
        extra={'column of theirs': other},
    )
    assert read_record(Frame, frame.model_dump_json(), 'here') == frame
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([to_columns(frame)], ARROW), file)
    table = pq.read_table(file)
    assert table.schema.metadata[b'mmkd.frames'] == b'1'
    assert from_columns(table.to_pylist()[0]) == frame


def test_every_field_has_a_column() -> None:
    """None is forgotten when one is added."""
    row = to_columns(frame_of({}))
    assert sorted(row) == sorted(ARROW.names)


def test_ids_tell_statements_and_contexts_apart() -> None:
    """One slot is enough, and text cannot wander from one slot to the next."""
    context = dict(situation='at work', speaker='a', listener='b')
    ids = {frame_id('Well done.', context), frame_id('Well done!', context)}
    ids |= {frame_id('Well done.', {**context, name: 'other'}) for name in CONTEXT}
    ids.add(frame_id('Well done.', dict(situation='at worka', speaker='', listener='b')))
    assert len(ids) == 6
    assert statement_id('a') != statement_id('A')


def test_missing_slots_are_named() -> None:
    """White space is nothing; the word none is an answer."""
    frame = frame_of(dict.fromkeys(SLOTS, 'x') | dict(power=' \n', offensiveness='none'))
    assert frame.missing() == ('power',)
    assert frame.missing(CONTEXT) == CONTEXT


@pytest.mark.parametrize('key', [dict(label_all=2), dict(side='C'), dict(colour='red')])
def test_what_no_frame_has_is_refused(key) -> None:
    """Values out of range, and unknown keys."""
    with pytest.raises(ValidationError):
        frame_of({}, **key)
