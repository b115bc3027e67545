"""Recorded traces answer what was asked, and nothing else."""

import asyncio

import pytest

from mmdistill.core.errors import UserError
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.teachers.replay import ReplayTeacher
from mmkd.traces.schema import Query, Sampling, Trace, Usage, row_key

ASKED = Sampling(temperature=0.5, max_tokens=9)
QUERY = Query(source_uid='u1', system_text='be kind', user_text='why?')


def trace(query=QUERY, teacher='big', sampling=ASKED, index=0, **values):
    """A trace with its key."""
    key = row_key(query, teacher, sampling, index)
    given = dict(row_key=key, teacher=teacher, sampling=sampling, sample_index=index)
    return Trace(**query.model_dump(), **given, **values)


@pytest.fixture
def record(tmp_path):
    """Writes traces to a file."""

    def write(*traces):
        path = tmp_path / 'traces.jsonl'
        path.write_text('\n'.join(each.model_dump_json() for each in traces) + '\n\n')
        return str(path)

    return write


def replies(teacher, *asked):
    """Replies to (messages, sampling), one after the other."""

    async def work():
        async with teacher:
            return [await teacher.agenerate(*each) for each in asked]

    return asyncio.run(work())


def test_the_answer_of_then(record):
    usage = Usage(prompt=3, completion=4, total=7)
    values = dict(usage=usage, attempts=2, latency_ms=5, endpoint_id='west')
    path = record(trace(response_text='so', finish_reason='stop', **values))
    teacher = TEACHERS.build(dict(type='ReplayTeacher', jsonl=path))
    assert (teacher.name, teacher.concurrency) == ('big', 8)
    (reply,) = replies(teacher, (QUERY.messages(), ASKED))
    assert reply == Reply('so', 'stop', usage, 2, 5, 'west', 'ok', '')
    # the same key goes into the row that it makes now
    assert row_key(QUERY, teacher.name, ASKED) == trace().row_key


def test_what_was_not_asked_is_not_answered(record):
    teacher = ReplayTeacher(record(trace(response_text='so')))
    other = QUERY.model_copy(update=dict(user_text='who?'))
    bare = QUERY.model_copy(update=dict(system_text=''))
    dialogue = [*QUERY.messages(), dict(role='user', content='why?')]
    found = replies(
        teacher,
        (other.messages(), ASKED),
        (bare.messages(), ASKED),
        (QUERY.messages(), Sampling()),
        (dialogue, ASKED),
    )
    assert [each.status for each in found] == ['failed'] * 4
    assert row_key(other, 'big', ASKED) in found[0].error and found[3].error.startswith('replay')


def test_samples_in_their_order_and_anew(record):
    path = record(*(trace(index=n, response_text=f's{n}') for n in (1, 0, 2)))
    teacher = ReplayTeacher(path)
    for _ in range(2):
        found = replies(teacher, *[(QUERY.messages(), ASKED)] * 5)
        assert [each.text for each in found] == ['s0', 's1', 's2', 's0', 's1']


def test_statuses_are_judged_anew_but_for_those_without_answer(record):
    statuses = ['truncated', 'refused', 'empty', 'filtered:length', 'too_long', 'failed']
    queries = [QUERY.model_copy(update=dict(user_text=each)) for each in statuses]
    path = record(*(trace(q, status=s, error='e') for q, s in zip(queries, statuses, strict=True)))
    found = replies(ReplayTeacher(path), *((each.messages(), ASKED) for each in queries))
    assert [each.status for each in found] == ['ok'] * 4 + ['too_long', 'failed']
    assert [each.error for each in found] == [''] * 4 + ['e'] * 2


def test_files_that_will_not_do(record, tmp_path):
    with pytest.raises(UserError, match='nowhere.jsonl: there is no such file'):
        ReplayTeacher('nowhere.jsonl')
    path = record(trace(), trace(teacher='small'))
    with pytest.raises(UserError, match=r"\['big', 'small'\]: give one of them as name"):
        ReplayTeacher(path)
    with pytest.raises(UserError, match="no traces of 'tiny'"):
        ReplayTeacher(path, name='tiny')
    assert ReplayTeacher(path, name='small').name == 'small'
    (tmp_path / 'bad.jsonl').write_text(trace().model_dump_json() + '\n{}\n')
    with pytest.raises(UserError, match='bad.jsonl, line 2: no trace'):
        ReplayTeacher(str(tmp_path / 'bad.jsonl'))
