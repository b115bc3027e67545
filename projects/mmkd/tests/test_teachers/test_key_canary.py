"""Keys come from the environment alone, and are nowhere to be seen."""

import asyncio
import copy
import logging
import pickle
import traceback

import pytest
from aiohttp import web

from mmdistill.core.errors import UserError
from mmkd.registry import TEACHERS
from mmkd.teachers.endpoint_options import read_options
from mmkd.teachers.openai_compat import OpenAICompatTeacher
from mmkd.teachers.retry import FullJitter
from mmkd.traces.schema import Sampling

CANARY = 'sk-Canary0123456789'
ASKED = [dict(role='user', content='q')]


@pytest.fixture
def key(monkeypatch):
    """The key is in the environment."""
    monkeypatch.setenv('CANARY_KEY', CANARY)


async def telling(status, seen):
    """A server whose errors repeat all headers."""

    async def handle(request):
        seen.append(request.headers.get('Authorization'))
        if status == 0:
            request.transport.close()
        error = dict(message=f'wrong: {dict(request.headers)}', code=f'c {CANARY}')
        return web.json_response(dict(error=error), status=status or 500)

    app = web.Application()
    app.router.add_post('/v1/chat/completions', handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    return runner, f'http://127.0.0.1:{runner.addresses[0][1]}/v1'


@pytest.mark.parametrize('status', [0, 200, 302, 400, 401, 403, 422, 429, 500])
def test_no_reply_error_log_or_repr_has_the_key(key, status, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    seen, shown = [], []

    async def work():
        runner, url = await telling(status, seen)
        teacher = OpenAICompatTeacher(
            't', dict(base_url=url, api_key_env='CANARY_KEY'), max_attempts=2, max_denied=2
        )
        teacher._jitter = FullJitter(base=0.001)
        try:
            async with teacher:
                shown.extend([repr(teacher), repr(teacher.__dict__)])
                shown.extend(repr(each.__dict__) for each in teacher.endpoints)
                for _ in range(2):
                    shown.append(repr(await teacher.agenerate(ASKED, Sampling())))
        except UserError as error:
            shown.extend([repr(error), ''.join(traceback.format_exception(error))])
            assert 'CANARY_KEY' in str(error)
        finally:
            await runner.cleanup()
        # what is left afterwards does not hold it at all
        left = [each.__dict__ for each in teacher.endpoints]
        shown.extend([repr(left), repr(teacher.spent())])

    asyncio.run(work(), debug=True)
    assert set(seen) == {f'Bearer {CANARY}'}
    out, err = capfd.readouterr()
    for text in (*shown, caplog.text, out, err):
        assert CANARY not in text
    if status == 422:
        assert '***' in ''.join(shown)


def test_options_can_be_written_out(key):
    options = read_options(dict(base_url='http://h/v1', api_key_env='CANARY_KEY'), 'a')
    assert options.key().get_secret_value() == CANARY
    for text in (repr(options), options.model_dump_json(), repr(options.key())):
        assert CANARY not in text
    assert CANARY.encode() not in pickle.dumps(copy.deepcopy(options))


@pytest.mark.parametrize(
    'name',
    ['api_key', 'apikey', 'API-KEY', 'key', 'token', 'auth', 'authorization', 'headers', 'secret']
    + ['default_headers', 'access_token', 'bearer_token', 'password', 'openai_api_key'],
)
def test_arguments_for_keys_are_refused(name):
    for build in (
        lambda: OpenAICompatTeacher('t', dict(base_url='http://h/v1'), **{name: CANARY}),
        lambda: TEACHERS.build(
            dict(
                type='OpenAICompatTeacher',
                name='t',
                endpoints=[{'base_url': 'http://h/v1', name: CANARY}],
            )
        ),
        lambda: OpenAICompatTeacher('t', dict(base_url='http://h/v1', extra_body={name: CANARY})),
    ):
        with pytest.raises(UserError, match=f'{name} is refused.*as api_key_env') as error:
            build()
        assert CANARY not in str(error.value)


@pytest.mark.parametrize(
    ('wrong', 'match'),
    [
        (dict(api_key_env=CANARY), 'api_key_env: .* in capitals, not the key itself'),
        (dict(base_url=f'http://me:{CANARY}@h/v1'), 'base_url: holds a password or a key'),
        (dict(base_url=f'http://h/v1?api-key={CANARY}'), 'base_url: holds a password or a key'),
        (dict(base_url=f'ftp://{CANARY}/v1'), 'base_url: is to begin with http'),
        (dict(extra_body=dict(temperature=1)), 'temperature is decided by the question'),
        (dict(rpm=CANARY), 'rpm: .*integer'),
        (dict(tpm=0), 'tpm: .*greater than 0'),
        (dict(token_name='tokens'), 'token_name: .*max_completion_tokens'),
        (dict(max_concurency=3), r"'max_concurency' \(did you mean 'max_concurrency'\?\)"),
    ],
)
def test_options_that_will_not_do_are_named_and_not_repeated(wrong, match):
    with pytest.raises(UserError, match=f"endpoint 'a'.*{match}") as error:
        read_options({'base_url': 'http://h/v1', **wrong}, 'a')
    assert CANARY not in str(error.value) and '\n' not in str(error.value)


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    teacher = OpenAICompatTeacher(
        't', [dict(base_url='http://h/v1'), dict(base_url='http://h/v1', api_key_env='NOT_THERE')]
    )

    async def enter():
        async with teacher:
            pass

    with pytest.raises(UserError, match="'endpoint1': the environment variable NOT_THERE is not"):
        asyncio.run(enter())
    # the session that was open by then is closed again
    assert teacher.endpoints[0]._session is None
    monkeypatch.setenv('NOT_THERE', f'{CANARY}\n{CANARY}')
    with pytest.raises(UserError, match='NOT_THERE holds characters') as error:
        asyncio.run(enter())
    assert CANARY not in str(error.value)


def test_a_query_of_the_address_is_kept():
    options = read_options(dict(base_url='https://h/openai/v1/?api-version=1'), 'a')
    assert str(options.address) == 'https://h/openai/v1/chat/completions?api-version=1'
