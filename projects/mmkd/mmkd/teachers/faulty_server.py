"""An endpoint with chat completions for rehearsals: it answers by rule, and goes wrong by a seed.

In a program: ``async with FaultyServer(answer, Faults(unavailable=.1)) as server`` and
``server.base_url``. As a process: ``python -m mmkd.teachers.faulty_server --port 8123 --unavailable
.1``, which starts within a second because it loads no torch; ``GET /stats`` tells what was counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any

from aiohttp import web

from mmkd.teachers.faults import Faults

Message = dict[str, str]
Answer = Callable[[list[Message]], str]
MODEL = 'rehearsal'


def echo(messages: Sequence[Message]) -> str:
    """An answer that repeats the question."""
    return f'You asked: {messages[-1]["content"]}'


class FaultyServer:
    """Serves ``POST /v1/chat/completions``, ``GET /v1/models`` and ``GET /stats``.

    A word, split at spaces, counts as a token; ``max_tokens`` is kept.

    Args:
        answer: of messages.
        faults: what goes wrong; None: nothing.
        key: that calls have to bring; None: any or none.
        latency: seconds of every answer.
        port: 0: a free one.

    Attributes:
        counts: ``calls``, ``ok`` (answered, slowly or without content among them) and calls of
            each fault.
        asked: calls of each question, by :func:`question_key`.
        arrivals: times of the calls, monotonic seconds.
        bodies: of the last calls.
        base_url: where it is, while it runs.
    """

    def __init__(
        self,
        answer: Answer = echo,
        faults: Faults | None = None,
        key: str | None = None,
        latency: float = 0.0,
        port: int = 0,
    ) -> None:
        self.answer, self.faults, self.latency = answer, faults or Faults(), latency
        self.counts: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.arrivals: list[float] = []
        self.bodies: deque[dict[str, Any]] = deque(maxlen=1000)
        self.base_url = ''
        self._key, self._port, self._runner = key, port, None

    async def __aenter__(self) -> FaultyServer:
        """Starts on 127.0.0.1."""
        self._runner = web.AppRunner(self.app(), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, '127.0.0.1', self._port).start()
        self.base_url = f'http://127.0.0.1:{self._runner.addresses[0][1]}/v1'
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stops."""
        await self._runner.cleanup()

    def app(self) -> web.Application:
        """The application, for another server of aiohttp."""
        app = web.Application()
        app.router.add_post('/v1/chat/completions', self._complete)
        app.router.add_get('/v1/models', self._models)
        app.router.add_get('/stats', self._stats)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        """The one model."""
        return web.json_response(dict(object='list', data=[dict(id=MODEL, object='model')]))

    async def _stats(self, request: web.Request) -> web.Response:
        """Counts and the number of different questions."""
        return web.json_response(dict(counts=self.counts, questions=len(self.asked)))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        """Answers or fails."""
        body = await request.json()
        question = question_key(body['messages'])
        fault = self.faults.draw(question, self.asked[question])
        if self._key is not None and request.headers.get('Authorization') != f'Bearer {self._key}':
            fault = 'unauthorized'
        self.arrivals.append(time.monotonic())
        self.bodies.append(body)
        self.asked[question] += 1
        self.counts.update(['calls', *([fault] if fault else [])])
        await asyncio.sleep(self.latency + self.faults.slow_seconds * (fault == 'slow'))
        if fault in ('', 'slow', 'empty'):
            text = None if fault == 'empty' else self.answer(body['messages'])
            self.counts['ok'] += 1
            return web.json_response(completion(body, text))
        if fault in ('dropped', 'bad_json'):
            whole = json.dumps(completion(body, self.answer(body['messages']))).encode()
            return await self._half(request, whole, drop=fault == 'dropped')
        return self._error(fault)

    async def _half(self, request: web.Request, whole: bytes, drop: bool) -> web.StreamResponse:
        """Half of an answer; dropped: the header promises all of it."""
        response = web.StreamResponse(headers={'Content-Type': 'application/json'})
        response.content_length = len(whole) if drop else len(whole) // 2
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
        if drop and request.transport is not None:
            request.transport.close()
        return response

    def _error(self, fault: str) -> web.Response:
        """An answer with an error in it."""
        status, code, message = _ERRORS[fault]
        headers = {}
        if fault == 'rate_limited':
            seconds = self.faults.retry_after
            date = formatdate(time.time() + seconds, usegmt=True)
            headers['Retry-After'] = date if self.faults.retry_after_date else str(seconds)
        error = dict(message=message, type=code, code=code)
        return web.json_response(dict(error=error), status=status, headers=headers)


_ERRORS = dict(
    rate_limited=(429, 'rate_limit_exceeded', 'too many calls'),
    server_error=(500, 'server_error', 'something broke'),
    unavailable=(503, 'server_error', 'busy'),
    unauthorized=(401, 'invalid_api_key', 'this key is not known'),
    too_long=(400, 'context_length_exceeded', 'the question is longer than the context'),
)


def question_key(messages: Sequence[Message]) -> str:
    """Key under which calls of a question are counted."""
    return json.dumps(list(messages), sort_keys=True)


def completion(body: dict[str, Any], text: str | None) -> dict[str, Any]:
    """Body of an answer to the body of a request."""
    most = body.get('max_tokens') or body.get('max_completion_tokens')
    words = [] if text is None else text.split(' ')
    cut = most is not None and len(words) > most
    if cut:
        words = words[:most]
    prompt = sum(len(each['content'].split(' ')) for each in body['messages'])
    message = dict(role='assistant', content=None if text is None else ' '.join(words))
    return dict(
        id='rehearsal',
        object='chat.completion',
        created=0,
        model=body.get('model', MODEL),
        choices=[dict(index=0, message=message, finish_reason='length' if cut else 'stop')],
        usage=dict(
            prompt_tokens=prompt,
            completion_tokens=len(words),
            total_tokens=prompt + len(words),
        ),
    )


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--port', type=int, default=0, help='0: a free one')
    parser.add_argument('--latency', type=float, default=0.0, help='seconds of every answer')
    for name, kind in Faults.names().items():
        option = f'--{name.replace("_", "-")}'
        if kind is bool:
            parser.add_argument(option, action='store_true')
        else:
            parser.add_argument(option, type=kind, default=getattr(Faults, name))
    return parser.parse_args(argv)


async def serve(args: argparse.Namespace) -> None:
    """Serves until it is ended; prints its address first."""
    faults = Faults(**{name: getattr(args, name) for name in Faults.names()})
    async with FaultyServer(echo, faults, latency=args.latency, port=args.port) as server:
        print(server.base_url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serves; a mistake of the user's is one line and status 2."""
    try:
        asyncio.run(serve(parse_args()))
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()
