"""The world's teachers: what personas tell, seeded faults, and the same answers over HTTP."""

import asyncio
import re
import subprocess
import sys
from collections import Counter

import aiohttp
import pytest

from mmdistill.core.errors import UserError
from mmkd.reasoning.messages import world_messages
from mmkd.reasoning.personas import PERSONAS, faults_of, say
from mmkd.reasoning.queries import draw, plans
from mmkd.reasoning.server import make_app, read_rates
from mmkd.reasoning.teacher import WorldTeacher
from mmkd.reasoning.vocabulary import REFUSAL, UNKNOWN, Vocabulary
from mmkd.registry import TEACHERS
from mmkd.traces.schema import Sampling

QUESTION = 'What is ( 3 + 4 ) * 2?'
FULL = '3 + 4 = 7. 7 * 2 = 14. The answer is 14.'
STATES = '7; 14. The answer is 14.'
RATES = dict(wrong_answer=0.05, wrong_step=0.2, refusal=0.1, empty=0.02, cut=0.15)


def messages(system, user=QUESTION):
    found = [dict(role='user', content=user)]
    return [dict(role='system', content=system), *found] if system else found


def ask(teacher, given, **sampling):
    return asyncio.run(teacher.agenerate(given, Sampling(**sampling)))


@pytest.fixture(scope='module')
def vocabulary():
    return Vocabulary()


@pytest.fixture(scope='module')
def queries():
    return list(draw(plans(2500, 10)['train'], 4, 'train'))


@pytest.mark.parametrize(
    ('persona', 'system', 'text'),
    [
        ('strong', 'Explain each step.', FULL),
        ('strong', '', STATES),
        ('strong', 'Give only the answer.', '14'),
        ('intermediate', 'Explain each step.', STATES),
        ('intermediate', '', STATES),
        ('answer', 'Explain each step.', '14'),
        ('answer', '', '14'),
    ],
)
def test_a_persona_tells_what_is_asked_for_and_what_it_can(persona, system, text):
    reply = ask(WorldTeacher(persona), messages(system))
    assert (reply.text, reply.finish_reason, reply.status) == (text, 'stop', 'ok')


def test_messages_of_the_world_ask_for_what_their_purpose_says():
    for number, message in world_messages().messages.items():
        told = {1: STATES, 2: STATES, 3: '14', 4: '14'}.get(number, FULL)
        assert ask(WorldTeacher(), messages(message.text)).text == told


def test_tokens_are_counted_and_bound():
    teacher = WorldTeacher()
    reply = ask(teacher, messages('Explain.'))
    assert (reply.usage.prompt, reply.usage.completion, reply.usage.total) == (2 + 10, 17, 29)
    short = ask(teacher, messages('Explain.'), max_tokens=5)
    assert (short.text, short.finish_reason) == ('3 + 4 = 7', 'length')
    assert short.usage.completion == 5
    assert ask(teacher, messages('Explain.'), max_tokens=17).finish_reason == 'stop'
    stopped = ask(teacher, messages('Explain.'), stop=(' The', ' *'))
    assert (stopped.text, stopped.finish_reason) == ('3 + 4 = 7. 7', 'stop')


def test_what_the_world_does_not_ask_is_not_answered():
    assert ask(WorldTeacher(), messages('', 'Who wrote it?')).text == UNKNOWN
    assert ask(WorldTeacher(), [dict(role='system', content='Explain.')]).text == UNKNOWN


def test_the_teacher_is_built_from_a_config():
    teacher = TEACHERS.build(dict(type='WorldTeacher', persona='intermediate', concurrency=3))
    assert (teacher.name, teacher.concurrency) == ('world-intermediate', 3)


def test_faults_have_their_shares_and_no_others(queries, vocabulary):
    for persona in PERSONAS:
        said = [say(persona, q.messages(), 0, faults_of(RATES), vocabulary) for q in queries]
        counts, total = Counter(each.fault for each in said), len(queries)
        for name, rate in {**RATES, '': 1 - sum(RATES.values())}.items():
            assert abs(counts[name] - total * rate) < 4.5 * (total * rate * (1 - rate)) ** 0.5


def test_a_fault_is_what_its_name_says(queries, vocabulary):
    clean, astray = faults_of(None), []
    for query in queries:
        right = say('strong', query.messages(), 0, clean, vocabulary).text
        text, reason, fault = say('strong', query.messages(), 0, faults_of(RATES), vocabulary)
        assert (reason == 'length') == (fault == 'cut')
        if fault == '':
            assert text == right
        elif fault == 'cut':
            assert right.startswith(text) and len(text) < len(right)
        elif fault in ('refusal', 'empty'):
            assert text == (REFUSAL if fault == 'refusal' else '')
        elif fault == 'wrong_answer':
            steps, _, answer = text.rpartition('The answer is ')
            assert steps == right.rpartition('The answer is ')[0]
            assert answer.rstrip('.') != query.target
        else:
            astray.append(text.rpartition('The answer is ')[2].rstrip('.') != query.target)
            assert text != right or 'answer' not in right
    assert len(astray) > 300 and 0.7 < sum(astray) / len(astray) < 1


def test_faults_depend_on_seed_messages_and_persona_alone(queries, vocabulary):
    def faults(persona, seed, given):
        return [say(persona, q.messages(), seed, faults_of(RATES), vocabulary) for q in given]

    some = queries[:300]
    first = faults('strong', 0, some)
    assert first == faults('strong', 0, some)
    assert first[::-1] == faults('strong', 0, some[::-1])
    names = [
        [each.fault for each in faults(*args, some)] for args in (('strong', 1), ('answer', 0))
    ]
    for others in names:
        same = sum(a.fault == b for a, b in zip(first, others, strict=True))
        assert same < 0.6 * len(some)


@pytest.mark.parametrize(
    ('rates', 'message'),
    [
        (dict(cutt=0.1), "unknown key 'cutt'.*did you mean 'cut'"),
        (dict(cut=1.5), r'faults\.cut: .*less than or equal to 1'),
        (dict(cut=0.7, empty=0.7), 'have the sum 1.4'),
    ],
)
def test_bad_faults_are_named(rates, message):
    with pytest.raises(UserError, match=message):
        WorldTeacher('strong', faults=rates)


def test_unknown_personas_are_named():
    with pytest.raises(UserError, match="no persona 'stong'.*did you mean 'strong'"):
        WorldTeacher('stong')
    with pytest.raises(UserError, match="no persona 'weak'"):
        make_app(0, dict(weak=dict(cut=0.1)))


def test_rates_on_the_command_line():
    found = read_rates(['strong.cut=0.1', 'strong.empty=0.2', 'answer.refusal=1'])
    assert found == dict(strong=dict(cut=0.1, empty=0.2), answer=dict(refusal=1.0))
    with pytest.raises(UserError, match='--persona-faults strong: write PERSONA.FAULT=SHARE'):
        read_rates(['strong'])


@pytest.fixture(scope='module')
def address():
    """A server in a process of its own."""
    command = [sys.executable, '-m', 'mmkd.reasoning.server', '--port', '0', '--seed', '5']
    rates = [f'strong.{name}={rate}' for name, rate in RATES.items()]
    process = subprocess.Popen(
        [*command, '--persona-faults', *rates], stdout=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip()
    process.terminate()
    assert process.wait(60) == 0


async def _post(session, address, body):
    """Status and body of an answer."""
    async with session.post(f'{address}/chat/completions', json=body) as answer:
        return answer.status, await answer.json()


async def _get(address, bodies):
    """Names of the models, and the answers to some requests."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f'{address}/models') as answer:
            names = [each['id'] for each in (await answer.json())['data']]
        return names, [await _post(session, address, body) for body in bodies]


def test_the_server_says_what_the_teacher_says(address, queries):
    assert re.fullmatch(r'http://127\.0\.0\.1:\d+/v1', address)
    some = queries[::20]
    for persona in PERSONAS:
        teacher = WorldTeacher(persona, 5, RATES if persona == 'strong' else None)
        bodies = [
            dict(model=f'world-{persona}', messages=q.messages(), max_tokens=40, temperature=0)
            for q in some
        ]
        names, answers = asyncio.run(_get(address, bodies))
        assert names == ['world-answer', 'world-intermediate', 'world-strong']
        for query, (status, body) in zip(some, answers, strict=True):
            reply = ask(teacher, query.messages(), max_tokens=40, temperature=0)
            choice, usage = body['choices'][0], body['usage']
            assert status == 200 and body['model'] == f'world-{persona}'
            assert choice['message'] == dict(role='assistant', content=reply.text)
            assert choice['finish_reason'] == reply.finish_reason
            assert usage['prompt_tokens'] == reply.usage.prompt
            assert usage['completion_tokens'] == reply.usage.completion
            assert usage['total_tokens'] == reply.usage.total


def test_the_server_refuses_with_a_status_and_a_reason(address):
    plain = dict(model='world-strong', messages=messages(''))
    cases = [
        (dict(plain, model='strong'), 404, 'model_not_found', "no model 'strong'"),
        (dict(plain, model='world-weak'), 404, 'model_not_found', "no model 'world-weak'"),
        (dict(model='world-strong'), 400, 'invalid_value', 'messages: Field required'),
        (dict(plain, max_tokens=0), 400, 'invalid_value', 'max_tokens: .*greater than 0'),
        (dict(plain, stream=True), 400, 'unsupported_value', 'stream'),
        (dict(plain, n=2), 400, 'unsupported_value', 'n above 1'),
    ]
    _, answers = asyncio.run(_get(address, [body for body, *_ in cases]))
    for (_, status, code, message), (got, body) in zip(cases, answers, strict=True):
        assert (got, body['error']['code']) == (status, code)
        assert re.search(message, body['error']['message'])
