"""What a user says of an endpoint. A key has no place in it: configs end up in checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from yarl import URL

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.teachers.chat_api import OWN_KEYS

_SECRET = re.compile(
    r'(api|access|secret|subscription)[-_]?key|^key$|secret|passw|credential|^auth|[-_]auth'
    r'|bearer|^headers?$|[-_]headers$|^(.*[-_])?token$|^sig(nature)?$',
    re.IGNORECASE,
)
_VARIABLE = re.compile(r'[A-Z_][A-Z0-9_]*')


def refuse_secrets(names: Iterable[str], where: str) -> None:
    """Refuses names of arguments that hold a key.

    Raises:
        UserError: there is one; its value is not in the message.
    """
    for name in names:
        if _SECRET.search(str(name)) and name != 'api_key_env':
            raise UserError(
                f'{where}: {name} is refused, because configs are written into logs and '
                'checkpoints: put the key into an environment variable and give its name as '
                'api_key_env'
            )


class EndpointOptions(BaseModel):
    """An endpoint with the chat completions of OpenAI's interface.

    Attributes:
        id: alias that is written to every row.
        base_url: up to and without ``/chat/completions``; a query is kept.
        model: its name there; empty: that of the teacher.
        api_key_env: name of the environment variable with the key; None: no key.
        connect_timeout: seconds.
        read_timeout: seconds without a byte.
        max_concurrency: calls side by side.
        rpm: calls of a minute; None: any number.
        tpm: tokens of a minute; None: any number.
        extra_body: further keys of every request; no part of a row's key, a run refuses others.
        token_name: of the bound on an answer; newer models want ``max_completion_tokens``.
        prompt_price: of 1000 tokens.
        completion_price: of 1000 tokens.
    """

    model_config = ConfigDict(extra='forbid', frozen=True, hide_input_in_errors=True)

    id: str = Field(min_length=1)
    base_url: str
    model: str = ''
    api_key_env: str | None = None
    connect_timeout: float = Field(10.0, gt=0)
    read_timeout: float = Field(120.0, gt=0)
    max_concurrency: int = Field(8, gt=0)
    rpm: int | None = Field(None, gt=0)
    tpm: int | None = Field(None, gt=0)
    extra_body: dict[str, Any] = {}
    token_name: Literal['max_tokens', 'max_completion_tokens'] = 'max_tokens'
    prompt_price: float = Field(0.0, ge=0)
    completion_price: float = Field(0.0, ge=0)

    @field_validator('base_url')
    @classmethod
    def _plain_address(cls, value: str) -> str:
        """No address without a host, and none with a password or a key."""
        url = URL(value)
        if url.scheme not in ('http', 'https') or not url.host:
            raise ValueError('is to begin with http:// or https:// and a host')
        if url.user or url.password or any(_SECRET.search(name) for name in url.query):
            raise ValueError('holds a password or a key; use api_key_env')
        return value

    @field_validator('api_key_env')
    @classmethod
    def _variable(cls, value: str | None) -> str | None:
        """The name of a variable; a key itself would look otherwise and is not repeated."""
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ValueError(
                'is to be the name of an environment variable in capitals, not the key itself'
            )
        return value

    @field_validator('extra_body')
    @classmethod
    def _free_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        """No key of a body that the sampling decides: rows would not tell of it."""
        for name in value:
            if name in OWN_KEYS:
                raise ValueError(f'{name} is decided by the question and its sampling')
        return value

    @property
    def address(self) -> URL:
        """Where requests go."""
        url = URL(self.base_url)
        return (url / 'chat/completions').with_query(url.query)

    def key(self) -> SecretStr | None:
        """The key, from the environment.

        Raises:
            UserError: the variable is not set, or its value fits no header.
        """
        if self.api_key_env is None:
            return None
        value = os.environ.get(self.api_key_env, '').strip()
        if not value.isascii() or not value.isprintable() or not value:
            what = 'is not set' if not value else 'holds characters that no header can hold'
            raise UserError(
                f'endpoint {self.id!r}: the environment variable {self.api_key_env} {what}: '
                'put the key into it'
            )
        return SecretStr(value)


def read_options(given: Mapping[str, Any], default_id: str) -> EndpointOptions:
    """Options of an endpoint.

    Args:
        given: as a config has them.
        default_id: alias where it has none.

    Raises:
        UserError: an unknown key, a value of another type, or anything like a key.
    """
    options = {'id': default_id, **given}
    where = f'endpoint {options["id"]!r}'
    refuse_secrets(options, where)
    extra = options.get('extra_body')
    refuse_secrets(extra if isinstance(extra, Mapping) else (), f'{where}: extra_body')
    try:
        return EndpointOptions(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = '.'.join(str(each) for each in first['loc'])
        if first['type'] == 'extra_forbidden':
            known = sorted(EndpointOptions.model_fields)
            raise UserError(
                f'{where}: unknown key {name!r}{did_you_mean(name, known)}; known: {known}'
            ) from None
        raise UserError(f'{where}: {name}: {first["msg"].removeprefix("Value error, ")}') from None
