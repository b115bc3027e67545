"""The collector in one process: statuses, bounds, errors that lose nothing, and progress."""

import asyncio

import pytest
from collection_fakes import SAMPLING, FakeTeacher, rows_of, some_queries

from mmdistill.core.errors import UserError
from mmkd.collection import collector as collecting
from mmkd.collection.answers import Job, jobs, status_of, trace_of
from mmkd.collection.collector import GROUP, Collector
from mmkd.collection.journal import Journal
from mmkd.collection.progress import Prices, Progress, duration
from mmkd.collection.shards import Shard
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Usage, row_key


def collect(teacher, queries, folder, say=lambda line: None, journal=None):
    """Collects without a run directory."""
    left = jobs(queries, teacher.name, SAMPLING, 1, Shard(), set())
    with journal or Journal(folder / 'traces-00000.jsonl') as open_journal:
        collector = Collector(teacher, SAMPLING, open_journal, Progress(0), say=say)
        return asyncio.run(collector.run(left)), collector


@pytest.mark.parametrize(
    'reply, status',
    [
        (dict(text='yes', finish_reason='stop'), 'ok'),
        (dict(text='yes'), 'ok'),
        (dict(text='yes', finish_reason='length'), 'truncated'),
        (dict(text=' \n', finish_reason='stop'), 'empty'),
        (dict(text='', finish_reason='length'), 'empty'),
        (dict(status='failed', error='x'), 'failed'),
        (dict(status='too_long'), 'too_long'),
        (dict(text='half', finish_reason='length', status='failed'), 'failed'),
    ],
)
def test_status(reply, status):
    assert status_of(Reply(**reply)) == status


def test_half_a_pair_of_surrogates_can_be_kept():
    query = some_queries(1)[0]
    reply = Reply(text='a\ud83d b \ud83d\ude00 é', error='x\ny\udc00')
    trace = trace_of(Job('0' * 32, query), 't', SAMPLING, reply)
    assert trace.response_text == 'a\ufffd b \U0001f600 é' and trace.error == 'x y\ufffd'
    assert type(trace).model_validate_json(trace.model_dump_json()) == trace


def test_questions_are_read_as_they_are_asked_and_side_by_side(tmp_path):
    """No more than what is under way and waits for it is taken from a stream of questions."""
    taken, ahead = [], []
    teacher = FakeTeacher(concurrency=5, seconds=0.001)
    teacher.answer = lambda text: ahead.append(len(taken) - len(teacher.asked)) or 'yes'

    def stream():
        for query in some_queries(500):
            taken.append(query)
            yield query

    reason, _ = collect(teacher, stream(), tmp_path)
    assert reason == 'done' and len(rows_of(tmp_path)) == 500
    assert teacher.busiest == 5 and max(ahead) <= 2 * 5 + 1


def test_rows_that_wait_for_the_disk_are_bounded(tmp_path, monkeypatch):
    teacher, waiting, groups = FakeTeacher(concurrency=10), [], []
    journal = Journal(tmp_path / 'traces-00000.jsonl')
    append = journal.append

    def slow(rows):
        append(rows)
        groups.append(len(rows))

    def answer(text):
        waiting.append(len(teacher.asked) - sum(groups))
        return 'yes'

    teacher.answer = answer
    monkeypatch.setattr(journal, 'append', slow)
    collect(teacher, some_queries(1000), tmp_path, journal=journal)
    assert max(groups) == GROUP and sum(groups) == 1000
    assert max(waiting) <= 10 + GROUP, 'calls that are not yet kept'
    assert len(groups) < 40, 'commits are made in groups'


def test_a_row_does_not_wait_long_for_others(tmp_path):
    seen = []

    def answer(text):
        seen.append(len(rows_of(tmp_path)))
        return 'yes'

    collect(FakeTeacher(concurrency=1, seconds=0.25, answer=answer), some_queries(5), tmp_path)
    assert seen[-1] >= 2


def test_what_came_in_is_kept_when_a_teacher_gives_up(tmp_path):
    def answer(text):
        if text == 'question 30':
            raise UserError('the key is not accepted')
        return 'yes'

    teacher = FakeTeacher(answer=answer)
    with pytest.raises(UserError, match='^the key is not accepted$'):
        collect(teacher, some_queries(1000), tmp_path)
    assert 30 - 4 <= len(rows_of(tmp_path)) <= len(teacher.asked) < 50


def test_answers_that_wait_for_room_are_kept_too(tmp_path):
    answered = []

    def answer(text):
        if text == 'question 90':
            raise UserError('no more')
        answered.append(text)
        return 'yes'

    with pytest.raises(UserError, match='no more'):
        collect(FakeTeacher(concurrency=100, answer=answer), some_queries(200), tmp_path)
    assert len(answered) > GROUP
    assert sorted(each.user_text for each in rows_of(tmp_path)) == sorted(answered)


def test_a_bug_of_a_teacher_or_of_questions_ends_it_too(tmp_path):
    def broken():
        yield from some_queries(10)
        raise UserError('queries.jsonl:11: no query')

    with pytest.raises(UserError, match='queries.jsonl:11'):
        collect(FakeTeacher(), broken(), tmp_path)
    teacher = FakeTeacher(answer=lambda text: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        collect(teacher, some_queries(10), tmp_path)


def test_a_full_disk_ends_it_with_one_error(tmp_path, monkeypatch):
    journal = Journal(tmp_path / 'traces-00000.jsonl')
    append, groups = journal.append, []

    def full(rows):
        if groups:
            raise UserError('the disk is full')
        groups.append(rows)
        append(rows)

    monkeypatch.setattr(journal, 'append', full)
    teacher = FakeTeacher()
    with pytest.raises(UserError, match='^the disk is full$'):
        collect(teacher, some_queries(10_000), tmp_path, journal=journal)
    assert len(rows_of(tmp_path)) == len(groups[0]) and len(teacher.asked) < 300


def test_progress_is_told_now_and_then_and_a_closed_pipe_is_no_end(tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, 'REPORT_SECONDS', 0.1)
    lines = []

    def say(line):
        lines.append(line)
        if len(lines) > 1:
            raise BrokenPipeError

    reason, _ = collect(FakeTeacher(seconds=0.05), some_queries(40), tmp_path, say)
    assert reason == 'done' and len(rows_of(tmp_path)) == 40 and len(lines) == 2


def test_what_a_shard_has_to_do():
    queries = some_queries(300)
    every = {row_key(each, 'fake', SAMPLING, n) for each in queries for n in range(2)}
    parts = [list(jobs(queries, 'fake', SAMPLING, 2, Shard(n, 3), set())) for n in range(3)]
    keys = [[job.key for job in part if job] for part in parts]
    assert sorted(sum(keys, [])) == sorted(every)
    assert all(
        part.count(None) == (600 - len(own)) // 64 for part, own in zip(parts, keys, strict=True)
    )
    job = parts[0][0]
    assert job.key == row_key(job.query, 'fake', SAMPLING, job.sample_index)


def test_progress_counts_rows_tokens_time_and_cost():
    now = [100.0]
    progress = Progress(100, Prices(prompt=10, completion=20), clock=lambda: now[0])
    job = Job('0' * 32, some_queries(1)[0])

    def make(**reply):
        return trace_of(job, 't', SAMPLING, Reply(**reply))

    progress.found(make(text='old', usage=Usage(prompt=100, completion=50)))
    now[0] = 200.0
    progress.begin()
    for _ in range(9):
        progress.added(make(text='new', usage=Usage(prompt=200, completion=100)))
    progress.added(make(status='failed'))
    now[0] = 220.0
    summary = progress.summary()
    assert summary['rows'] == 11 and summary['new'] == 10 and summary['total'] == 100
    assert summary['statuses'] == dict(failed=1, ok=10)
    assert summary['tokens'] == dict(prompt=1900, completion=950)
    assert summary['cost'] == pytest.approx(1.9 * 10 + 0.95 * 20)
    assert summary['rows_per_second'] == 0.5 and summary['seconds'] == 20
    assert progress.line() == (
        '11 of 100 rows (11.0%), 0.5 rows/s, 2 m 58 s left, 1,900 + 950 tokens, cost 38.00: '
        '1 failed, 10 ok'
    )


def test_prices_of_endpoints_come_first():
    progress = Progress(1, Prices(prompt=1), {'dear': Prices(completion=1000)})
    query, usage = some_queries(1)[0], Usage(prompt=1000, completion=2)
    for name, price in (('dear', 2.0), ('other', 1.0)):
        reply = Reply(text='x', usage=usage, endpoint_id=name)
        assert progress.price_of(trace_of(Job('0' * 32, query), 't', SAMPLING, reply)) == price


@pytest.mark.parametrize(
    'seconds, text',
    [(0.4, '0 s'), (59.4, '59 s'), (61, '1 m 01 s'), (7500, '2 h 05 m'), (273600, '3 d 04 h')],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
