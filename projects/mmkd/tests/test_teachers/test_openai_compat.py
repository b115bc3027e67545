"""A teacher behind endpoints: attempts and pauses on a virtual clock, faults of a real server."""

import asyncio
import json

import pytest
from aiohttp import web
from virtual_time import run_virtual

from mmdistill.core.errors import UserError
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.teachers.chat_api import read_reply
from mmkd.teachers.faults import Faults
from mmkd.teachers.faulty_server import FaultyServer, question_key
from mmkd.teachers.openai_compat import OpenAICompatTeacher
from mmkd.teachers.retry import CallFailed, FullJitter, Kind, failure
from mmkd.traces.schema import Sampling, Usage

FEW = Sampling(max_tokens=16)


def question(text):
    """Messages of a question."""
    return [dict(role='user', content=text)]


def teacher_of(*ends, jitter=0.001, **options):
    """A teacher that waits little."""
    teacher = OpenAICompatTeacher('t', list(ends), **options)
    teacher._jitter = FullJitter(base=jitter, draw=lambda: 1.0)
    return teacher


def scripted(teacher, script, seconds=0.0):
    """Lets calls take some seconds and end as a function of endpoint and number of the call says;
    gives the list of (endpoint, time)."""
    made = []

    def instead(endpoint):
        async def call(body, left):
            made.append((endpoint.options.id, asyncio.get_running_loop().time() - 1000))
            end = script(endpoint.options.id, len(made))
            await asyncio.sleep(min(seconds, left))
            if seconds > left:
                raise CallFailed(Kind.RETRY, 'no answer in time', crowded=True)
            if end is not None:
                raise end
            return Reply('fine', 'stop', Usage(prompt=1, completion=2, total=3))

        return call

    for each in teacher.endpoints:
        each.call = instead(each)
    return made


def ask(teacher, count=1, sampling=FEW):
    """Replies to questions that come at once, on a virtual clock."""

    async def work():
        async with teacher:
            return await asyncio.gather(
                *(teacher.agenerate(question(f'q{n}'), sampling) for n in range(count))
            )

    return run_virtual(work())


HOST = dict(base_url='http://host/v1')


def test_waits_double_and_attempts_end():
    teacher = teacher_of(HOST, jitter=0.5)
    made = scripted(teacher, lambda *_: failure(503, dict(message='busy'), {}))
    (reply,) = ask(teacher)
    assert [t for _, t in made] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5]
    assert (reply.status, reply.attempts, reply.error) == ('failed', 8, 'HTTP 503: busy')


def test_the_deadline_counts_calls_and_waits_of_a_question():
    teacher = teacher_of(HOST, jitter=4.0, deadline=30.0)
    made = scripted(teacher, lambda *_: failure(500, {}, {}), seconds=5)
    (reply,) = ask(teacher)
    # 5 + 4 + 5 + 8 + 5 are 27, and no wait of 16 fits
    assert [t for _, t in made] == [0, 9, 22] and reply.attempts == 3
    teacher = teacher_of(HOST, jitter=4.0, deadline=30.0)
    made = scripted(teacher, lambda *_: None, seconds=99)
    (reply,) = ask(teacher)
    assert (len(made), reply.error, reply.latency_ms) == (1, 'no answer in time', 30000)


def test_a_429_pauses_the_endpoint_for_all_questions():
    teacher = teacher_of(dict(HOST, max_concurrency=1), max_attempts=3, deadline=5)
    wait = {'Retry-After': '40'}
    made = scripted(teacher, lambda _, n: failure(429, {}, wait) if n == 2 else None, seconds=1)
    replies = ask(teacher, 4)
    # the second call is refused at 2; all others wait for 42, which is no time of their own
    assert [t for _, t in made] == [0, 1, 42, 43, 44]
    assert [each.status for each in replies] == ['ok'] * 4
    assert sorted(each.attempts for each in replies) == [1, 1, 1, 2]


def test_a_429_without_a_time_pauses_by_jitter():
    teacher = teacher_of(HOST, jitter=0.5)
    made = scripted(teacher, lambda _, n: failure(429, {}, {}) if n < 4 else None)
    ask(teacher)
    assert [t for _, t in made] == [0, 0.5, 1.5, 3.5]


def test_another_endpoint_answers_while_one_is_paused():
    teacher = teacher_of(dict(HOST, id='a'), dict(HOST, id='b'))
    refusal = failure(429, {}, {'Retry-After': '60'})
    made = scripted(teacher, lambda name, _: refusal if name == 'a' else None)
    replies = [ask(teacher)[0] for _ in range(3)]
    assert made[:2] == [('a', 0), ('b', 0)] and replies[0].endpoint_id == 'b'
    assert replies[0].attempts == 2


def test_crowding_halves_the_calls_side_by_side():
    teacher = teacher_of(dict(HOST, max_concurrency=8), jitter=1.0)
    made = scripted(teacher, lambda _, n: failure(429, {}, {}) if n <= 8 else None, seconds=1)
    ask(teacher, 16)
    times = [t for _, t in made]
    assert times.count(0) == 8 and times.count(2) == 4 and teacher.concurrency == 8


def test_denials_in_a_row_end_it_and_an_answer_between_does_not():
    teacher = teacher_of(dict(HOST, id='a'), max_denied=2)
    made = scripted(teacher, lambda _, n: failure(403, {}, {}) if n % 2 else None)

    async def one_by_one(count):
        async with teacher:
            return [await teacher.agenerate(question('q'), FEW) for _ in range(count)]

    replies = run_virtual(one_by_one(6))
    assert [each.status for each in replies] == ['failed', 'ok'] * 3 and len(made) == 6
    assert {each.attempts for each in replies} == {1}
    scripted(teacher, lambda *_: failure(401, {}, {}))
    with pytest.raises(UserError, match="'a' denied 2 calls in a row .*name the environment"):
        run_virtual(one_by_one(2))
    teacher.endpoints[0].denied = 0
    scripted(teacher, lambda *_: failure(404, dict(message='no model t'), {}))
    with pytest.raises(UserError, match="HTTP 404: no model t.*'http://host/v1' and the name"):
        run_virtual(one_by_one(2))


def serve(faults, work, **server):
    """Runs ``work(server)`` beside a server."""

    async def both():
        async with FaultyServer(faults=faults, **server) as running:
            return running, await work(running)

    return asyncio.run(both())


@pytest.mark.parametrize(
    ('fault', 'attempts', 'status', 'error'),
    [
        ('unauthorized', 1, 'failed', 'HTTP 401'),
        ('too_long', 1, 'too_long', 'HTTP 400: the question is longer than the context'),
        ('server_error', 3, 'failed', 'HTTP 500: something broke'),
        ('unavailable', 3, 'failed', 'HTTP 503: busy'),
        ('dropped', 3, 'failed', 'ClientPayloadError'),
        ('bad_json', 3, 'failed', 'the answer is no chat completion in JSON'),
        ('slow', 3, 'failed', 'no answer in time'),
        ('empty', 1, 'ok', ''),
    ],
)
def test_each_fault_of_an_endpoint(fault, attempts, status, error):
    async def work(server):
        end = dict(base_url=server.base_url, read_timeout=0.1)
        async with teacher_of(end, max_attempts=3) as teacher:
            return await teacher.agenerate(question('why'), FEW)

    server, reply = serve(Faults(**{fault: 1.0}, slow_seconds=0.3), work)
    assert (reply.status, reply.attempts, reply.error) == (status, attempts, error)
    assert server.counts['calls'] == attempts and reply.text == ''
    assert reply.finish_reason == ('stop' if fault == 'empty' else '')


@pytest.mark.parametrize('as_date', [False, True])
def test_retry_after_is_kept_for_real(as_date):
    async def work(server):
        async with teacher_of(dict(base_url=server.base_url)) as teacher:
            return await teacher.agenerate(question('again'), FEW)

    # with this seed the first call is refused and the second is not
    seed = next(
        n
        for n in range(99)
        if [
            Faults(rate_limited=0.5, seed=n).draw(question_key(question('again')), k)
            for k in (0, 1)
        ]
        == ['rate_limited', '']
    )
    faults = Faults(rate_limited=0.5, retry_after=2, retry_after_date=as_date, seed=seed)
    server, reply = serve(faults, work)
    first, second = server.arrivals
    # a date has whole seconds
    assert (0.99 if as_date else 1.99) <= second - first < 3
    assert reply.status == 'ok' and reply.attempts == 2


def test_many_questions_come_through_all_faults():
    faults = Faults(
        *(0.05,) * 5, slow=0.05, too_long=0.05, empty=0.05, slow_seconds=0.01, retry_after=0, seed=3
    )

    async def work(server):
        end = dict(base_url=server.base_url, max_concurrency=32, prompt_price=2.0)
        async with teacher_of(end) as teacher:
            replies = await asyncio.gather(
                *(teacher.agenerate(question(f'number {n}'), FEW) for n in range(300))
            )
            return replies, teacher.spent()

    server, (replies, spent) = serve(faults, work)
    for number, reply in enumerate(replies):
        asked = question(f'number {number}')
        whole = faults.draw(question_key(asked), 0)
        if whole == 'too_long':
            assert reply.status == 'too_long'
        else:
            text = '' if whole == 'empty' else f'You asked: number {number}'
            assert (reply.status, reply.text) == ('ok', text)
        assert reply.attempts == server.asked[question_key(asked)]
    assert server.counts['calls'] == sum(each.attempts for each in replies)
    answered = [each for each in replies if each.status == 'ok']
    assert spent['default']['calls'] == server.counts['calls']
    assert spent['default']['cost'] == pytest.approx(len(answered) * 2 * 2.0 / 1000)
    assert server.counts['dropped'] > 3 and server.counts['rate_limited'] > 3


def test_what_is_sent():
    async def work(server):
        end = dict(
            base_url=f'{server.base_url}/',
            model='deployed',
            token_name='max_completion_tokens',
            extra_body=dict(reasoning_effort='low'),
        )
        asked = Sampling(max_tokens=2, temperature=0.0, seed=5, stop=('X',))
        async with teacher_of(end) as teacher:
            first = await teacher.agenerate(question('a b c'), asked)
            await teacher.agenerate(question('a'), Sampling())
            return first

    server, reply = serve(None, work)
    assert server.bodies[0] == dict(
        model='deployed',
        messages=question('a b c'),
        max_completion_tokens=2,
        temperature=0.0,
        seed=5,
        stop=['X'],
        reasoning_effort='low',
    )
    assert set(server.bodies[1]) == {'model', 'messages', 'reasoning_effort'}
    assert (reply.text, reply.finish_reason) == ('You asked:', 'length')
    assert reply.usage == Usage(prompt=3, completion=2, total=5) and reply.latency_ms >= 0


def test_redirections_are_not_followed():
    async def work(running):
        async def away(request):
            raise web.HTTPTemporaryRedirect(f'{running.base_url}/chat/completions')

        app = web.Application()
        app.router.add_post('/v1/chat/completions', away)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, '127.0.0.1', 0).start()
        end = dict(base_url=f'http://127.0.0.1:{runner.addresses[0][1]}/v1')
        async with teacher_of(end) as teacher:
            reply = await teacher.agenerate(question('q'), FEW)
        await runner.cleanup()
        return reply

    server, reply = serve(None, work)
    assert reply.error.startswith('HTTP 307') and reply.attempts == 1
    assert server.counts['calls'] == 0


def test_an_endpoint_that_is_not_there():
    async def work():
        async with teacher_of(dict(base_url='http://127.0.0.1:9/v1'), max_attempts=2) as teacher:
            return await teacher.agenerate(question('q'), FEW)

    reply = asyncio.run(work())
    assert (reply.status, reply.attempts) == ('failed', 2)
    assert reply.error == 'ClientConnectorError'


@pytest.mark.parametrize('body', ['{}', '[]', 'null', '{"choices": []}', '{"choices": [{}]}', ''])
def test_answers_of_another_form_are_worth_another_call(body):
    with pytest.raises(CallFailed) as error:
        read_reply(body.encode())
    assert error.value.kind is Kind.RETRY


def test_odd_answers_are_read():
    message = dict(content='a \ud83d b', role='assistant')
    raw = json.dumps(dict(choices=[dict(message=message)], usage=dict(prompt_tokens='x')))
    reply = read_reply(raw.encode())
    assert (reply.text, reply.finish_reason, reply.usage) == ('a ? b', '', Usage())


def test_options_that_will_not_do():
    build = dict(type='OpenAICompatTeacher', name='t', endpoints=HOST)
    assert TEACHERS.build(dict(build)).concurrency == 8
    for wrong, match in [
        (dict(endpoints=[]), 'endpoints is empty'),
        (dict(endpoints=[HOST, dict(HOST, id='endpoint0')]), "id 'endpoint0' is there twice"),
        (dict(max_attempts=0), 'max_attempts=0: is to be above 0'),
        (dict(deadlin=3), r"unknown key 'deadlin' \(did you mean 'deadline'\?\)"),
        (dict(rpm=3), "unknown key 'rpm'.*goes into endpoints"),
    ]:
        with pytest.raises(UserError, match=match):
            TEACHERS.build({**build, **wrong})
    with pytest.raises(RuntimeError, match='async with teacher'):
        asyncio.run(TEACHERS.build(dict(build)).agenerate(question('q'), FEW))


def test_what_answers_depend_on_is_told_and_more_endpoints_of_a_kind_change_nothing():
    def settings(*ends):
        return teacher_of(*ends).settings

    plain, thinking = dict(HOST, id='a'), dict(HOST, id='b', extra_body=dict(think=True, depth=2))
    assert settings(plain) == settings(plain, dict(HOST, id='c', rpm=9))
    assert settings(thinking) == settings(dict(thinking, extra_body=dict(depth=2, think=True)))
    kinds = [settings(plain), settings(thinking), settings(plain, thinking)]
    kinds.append(settings(dict(plain, model='other')))
    assert len({json.dumps(each) for each in kinds}) == 4
    assert HOST['base_url'] not in json.dumps(kinds)
