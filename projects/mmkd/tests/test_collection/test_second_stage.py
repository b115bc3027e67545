"""Draws of the second stage: exact, of the answered questions, the same for rows in any order."""

import pytest
from collection_fakes import some_traces

from mmdistill.core.errors import UserError
from mmkd.collection.journal import encoded
from mmkd.collection.stage_two import select_queries
from mmkd.traces.schema import Query

TRACES = [
    *some_traces(80),
    *some_traces(10, first=80, status='failed'),
    *some_traces(10, first=90, answer='', finish_reason='length'),
]


def draw(folder, traces, count, seed, files=2):
    """Questions that are drawn from some files of rows."""
    folder.mkdir()
    for number in range(files):
        path = folder / f'traces-{number:05d}.jsonl'
        path.write_bytes(b''.join(encoded(each) for each in traces[number::files]))
    select_queries(folder, count, seed, folder / 'queries' / 'drawn.jsonl')
    lines = (folder / 'queries' / 'drawn.jsonl').read_text().splitlines()
    return [Query.model_validate_json(each) for each in lines]


def test_exact_part_of_the_answered_questions(tmp_path):
    drawn = draw(tmp_path / 'a', TRACES, 30, 0)
    answered = {each.query_key: each for each in TRACES if each.status == 'ok'}
    assert len(answered) == 80 and len({each.query_key for each in drawn}) == len(drawn) == 30
    for query in drawn:
        source = answered[query.query_key]
        assert all(getattr(source, name) == value for name, value in query)


def test_same_draw_for_rows_in_any_order_and_files(tmp_path):
    one = draw(tmp_path / 'a', TRACES, 30, 0)
    assert draw(tmp_path / 'b', TRACES[::-1], 30, 0, files=5) == one
    assert draw(tmp_path / 'c', TRACES, 12, 0) == one[:12], 'a smaller draw is a part'
    assert draw(tmp_path / 'd', TRACES, 30, 1) != one
    assert len(draw(tmp_path / 'e', TRACES, 80, 0)) == 80


def test_several_answers_to_a_question_do_not_favour_it(tmp_path):
    twice = [each.model_copy(update=dict(row_key='f' * 32, sample_index=1)) for each in TRACES[:40]]
    assert draw(tmp_path / 'a', [*TRACES, *twice], 30, 0) == draw(tmp_path / 'b', TRACES, 30, 0)


def test_draws_are_uniform(tmp_path):
    """Of 20 questions 5 are drawn by 60 seeds: 15 each, with a deviation of about 3.4."""
    path = tmp_path / 'traces-00000.jsonl'
    path.write_bytes(b''.join(encoded(each) for each in some_traces(20)))
    counts = dict.fromkeys((each.user_text for each in some_traces(20)), 0)
    for seed in range(60):
        select_queries(tmp_path, 5, seed, tmp_path / 'out')
        for line in (tmp_path / 'out').read_text().splitlines():
            counts[Query.model_validate_json(line).user_text] += 1
    assert sum(counts.values()) == 300 and 3 < min(counts.values()) <= max(counts.values()) < 28


def test_too_few_answers_and_no_run(tmp_path):
    with pytest.raises(
        UserError, match='81 questions are wanted, 80 have an answer with status ok'
    ):
        draw(tmp_path / 'a', TRACES, 81, 0)
    assert not (tmp_path / 'a' / 'queries').exists()
    with pytest.raises(UserError, match='no traces of a first stage'):
        select_queries(tmp_path / 'none', 1, 0, tmp_path / 'out')
