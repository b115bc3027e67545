"""Bodies of the chat completions of OpenAI's interface: what is sent, and what comes back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmkd.teachers.base import Reply
from mmkd.teachers.retry import CallFailed, Kind
from mmkd.traces.schema import Message, Sampling, Usage

OWN_KEYS = frozenset(
    {'model', 'messages', 'n', 'stream', 'temperature', 'top_p', 'seed', 'stop'}
    | {'max_tokens', 'max_completion_tokens'}
)
"""Keys of a body that follow from the question and its sampling."""
BYTES_PER_TOKEN = 3
"""Of UTF-8: fewer than English has, so that prompts are rather taken for too long."""
TOKENS_PER_MESSAGE = 8
UNKNOWN_ANSWER = 1024
"""Tokens of an answer without a bound, until the endpoint tells."""


def request_body(
    model: str,
    messages: Sequence[Message],
    sampling: Sampling,
    token_name: str = 'max_tokens',
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Body of a request; what the sampling leaves open is not in it.

    Args:
        model: name that the endpoint knows.
        messages: role and content.
        sampling: how the answer is drawn.
        token_name: ``max_tokens`` or ``max_completion_tokens``.
        extra: further keys.
    """
    body = {**(extra or {}), 'model': model, 'messages': list(messages)}
    wishes = sampling.model_dump(exclude_none=True)
    stop = list(wishes.pop('stop'))
    if 'max_tokens' in wishes:
        wishes[token_name] = wishes.pop('max_tokens')
    return {**body, **wishes, **(dict(stop=stop) if stop else {})}


def expected_tokens(messages: Sequence[Message], sampling: Sampling) -> tuple[int, int]:
    """Tokens of the prompt, guessed from its bytes, and the most that the answer may have."""
    size = sum(len(each['content'].encode(errors='replace')) for each in messages)
    prompt = math.ceil(size / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages)
    return prompt, sampling.max_tokens or UNKNOWN_ANSWER


def read_reply(raw: bytes) -> Reply:
    """Text, reason of the end and usage of the body of an answer.

    An answer without text is one with an empty text. Halves of surrogate pairs, which no file in
    UTF-8 can hold, become question marks.

    Raises:
        CallFailed: no JSON, or not of this form; worth another call.
    """
    try:
        body = json.loads(raw)
        choice = body['choices'][0]
        text, reason = choice['message'].get('content'), choice.get('finish_reason')
        if not isinstance(text, (str, type(None))):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise CallFailed(Kind.RETRY, 'the answer is no chat completion in JSON', 200) from None
    return Reply(
        text=(text or '').encode(errors='replace').decode(),
        finish_reason=str(reason or ''),
        usage=read_usage(body.get('usage')),
    )


def read_usage(told: Any) -> Usage:
    """Tokens as an endpoint tells them; zeros where it does not."""
    told = told if isinstance(told, Mapping) else {}
    prompt, completion = (
        value if isinstance(value := told.get(f'{name}_tokens'), int) and value > 0 else 0
        for name in ('prompt', 'completion')
    )
    return Usage(prompt=prompt, completion=completion, total=prompt + completion)


def read_error(raw: bytes) -> dict[str, Any]:
    """``message``, ``code`` and ``type`` of the body of an error, as far as it has them."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    error = body.get('error', body) if isinstance(body, dict) else {}
    if isinstance(error, str):
        return dict(message=error)
    return error if isinstance(error, dict) else {}
