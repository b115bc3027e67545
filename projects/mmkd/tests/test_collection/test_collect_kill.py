"""Processes that are killed: unique rows, few answers paid twice, and locks that end with them."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from collection_fakes import (
    FORK,
    forked,
    read_json,
    rows_of,
    some_queries,
    wait_for,
    write_queries,
)

from mmdistill.core.errors import UserError
from mmkd.collection.collector import GROUP
from mmkd.collection.plan import Plan
from mmkd.collection.run import collect_shard
from mmkd.collection.shards import Shard

ROWS, KILLS, CONCURRENCY, LATENCY = 1600, 10, 16, 0.05


@pytest.fixture
def server():
    """Address of a server that is a process of its own."""
    program = Path(__file__).with_name('unreliable_server.py')
    process = subprocess.Popen(
        [sys.executable, program, '1', str(LATENCY)], stdout=subprocess.PIPE, text=True
    )
    yield f'http://127.0.0.1:{int(process.stdout.readline())}'
    process.kill()
    process.wait()


def counts(server):
    with urllib.request.urlopen(f'{server}/counts') as response:
        return json.load(response)


def collect(plan, shard=None):
    """Collects in silence."""
    return collect_shard(plan, shard, say=lambda line: None)


def test_ten_kills_at_random_moments_leave_each_row_once(server, tmp_path):
    folder, luck = tmp_path / 'run', random.Random(0)
    queries = write_queries(tmp_path / 'queries.jsonl', some_queries(ROWS))
    teacher = dict(
        type='HttpTeacher', address=f'{server}/v1/chat/completions', concurrency=CONCURRENCY
    )
    plan = Plan(teacher=teacher, run_dir=folder, queries=(queries,))
    traces, kept = folder / 'traces-00000.jsonl', 0
    for number in range(KILLS):
        before = counts(server)['calls']
        process = forked(collect, plan)
        wait_for(lambda before=before: counts(server)['calls'] > before)
        time.sleep(luck.uniform(0.02, 0.45))
        assert process.exitcode is None, 'it is to be killed in the middle of it'
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        lines = traces.read_bytes().count(b'\n') if traces.exists() else 0
        assert lines >= kept, 'what was kept stays'
        kept = lines
        if number in (3, 7) and kept:
            last = traces.read_bytes().splitlines()[-1]
            with traces.open('ab') as file:
                file.write(last[: len(last) // 2])
    assert 0 < kept < ROWS
    assert collect(plan).reason == 'done'
    rows = rows_of(folder)
    assert len(rows) == len({each.row_key for each in rows}) == ROWS
    assert {each.user_text for each in rows} == {f'question {n}' for n in range(ROWS)}
    assert all(each.response_text == f'answer to {each.user_text}' for each in rows)
    answered = counts(server)['answered']
    extra = sum(answered.values()) - ROWS
    assert 0 < extra <= KILLS * (CONCURRENCY + GROUP)
    before = counts(server)
    assert collect(plan).summary['new'] == 0 and counts(server) == before, 'no call at all'


@pytest.fixture
def slow(tmp_path):
    """A plan whose answers take a while."""
    queries = write_queries(tmp_path / 'queries.jsonl', some_queries(60))
    teacher = dict(type='FakeTeacher', seconds=0.2, log=str(tmp_path / 'log'), concurrency=4)
    return Plan(teacher=teacher, run_dir=tmp_path / 'run', queries=(queries,))


def asked(plan):
    log = Path(plan.teacher['log'])
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_is_under_way_and_stops(slow, number):
    told = FORK.SimpleQueue()
    process = forked(lambda: told.put(collect(slow).reason))
    wait_for(lambda: asked(slow) > 5)
    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode == 0 and told.get() == 'signal'
    rows = rows_of(slow.run_dir)
    assert 4 < len(rows) == asked(slow) < 60, 'no call is lost, and not all are made'
    assert read_json(slow.run_dir / 'summary-00000.json')['ended'] == 'signal'
    quick = slow.model_copy(update=dict(teacher={**slow.teacher, 'seconds': 0}))
    assert collect(quick).reason == 'done' and asked(slow) == len(rows_of(slow.run_dir)) == 60


def test_a_second_signal_leaves_what_is_under_way_and_keeps_what_came_in(slow):
    plan = slow.model_copy(
        update=dict(teacher={**slow.teacher, 'type': 'HalfStuckTeacher', 'concurrency': 2})
    )
    told = FORK.SimpleQueue()
    process = forked(lambda: told.put(collect(plan).reason))
    wait_for(lambda: asked(plan) > 5)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.6)
    assert process.exitcode is None, 'it waits for the stuck call'
    os.kill(process.pid, signal.SIGTERM)
    process.join(10)
    assert process.exitcode == 0 and told.get() == 'signal'
    assert len(rows_of(plan.run_dir)) == asked(plan) - 1


def test_the_second_process_of_a_shard_is_refused_and_told_by_whom(slow):
    process = forked(collect, slow)
    holder = f'process {process.pid}'
    wait_for(lambda: asked(slow) > 0)
    with pytest.raises(UserError, match=f'00000-of-00001 is locked by {holder} on '):
        collect(slow)
    with pytest.raises(UserError, match=f'2 shards are asked for, but {holder} .*of 1'):
        collect(slow, Shard(1, 2))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    quick = slow.model_copy(update=dict(teacher={**slow.teacher, 'seconds': 0}))
    assert collect(quick).reason == 'done', 'a dead process has no locks'
