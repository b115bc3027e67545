"""Teachers behind the chat completions of OpenAI's interface."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.teachers.chat_api import expected_tokens, request_body
from mmkd.teachers.endpoint import Endpoint
from mmkd.teachers.endpoint_options import read_options, refuse_secrets
from mmkd.teachers.gate import Gate
from mmkd.teachers.retry import CallFailed, FullJitter, Kind, worth_another
from mmkd.traces.schema import Message, Sampling

logger = logging.getLogger(__name__)
NOTEWORTHY_PAUSE = 60.0
"""Seconds from which on a pause is logged."""


@dataclass
class _Question:
    """A question under way.

    Attributes:
        messages: role and content.
        sampling: how the answer is drawn.
        tokens: expected ones of prompt and answer.
        attempts: calls so far.
        busy: seconds of all calls.
        latency: seconds of the last call.
        endpoint_id: of the last call.
    """

    messages: Sequence[Message]
    sampling: Sampling
    tokens: tuple[int, int]
    attempts: int = 0
    busy: float = 0.0
    latency: float = 0.0
    endpoint_id: str = 'default'

    def seal(self, reply: Reply) -> Reply:
        """The reply with what is known of its calls."""
        return replace(
            reply,
            attempts=self.attempts,
            latency_ms=round(1000 * self.latency),
            endpoint_id=self.endpoint_id,
        )


@TEACHERS.register_module()
class OpenAICompatTeacher:
    """A model that one or several endpoints serve.

    A call waits for the endpoint that is free first within its limits (calls and tokens of a
    minute, calls side by side). A failed call is repeated after a wait with full jitter; a 429, or
    a ``Retry-After``, pauses the whole endpoint. Calls side by side halve where the endpoint is
    crowded and grow back one by one.

    Args:
        name: of the model, part of every row's key.
        endpoints: options of :class:`~mmkd.teachers.endpoint_options.EndpointOptions`, one dict or
            several. Keys of endpoints are named by environment variables alone.
        max_attempts: calls for one question.
        deadline: seconds for one question: its calls and the waits between them. Time that it
            spends waiting for an endpoint's limits or pauses does not count.
        max_denied: denials in a row (401, 402, 403, 404, or no credit) of an endpoint after which
            nothing is asked any more.

    Raises:
        UserError: an option is wrong, or looks like a key.
    """

    def __init__(
        self,
        name: str,
        endpoints: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        max_attempts: int = 8,
        deadline: float = 600.0,
        max_denied: int = 3,
        **other: Any,
    ) -> None:
        refuse_secrets(other, 'OpenAICompatTeacher')
        known = ('name', 'endpoints', 'max_attempts', 'deadline', 'max_denied')
        for key in other:
            raise UserError(
                f'OpenAICompatTeacher: unknown key {key!r}{did_you_mean(key, known)}; known: '
                f'{sorted(known)}; what belongs to an endpoint goes into endpoints'
            )
        for key, value in dict(
            max_attempts=max_attempts, deadline=deadline, max_denied=max_denied
        ).items():
            if value <= 0:
                raise UserError(f'OpenAICompatTeacher: {key}={value}: is to be above 0')
        self.name, self.max_attempts = name, max_attempts
        self.deadline, self.max_denied = deadline, max_denied
        self.endpoints = _endpoints(endpoints)
        # another endpoint of the same kind changes nothing
        kinds = [[each.options.model, each.options.extra_body] for each in self.endpoints]
        self.settings = dict(endpoints=sorted({json.dumps(k, sort_keys=True) for k in kinds}))
        self.concurrency = sum(each.options.max_concurrency for each in self.endpoints)
        self._jitter, self._gate, self._open = FullJitter(), None, AsyncExitStack()

    async def __aenter__(self) -> OpenAICompatTeacher:
        """Opens a session with each endpoint.

        Raises:
            UserError: an environment variable with a key is not set.
        """
        async with AsyncExitStack() as stack:
            for each in self.endpoints:
                await each.open()
                stack.push_async_callback(each.close)
            self._gate, self._open = Gate(self.endpoints), stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Closes the sessions."""
        self._gate = None
        await self._open.aclose()

    def spent(self) -> dict[str, dict[str, float]]:
        """Calls, tokens and cost so far, by alias of the endpoint."""
        return {each.options.id: asdict(each.spent) for each in self.endpoints}

    async def agenerate(self, messages: list[Message], sampling: Sampling) -> Reply:
        """An answer, see :class:`~mmkd.teachers.base.Teacher`."""
        if self._gate is None:
            raise RuntimeError('a teacher answers within "async with teacher" only')
        question = _Question(messages, sampling, expected_tokens(messages, sampling))
        retrying = AsyncRetrying(
            stop=lambda state: self._is_over(question, state),
            wait=self._jitter,
            retry=retry_if_exception(worth_another),
            reraise=True,
        )
        try:
            return question.seal(await retrying(self._call, question))
        except CallFailed as error:
            status = 'too_long' if error.kind is Kind.TOO_LONG else 'failed'
            return question.seal(Reply(status=status, error=error.reason))

    def _is_over(self, question: _Question, state: RetryCallState) -> bool:
        """Whether calls, or time for the coming wait and a call, are used up."""
        used = question.busy + state.idle_for + state.upcoming_sleep
        return state.attempt_number >= self.max_attempts or used >= self.deadline

    async def _call(self, question: _Question) -> Reply:
        """One call, with what follows from its end for the endpoint.

        Raises:
            CallFailed: no answer.
            UserError: the endpoint denies all calls.
        """
        leave = await self._gate.enter(*question.tokens)
        endpoint, start = leave.endpoint, asyncio.get_running_loop().time()
        options = endpoint.options
        question.attempts, question.endpoint_id = question.attempts + 1, options.id
        body = request_body(
            options.model or self.name,
            question.messages,
            question.sampling,
            options.token_name,
            options.extra_body,
        )
        success = crowded = False
        tokens = 0
        try:
            reply = await endpoint.call(body, max(self.deadline - question.busy, 0.001))
            success, tokens, endpoint.denied = True, reply.usage.total, 0
            return reply
        except CallFailed as error:
            crowded = error.crowded
            self._heed(endpoint, error, question.attempts)
            raise
        finally:
            question.latency = asyncio.get_running_loop().time() - start
            question.busy += question.latency
            self._gate.leave(leave, success, crowded, tokens)

    def _heed(self, endpoint: Endpoint, error: CallFailed, attempt: int) -> None:
        """Pauses an endpoint that wants it.

        Raises:
            UserError: it has denied too many calls in a row.
        """
        if error.pauses:
            seconds = error.retry_after or self._jitter.seconds(attempt)
            endpoint.limits.pause_until(asyncio.get_running_loop().time() + seconds)
            if seconds >= NOTEWORTHY_PAUSE:
                logger.warning(
                    'endpoint %r wants no calls for %.0f s', endpoint.options.id, seconds
                )
        if error.kind is Kind.DENIED:
            endpoint.denied += 1
            if endpoint.denied >= self.max_denied:
                raise UserError(_denial(endpoint, error)) from None


def _denial(endpoint: Endpoint, error: CallFailed) -> str:
    """What to do about an endpoint that denies calls."""
    options = endpoint.options
    variable = options.api_key_env
    if error.status == 404:
        remedy = f'check base_url {options.base_url!r} and the name of the model'
    elif variable is None:
        remedy = 'it may want a key: name the environment variable that holds it as api_key_env'
    else:
        remedy = f'check the key in the environment variable {variable} and its account'
    return f'endpoint {options.id!r} denied {endpoint.denied} calls in a row ({error}): {remedy}'


def _endpoints(given: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Endpoint]:
    """Endpoints of a config.

    Raises:
        UserError: none, an alias twice, or a wrong option.
    """
    several = [given] if isinstance(given, Mapping) else list(given)
    if not several:
        raise UserError('OpenAICompatTeacher: endpoints is empty; give one with base_url')
    ids = ['default'] if len(several) == 1 else [f'endpoint{n}' for n in range(len(several))]
    found = [read_options(each, name) for each, name in zip(several, ids, strict=True)]
    names = [each.id for each in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'endpoints: id {name!r} is there twice; give each its own')
    return [Endpoint(each) for each in found]
