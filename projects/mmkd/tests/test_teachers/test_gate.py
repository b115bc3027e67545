"""Calls wait for the endpoint that is free first, on a virtual clock."""

import asyncio
import random

import pytest
from virtual_time import fullest, run_virtual

from mmdistill.core.errors import UserError
from mmkd.teachers.endpoint import Endpoint
from mmkd.teachers.endpoint_options import EndpointOptions
from mmkd.teachers.gate import Gate
from mmkd.teachers.retry import CallFailed


def endpoints(*several):
    """Endpoints with such options."""
    return [
        Endpoint(EndpointOptions(**{'id': f'e{n}', 'base_url': 'http://host/v1', **each}))
        for n, each in enumerate(several)
    ]


async def ask(gate, found, prompt=0, completion=1, seconds=0.0, used=0):
    """One call; notes endpoint, time and tokens that it used."""
    leave = await gate.enter(prompt, completion)
    found.append((leave.endpoint.options.id, asyncio.get_running_loop().time() - 1000, used))
    await asyncio.sleep(seconds)
    gate.leave(leave, True, False, used)


def asked(points, calls):
    """Endpoints, times and tokens of calls that all come at once."""
    found = []

    async def work():
        gate = Gate(points)
        await asyncio.gather(*(ask(gate, found, **each) for each in calls))

    run_virtual(work())
    return found


@pytest.mark.parametrize('seed', range(4))
def test_calls_and_tokens_of_no_minute_exceed_the_limit(seed):
    draw = random.Random(seed)
    calls = []
    for _ in range(300):
        prompt, completion = draw.randint(1, 60), draw.randint(1, 60)
        used = draw.randint(1, prompt + completion)
        calls.append(
            dict(prompt=prompt, completion=completion, seconds=draw.random() * 20, used=used)
        )
    found = asked(endpoints(dict(rpm=30, tpm=700, max_concurrency=16)), calls)
    times = [(t, 1) for _, t, _ in found]
    assert len(found) == 300
    assert fullest(times, 60) <= 30 and fullest(times, 10) <= 5
    # the tokens that are used are the truth
    assert fullest([(t, used) for _, t, used in found], 60) <= 700


def test_the_limit_of_calls_is_used_up():
    found = asked(endpoints(dict(rpm=60, max_concurrency=100)), [{}] * 180)
    times = [t for _, t, _ in found]
    assert times == sorted(times) and max(times) == pytest.approx(170)
    assert fullest([(t, 1) for t in times], 60) == 60


def test_refunds_let_calls_in_at_once():
    calls = [dict(prompt=50, completion=50, seconds=1, used=10)] * 4
    found = asked(endpoints(dict(tpm=100)), calls)
    # the second waits for the first minute; with the refund alone it still has no 100
    assert [round(t) for _, t, _ in found] == [0, 60, 120, 180]
    calls = [dict(prompt=25, completion=25, seconds=1, used=10)] * 4
    found = asked(endpoints(dict(tpm=100)), calls)
    assert [round(t) for _, t, _ in found] == [0, 0, 1, 2]


def test_the_endpoint_that_is_free_first_is_chosen():
    fast, slow = dict(rpm=12, max_concurrency=50), dict(rpm=6, max_concurrency=50)
    found = asked(endpoints(slow, fast), [{}] * 54)
    counts = {name: sum(each[0] == name for each in found) for name in ('e0', 'e1')}
    assert counts == dict(e0=18, e1=36)
    assert max(t for _, t, _ in found) == pytest.approx(170)


def test_equal_endpoints_share_and_a_full_one_is_passed_over():
    found = asked(
        endpoints(dict(max_concurrency=2), dict(max_concurrency=4)), [dict(seconds=9)] * 6
    )
    assert sorted(each[0] for each in found) == ['e0'] * 2 + ['e1'] * 4
    assert {t for _, t, _ in found} == {0}
    found = asked(endpoints(dict(max_concurrency=2)), [dict(seconds=9)] * 6)
    assert [t for _, t, _ in found] == [0, 0, 9, 9, 18, 18]


def test_a_pause_holds_for_the_endpoint_and_others_answer_meanwhile():
    points = endpoints({}, {})

    async def work(found):
        loop = asyncio.get_running_loop()
        points[0].limits.pause_until(loop.time() + 30)
        gate = Gate(points)
        for _ in range(3):
            await ask(gate, found)
        points[1].limits.pause_until(loop.time() + 50)
        for _ in range(2):
            await ask(gate, found)

    found = []
    run_virtual(work(found))
    assert [(name, t) for name, t, _ in found] == [('e1', 0)] * 3 + [('e0', 30)] * 2


def test_a_large_question_is_not_overtaken():
    calls = [dict(completion=60), dict(completion=90), *[dict(completion=10)] * 4]
    found = asked(endpoints(dict(tpm=100)), calls)
    assert [t for _, t, _ in found] == [0, 60, 60, 120, 120, 120]


def test_what_never_fits_is_told():
    with pytest.raises(CallFailed, match='about 80 tokens and 30 of the answer .* 100 of a minute'):
        asked(endpoints(dict(tpm=100), dict(tpm=90)), [dict(prompt=80, completion=30)])
    with pytest.raises(UserError, match='up to 100 tokens .* lower max_tokens or raise tpm'):
        asked(endpoints(dict(tpm=100)), [dict(prompt=1, completion=100)])
    found = asked(endpoints(dict(tpm=100), dict(tpm=900)), [dict(prompt=80, completion=30)] * 3)
    assert [name for name, _, _ in found] == ['e1'] * 3


def test_who_is_to_wait_for_hours_is_told_to_come_back():
    points = endpoints({})

    async def work():
        points[0].limits.pause_until(asyncio.get_running_loop().time() + 7200)
        await Gate(points).enter(1, 1)

    with pytest.raises(UserError, match="'e0' .* for 7200 s: run it again then"):
        run_virtual(work())
