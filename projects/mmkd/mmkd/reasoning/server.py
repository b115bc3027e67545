"""A local endpoint with OpenAI's chat completions, behind which the world's teachers answer.

``python -m mmkd.reasoning.server --port 0`` prints its address, which ends in ``/v1``.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from mmdistill.core.errors import UserError, run_tool
from mmkd.reasoning.personas import PERSONAS, PREFIX, faults_of, persona_of
from mmkd.reasoning.reply import world_reply
from mmkd.reasoning.vocabulary import Vocabulary
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Sampling, digest

Rates = Mapping[str, Mapping[str, float]]
"""Shares of faults by persona and name."""


class _Turn(BaseModel):
    """A message; further keys do not count."""

    role: str
    content: str


class _Body(BaseModel):
    """The keys of a request that count."""

    model: str
    messages: list[_Turn]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    n: int = 1

    def sampling(self) -> Sampling:
        """Bounds of the answer."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        most = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        return Sampling(max_tokens=most, stop=tuple(stop))


def make_app(seed: int = 0, rates: Rates | None = None) -> web.Application:
    """The endpoint as an application of aiohttp.

    Args:
        seed: of the faults.
        rates: shares of faults; what is not in it has none.

    Raises:
        UserError: an unknown persona or fault.
    """
    for persona in rates or {}:
        persona_of(persona)
    faults = {persona: faults_of((rates or {}).get(persona)) for persona in PERSONAS}
    vocabulary = Vocabulary()

    async def models(request: web.Request) -> web.Response:
        """Names of the models."""
        found = [dict(id=f'{PREFIX}{each}', object='model', owned_by='mmkd') for each in PERSONAS]
        return web.json_response(dict(object='list', data=found))

    async def complete(request: web.Request) -> web.Response:
        """An answer."""
        try:
            body = _Body.model_validate_json(await request.read())
            sampling = body.sampling()
        except ValidationError as error:
            first = error.errors()[0]
            key = '.'.join(map(str, first['loc']))
            return _refused(400, f'{key}: {first["msg"]}', 'invalid_value')
        if body.stream or body.n != 1:
            return _refused(400, 'stream and n above 1 are not offered', 'unsupported_value')
        persona = body.model.removeprefix(PREFIX)
        if body.model != f'{PREFIX}{persona}' or persona not in PERSONAS:
            return _refused(404, f'there is no model {body.model!r}', 'model_not_found')
        messages = [turn.model_dump() for turn in body.messages]
        reply = world_reply(persona, messages, sampling, seed, faults[persona], vocabulary)
        return web.json_response(_completion(body.model, messages, reply))

    app = web.Application()
    app.router.add_get('/v1/models', models)
    app.router.add_post('/v1/chat/completions', complete)
    return app


def read_rates(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Shares from texts of the form ``strong.wrong_step=0.1``.

    Raises:
        UserError: another form.
    """
    found: dict[str, dict[str, float]] = {}
    for text in texts:
        name, _, share = text.partition('=')
        persona, _, fault = name.partition('.')
        try:
            found.setdefault(persona, {})[fault] = float(share)
        except ValueError:
            raise UserError(
                f'--persona-faults {text}: write PERSONA.FAULT=SHARE, strong.wrong_step=0.1 say'
            ) from None
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until it is told to end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--host', default='127.0.0.1')
    parser.add_argument('--port', type=int, default=0, help='0: a free one')
    parser.add_argument('--seed', type=int, default=0, help='of the faults')
    parser.add_argument(
        '--persona-faults',
        nargs='+',
        default=[],
        metavar='PERSONA.FAULT=SHARE',
        help='strong.cut=.1',
    )
    args = parser.parse_args(argv)
    app = make_app(args.seed, read_rates(args.persona_faults))
    asyncio.run(_serve(app, args.host, args.port))


async def _serve(app: web.Application, host: str, port: int) -> None:
    """Prints the address, and ends at a signal."""
    over = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, over.set)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        print(f'http://{host}:{runner.addresses[0][1]}/v1', flush=True)
        await over.wait()
    finally:
        await runner.cleanup()


def _completion(model: str, messages: list[dict[str, str]], reply: Reply) -> dict[str, Any]:
    """Body of an answer."""
    usage = reply.usage
    return dict(
        id=f'chatcmpl-{digest([model, messages])}',
        object='chat.completion',
        created=0,
        model=model,
        choices=[
            dict(
                index=0,
                message=dict(role='assistant', content=reply.text),
                finish_reason=reply.finish_reason,
            )
        ],
        usage=dict(
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            total_tokens=usage.total,
        ),
    )


def _refused(status: int, message: str, code: str) -> web.Response:
    """Body of an error."""
    error = dict(message=message, type='invalid_request_error', code=code)
    return web.json_response(dict(error=error), status=status)


if __name__ == '__main__':
    run_tool(main)
