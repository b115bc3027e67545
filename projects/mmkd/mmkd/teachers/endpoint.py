"""One endpoint: its session, its limits, and what was spent at it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp

from mmkd.teachers.base import Reply
from mmkd.teachers.chat_api import read_error, read_reply
from mmkd.teachers.endpoint_options import EndpointOptions
from mmkd.teachers.rate_limit import Concurrency, Limits
from mmkd.teachers.retry import CallFailed, Kind, failure


@dataclass
class Spent:
    """What the answers of an endpoint took.

    Attributes:
        calls: that were made, failed ones among them.
        prompt: tokens of answered calls.
        completion: tokens of answered calls.
        cost: by the prices that the user gave.
    """

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cost: float = 0.0


class Endpoint:
    """Makes calls at an address; :meth:`open` and :meth:`close` go round them.

    Args:
        options: see :class:`EndpointOptions`.

    Attributes:
        limits: of a minute.
        calls: side by side.
        denied: calls that the endpoint denied since it last answered one.
        spent: see :class:`Spent`.
    """

    def __init__(self, options: EndpointOptions) -> None:
        self.options = options
        self.limits = Limits(options.rpm, options.tpm)
        self.calls = Concurrency(options.max_concurrency)
        self.denied, self.spent = 0, Spent()
        self._key = self._session = None

    async def open(self) -> None:
        """Takes the key from the environment and makes the session.

        Raises:
            UserError: there is no key.
        """
        options, self._key = self.options, self.options.key()
        headers = {'Content-Type': 'application/json'}
        if self._key is not None:
            headers['Authorization'] = f'Bearer {self._key.get_secret_value()}'
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=options.max_concurrency),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Closes the session and forgets the key."""
        session, self._key, self._session = self._session, None, None
        if session is not None:
            await session.close()

    async def call(self, body: dict[str, Any], seconds: float) -> Reply:
        """The answer of one call.

        Args:
            body: of the request.
            seconds: that it may take altogether.

        Raises:
            CallFailed: there is none.
        """
        self.spent.calls += 1
        try:
            status, headers, raw = await self._post(body, seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise CallFailed(Kind.RETRY, 'no answer in time', crowded=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise CallFailed(Kind.RETRY, type(error).__name__) from None
        if status != 200:
            raise failure(status, self._without_key(read_error(raw)), headers)
        reply = read_reply(raw)
        self._count(reply)
        return reply

    async def _post(self, body: dict[str, Any], seconds: float) -> tuple[int, Any, bytes]:
        """Status, headers and body of the answer; a redirection is not followed."""
        options = self.options
        timeout = aiohttp.ClientTimeout(
            total=seconds, sock_connect=options.connect_timeout, sock_read=options.read_timeout
        )
        posting = self._session.post(
            options.address, json=body, timeout=timeout, allow_redirects=False
        )
        async with posting as response:
            return response.status, response.headers, await response.read()

    def _count(self, reply: Reply) -> None:
        """Adds what an answer took."""
        usage, options, spent = reply.usage, self.options, self.spent
        spent.prompt += usage.prompt
        spent.completion += usage.completion
        price = usage.prompt * options.prompt_price + usage.completion * options.completion_price
        spent.cost += price / 1000

    def _without_key(self, error: dict[str, Any]) -> dict[str, Any]:
        """An endpoint's message, should it repeat the key."""
        if self._key is None or 'message' not in error:
            return error
        hidden = str(error['message']).replace(self._key.get_secret_value(), '***')
        return {**error, 'message': hidden}
