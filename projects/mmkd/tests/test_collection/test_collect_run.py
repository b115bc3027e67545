"""Starts of a run: nothing is asked twice, shards share, stages, limits, and what is refused."""

import json

import pytest
from collection_fakes import (
    SAMPLING,
    FakeTeacher,
    read_json,
    rows_of,
    some_queries,
    some_traces,
    write_queries,
)

from mmdistill.core.errors import UserError
from mmkd.collection import run
from mmkd.collection.journal import Journal, encoded
from mmkd.collection.manifest import NAME
from mmkd.collection.plan import Plan
from mmkd.collection.run import collect_shard
from mmkd.collection.shards import Shard, parse_shard, shard_files
from mmkd.teachers.base import Reply
from mmkd.traces.schema import row_key


@pytest.fixture
def teachers(monkeypatch):
    """All teachers that runs have built; ``answer`` is what they answer by."""
    built = []

    def build(config):
        built.append(FakeTeacher(**{key: config[key] for key in config if key != 'type'}))
        return built[-1]

    monkeypatch.setattr(run.TEACHERS, 'build', build)
    return built


@pytest.fixture
def plan(tmp_path):
    """Twenty questions."""
    queries = write_queries(tmp_path / 'queries.jsonl', some_queries(20))
    return Plan(
        teacher=dict(type='FakeTeacher'),
        run_dir=tmp_path / 'run',
        queries=(queries,),
        sampling=SAMPLING,
    )


def changed(plan, **values):
    return Plan(**{**plan.model_dump(), **values})


def collect(plan, shard=None):
    return collect_shard(plan, shard, say=lambda line: None)


def keys(plan):
    return [each.row_key for each in rows_of(plan.run_dir)]


def test_a_second_start_asks_nothing(plan, teachers):
    outcome = collect(plan)
    assert outcome.reason == 'done' and len(teachers[0].asked) == 20
    assert sorted(keys(plan)) == sorted(row_key(q, 'fake', SAMPLING) for q in some_queries(20))
    again = collect(plan)
    assert again.reason == 'done' and teachers[1].asked == []
    assert again.summary['rows'] == 20 and again.summary['new'] == 0
    assert again.summary['tokens'] == dict(prompt=40, completion=60)


def test_rows_tell_of_query_teacher_and_reply(plan, teachers):
    collect(changed(plan, license_tag='mine'))
    by_text = {each.user_text: each for each in rows_of(plan.run_dir)}
    for query in some_queries(20):
        row = by_text[query.user_text]
        assert {name: getattr(row, name) for name in type(query).model_fields} == dict(query)
        assert row.response_text == f'answer to {query.user_text}' and row.teacher == 'fake'
        assert row.sampling == SAMPLING and row.license_tag == 'mine' and row.created_at


def test_repeated_questions_are_asked_once(plan, teachers):
    write_queries(plan.queries[0], [*some_queries(5), *some_queries(8)])
    outcome = collect(plan)
    assert len(teachers[0].asked) == len(keys(plan)) == outcome.summary['total'] == 8


def test_several_answers_and_later_more_of_them(plan, teachers):
    collect(changed(plan, samples=2))
    with pytest.raises(UserError, match='samples was 2 when the run began, now it is 3; .*allow'):
        collect(changed(plan, samples=3))
    collect(changed(plan, samples=3, allow_change=('samples',)))
    rows = rows_of(plan.run_dir)
    assert len({each.row_key for each in rows}) == len(rows) == 60
    assert sorted({each.sample_index for each in rows}) == [0, 1, 2]
    assert len(teachers[-1].asked) == 20
    assert collect(changed(plan, samples=3)).reason == 'done', 'the change is noted'


def test_shards_share_without_overlap_and_another_number_goes_on(plan, teachers):
    collect(plan, Shard(1, 2))
    first = keys(plan)
    assert 0 < len(first) < 20 and all(int(key, 16) % 2 == 1 for key in first)
    for index in range(3):
        collect(plan, Shard(index, 3))
    found = keys(plan)
    assert len(found) == len(set(found)) == 20 and set(first) <= set(found)
    assert sum(len(each.asked) for each in teachers) == 20
    assert collect(plan).summary['new'] == 0


def test_a_torn_row_of_another_shard_is_asked_again(plan, teachers):
    collect(plan, Shard(0, 2)), collect(plan, Shard(1, 2))
    path = plan.run_dir / 'traces-00001.jsonl'
    path.write_bytes(path.read_bytes()[:-30])
    assert collect(plan).summary['new'] == 1
    assert len(keys(plan)) == len(set(keys(plan))) == 20


def test_failed_rows_stay_until_they_are_wanted_again(plan, teachers):
    failing = lambda text: Reply(status='failed', error='no\nluck') if '1' in text else 'yes'  # noqa: E731
    outcome = collect(changed(plan, teacher=dict(type='FakeTeacher', answer=failing)))
    failed = outcome.summary['statuses']['failed']
    assert failed == sum('1' in each.user_text for each in some_queries(20)) == 11
    assert {each.error for each in rows_of(plan.run_dir) if each.status == 'failed'} == {'no luck'}
    collect(plan)
    assert teachers[-1].asked == [], 'a failed row is a row'
    outcome = collect(changed(plan, retry_failed=True))
    assert len(teachers[-1].asked) == failed and outcome.summary['statuses'] == dict(ok=20)
    assert len(keys(plan)) == len(set(keys(plan))) == 20


def test_retries_of_a_shard_never_repeat_or_lose_a_row(plan, teachers):
    failing = dict(type='FakeTeacher', answer=lambda text: Reply(status='failed'))
    for index in range(3):
        collect(changed(plan, teacher=failing), Shard(index, 3))
    for index in range(2):
        collect(changed(plan, retry_failed=True), Shard(index, 2))
    assert len(keys(plan)) == len(set(keys(plan))) == 20
    collect(changed(plan, retry_failed=True))
    rows = rows_of(plan.run_dir)
    assert len(rows) == len({each.row_key for each in rows}) == 20
    assert {each.status for each in rows} == {'ok'}


@pytest.mark.parametrize('shards', [1, 3])
def test_max_rows_is_exact_and_can_be_raised(plan, teachers, shards):
    def all_shards(**values):
        return [collect(changed(plan, **values), Shard(n, shards)).reason for n in range(shards)]

    assert set(all_shards(max_rows=7)) == {'limit'} and len(keys(plan)) == 7
    assert set(all_shards(max_rows=7)) == {'limit'} and len(keys(plan)) == 7
    assert set(all_shards()) == {'done'} and len(set(keys(plan))) == len(keys(plan)) == 20


def test_a_limit_that_is_not_reached_is_no_limit(plan, teachers):
    assert collect(changed(plan, max_rows=20)).reason == 'done'


def test_max_cost_stops_within_what_is_under_way(plan, teachers):
    prices = dict(prompt=500, completion=1000)  # an answer: 2 * 0.5 + 3 * 1 = 4
    outcome = collect(changed(plan, max_cost=20, prices=prices))
    count = len(keys(plan))
    assert outcome.reason == 'limit' and 5 <= count <= 5 + 3
    assert outcome.summary['cost'] == 4 * count
    again = collect(changed(plan, max_cost=20, prices=prices))
    assert again.reason == 'limit' and teachers[-1].asked == []
    assert again.summary['cost'] == outcome.summary['cost'], 'earlier rows count'


@pytest.mark.parametrize(
    'values, said',
    [
        (dict(sampling=dict(temperature=1.0)), r'sampling\.temperature was 0\.5 .* now it is 1\.0'),
        (dict(teacher=dict(type='FakeTeacher', name='other')), "teacher was 'fake'.*is 'other'"),
        (
            dict(teacher=dict(type='FakeTeacher', settings=dict(mood='bad'))),
            r"settings\.mood was None .* now it is 'bad'",
        ),
        (dict(license_tag='mit'), "license_tag was '' .* now it is 'mit'.*allow license_tag"),
        (dict(allow_change=('sampling',)), "'sampling' cannot be allowed to change, only queries"),
    ],
)
def test_another_configuration_is_refused(plan, teachers, values, said):
    collect(changed(plan, max_rows=3))
    manifest = (plan.run_dir / NAME).read_bytes()
    with pytest.raises(UserError, match=said):
        collect(changed(plan, **values))
    assert (plan.run_dir / NAME).read_bytes() == manifest and len(keys(plan)) == 3
    assert teachers[-1].asked == []


def test_other_questions_are_refused_unless_allowed(plan, teachers):
    collect(plan)
    path = plan.run_dir / NAME
    made = {**read_json(path), 'created': '2020-01-01T00:00:00+00:00'}
    path.write_text(json.dumps(made))
    write_queries(plan.queries[0], some_queries(25))
    with pytest.raises(UserError, match='queries.sha256 was .*allow queries to change'):
        collect(plan)
    collect(changed(plan, allow_change=('queries',)))
    assert len(teachers[-1].asked) == 5 and len(keys(plan)) == 25
    now = read_json(plan.run_dir / NAME)
    assert now['queries']['count'] == 25 and now['created'] == made['created']


def test_traces_without_a_manifest_and_a_damaged_one_are_refused(plan, teachers):
    collect(plan)
    path = plan.run_dir / NAME
    content = path.read_text()
    path.write_text(content[:-5])
    with pytest.raises(UserError, match=r'manifest\.json is damaged'):
        collect(plan)
    path.unlink()
    with pytest.raises(UserError, match=r'traces but no manifest\.json'):
        collect(plan)


def test_a_malformed_row_or_question_is_named_and_nothing_is_asked(plan, teachers):
    collect(changed(plan, max_rows=3))
    path = plan.run_dir / 'traces-00000.jsonl'
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join([lines[0], b'{"half\n', *lines[1:]]))
    with pytest.raises(UserError, match=r'traces-00000\.jsonl:2: no trace'):
        collect(plan)
    path.write_bytes(b''.join(lines))
    plan.queries[0].write_text('{"source_uid": "a"}\n')
    with pytest.raises(UserError, match=r'queries\.jsonl:1: no query: user_text'):
        collect(changed(plan, allow_change=('queries',)))
    assert all(each.asked == [] for each in teachers[1:])


def stage_one(folder, traces):
    with Journal(folder / 'traces-00000.jsonl') as journal:
        journal.append([encoded(each) for each in traces])


def test_the_second_stage_asks_a_part_of_the_answered_questions(plan, teachers, tmp_path):
    stage_one(tmp_path / 'one', [*some_traces(30), *some_traces(9, first=30, status='failed')])
    drawn = dict(folder=tmp_path / 'one', count=12, seed=3)
    two = changed(plan, queries=(), stage_two=drawn, teacher=dict(type='FakeTeacher', name='two'))
    collect(two)
    answered = {each.query_key for each in some_traces(30)}
    found = [each.query_key for each in rows_of(plan.run_dir)]
    assert len(found) == len(set(found)) == 12 and set(found) < answered
    assert {each.teacher for each in rows_of(plan.run_dir)} == {'two'}
    stage_one(tmp_path / 'one', some_traces(5, first=50))
    assert collect(two).summary['new'] == 0, 'the draw stays'
    with pytest.raises(UserError, match='queries.sha256'):
        collect(changed(two, stage_two={**drawn, 'seed': 4}))


@pytest.mark.parametrize('text', ['4/4', '1', '-1/4', 'a/b', '0/0'])
def test_shards_that_there_are_not(text):
    with pytest.raises(UserError, match=f"shard '{text}': write index/count"):
        parse_shard(text)


@pytest.mark.parametrize('count', [1, 2, 3, 7])
def test_every_file_is_looked_after_by_one_shard_its_own_among_them(tmp_path, count):
    files = [Shard(index, 5).file(tmp_path) for index in range(5)]
    for each in files:
        each.touch()
    parts = [shard_files(tmp_path, Shard(index, count)) for index in range(count)]
    assert sorted(sum(parts, [])) == shard_files(tmp_path) == files
    for index in range(min(count, 5)):
        assert files[index] in parts[index]


def test_every_key_has_one_shard_and_shares_add_up():
    for count in (1, 2, 7):
        shards = [Shard(index, count) for index in range(count)]
        for trace in some_traces(40):
            assert sum(each.owns(trace.row_key) for each in shards) == 1
        assert all(sum(each.share(n) for each in shards) == n for n in (0, 5, 1000))
