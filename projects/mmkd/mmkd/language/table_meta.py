"""What a table of tokens says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmdistill.core.errors import UserError
from mmkd.language.tokenize import RowEncoder, tokenizer_digest

VERSION = 1


@dataclass(frozen=True)
class TableMeta:
    """What ``meta.json`` says.

    Attributes:
        tokenizer: see :func:`mmkd.language.tokenize.tokenizer_digest`.
        tokenizer_name: for people to read.
        template: see ``describe`` of the template.
        max_len: tokens of an example at most.
        over_length: see :class:`mmkd.language.tokenize.RowEncoder`.
        counts: alike.
        sha256: of the examples, see :class:`mmkd.language.tokenize.RowEncoder`.
        source: where the examples come from, with a hash of each file.
        version: of the format.
    """

    tokenizer: str
    tokenizer_name: str
    template: dict[str, Any]
    max_len: int
    over_length: str
    counts: dict[str, int]
    sha256: str
    source: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION


def meta_of(encoder: RowEncoder, source: Mapping[str, Any] | None = None) -> TableMeta:
    """Meta data of what an encoder has made.

    Args:
        encoder: that is through.
        source: see :class:`TableMeta`.

    Raises:
        UserError: it has kept no example.
    """
    counts = dict(encoder.counts)
    if not counts['kept']:
        told = ', '.join(f'{count} {name}' for name, count in counts.items() if count)
        raise UserError(f'no example is left to learn from ({told or "none was read"})')
    prompts = encoder.prompts
    return TableMeta(
        tokenizer_digest(prompts.tokenizer),
        str(prompts.tokenizer.name_or_path),
        prompts.template.describe(prompts.tokenizer),
        encoder.max_len,
        encoder.over_length,
        counts,
        encoder.sha256,
        json.loads(json.dumps(source or {})),
    )
