"""The rehearsal endpoint goes wrong as often as it is told, the same way each time."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from mmdistill.core.errors import UserError
from mmkd.teachers.faults import SHARES, Faults
from mmkd.teachers.faulty_server import FaultyServer, main, parse_args

BODY = dict(model='m', messages=[dict(role='user', content='a b c')])


async def post(server, body, **headers):
    """Status, headers and body of an answer."""
    url = f'{server.base_url}/chat/completions'
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers=headers) as r,
    ):
        return r.status, r.headers, await r.json(content_type=None)


def test_shares_of_faults():
    shares = {name: 0.02 * (n + 1) for n, name in enumerate(SHARES)}
    faults = Faults(**shares, seed=1)
    found = [faults.draw(f'q{n}', 0) for n in range(20000)]
    for name, share in {**shares, '': 1 - sum(shares.values())}.items():
        # four standard deviations
        assert abs(found.count(name) / 20000 - share) < 4 * (share * (1 - share) / 20000) ** 0.5
    assert found == [faults.draw(f'q{n}', 0) for n in range(20000)]
    assert found != [Faults(**shares, seed=2).draw(f'q{n}', 0) for n in range(20000)]
    again = [faults.draw(f'q{n}', 1) for n in range(20000)]
    assert again != found
    for name in ('too_long', 'empty'):
        assert [each == name for each in found] == [each == name for each in again]


def test_answers_counts_and_bounds():
    async def work():
        async with FaultyServer(lambda messages: messages[0]['content'].upper()) as server:
            whole = await post(server, BODY)
            cut = await post(server, dict(BODY, max_completion_tokens=2))
            url = server.base_url
            async with aiohttp.ClientSession() as session:
                async with session.get(f'{url}/models') as response:
                    models = await response.json()
                async with session.get(url.replace('/v1', '/stats')) as response:
                    stats = await response.json()
        return whole[2], cut[2], models, stats, server

    whole, cut, models, stats, server = asyncio.run(work())
    assert whole['choices'][0]['message']['content'] == 'A B C'
    assert whole['choices'][0]['finish_reason'] == 'stop'
    assert whole['usage'] == dict(prompt_tokens=3, completion_tokens=3, total_tokens=6)
    assert cut['choices'][0]['message']['content'] == 'A B'
    assert cut['choices'][0]['finish_reason'] == 'length'
    assert models['data'][0]['id'] == 'rehearsal'
    assert (
        stats
        == dict(counts=dict(calls=2, ok=2), questions=1)
        == dict(counts=dict(server.counts), questions=len(server.asked))
    )


def test_keys_are_checked_where_there_is_one():
    async def work():
        async with FaultyServer(key='k') as server:
            statuses = [
                (await post(server, BODY, Authorization=each))[0] for each in ('Bearer k', 'k')
            ]
        return statuses, server.counts

    statuses, counts = asyncio.run(work())
    assert statuses == [200, 401] and counts == dict(calls=2, ok=1, unauthorized=1)


@pytest.mark.parametrize('date', [False, True])
def test_the_header_of_a_429(date):
    async def work():
        faults = Faults(rate_limited=1.0, retry_after=30, retry_after_date=date)
        async with FaultyServer(faults=faults) as server:
            return await post(server, BODY)

    status, headers, _ = asyncio.run(work())
    assert status == 429
    assert headers['Retry-After'].endswith('GMT') if date else headers['Retry-After'] == '30'


def test_shares_that_are_none():
    for wrong in (dict(dropped=-0.1), dict(dropped=0.6, slow=0.6)):
        with pytest.raises(UserError, match='0 or more and 1 at most together'):
            Faults(**wrong)


def test_as_a_process():
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root.parents[1]), os.environ.get('PYTHONPATH', '')])
    command = [
        sys.executable,
        '-m',
        'mmkd.teachers.faulty_server',
        '--too-long',
        '1',
        '--seed',
        '3',
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, 'PYTHONPATH': path}
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith('http://127.0.0.1:')
        status, _, body = asyncio.run(post(SimpleNamespace(base_url=address), BODY))
        assert status == 400 and body['error']['code'] == 'context_length_exceeded'
    finally:
        process.kill()
        process.wait()


def test_a_mistake_on_the_command_line_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['faulty_server', '--slow', '2'])
    with pytest.raises(SystemExit, match='2'):
        main()
    assert capsys.readouterr().err.startswith('error: faults: shares are to be')


def test_the_command_line_has_all_faults():
    args = parse_args(['--retry-after-date', '--server-error', '.5', '--retry-after', '7'])
    made = Faults(**{name: getattr(args, name) for name in Faults.names()})
    assert made == Faults(server_error=0.5, retry_after=7, retry_after_date=True)
