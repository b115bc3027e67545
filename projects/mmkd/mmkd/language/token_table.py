"""A table of tokenized examples: a folder of arrays that are mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.core.errors import UserError
from mmkd.language.table_meta import VERSION, TableMeta, meta_of
from mmkd.language.templates import Template, template_of
from mmkd.language.tokenize import RowEncoder, rows_of, tokenizer_digest
from mmkd.traces.schema import KEY_LENGTH, digest

ARRAYS = dict(tokens='<i4', offsets='<i8', prompt_len='<i4', row_keys=f'S{KEY_LENGTH}')
"""Files of a table and their types."""


class TokenTable:
    """Examples as tokens; example ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``.

    Made by :meth:`open` and :meth:`from_texts`, and on disk by
    :func:`mmkd.language.table_writer.write_table`. A table on disk is pickled as the name of its
    folder.

    Attributes:
        tokens: ``(T,)`` int32, of all examples.
        offsets: ``(N + 1,)`` int64.
        prompt_len: ``(N,)`` int32, tokens of the prompts; what follows is learned.
        row_keys: ``(N,)`` bytes.
        meta: of the table.
        folder: where it is; None: in memory.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], meta: TableMeta, folder: Path | None = None
    ) -> None:
        self.tokens, self.offsets = arrays['tokens'], arrays['offsets']
        self.prompt_len, self.row_keys = arrays['prompt_len'], arrays['row_keys']
        self.meta, self.folder = meta, folder

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is not None:
            return TokenTable.open, (self.folder,)
        return TokenTable, ({name: getattr(self, name) for name in ARRAYS}, self.meta)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        tokenizer: Any = None,
        template: str | Mapping[str, Any] | Template | None = None,
    ) -> TokenTable:
        """The table in a folder.

        Args:
            folder: of the table.
            tokenizer: that it must have been made with; None: not checked.
            template: alike; needs the tokenizer.

        Raises:
            UserError: there is no table, a damaged one, or one of another tokenizer or template.
        """
        folder = Path(folder)
        table = cls(*_read(folder), folder)
        if tokenizer is not None:
            table.check(tokenizer, template)
        elif template is not None:
            raise UserError(f'{folder}: give the tokenizer too, to check the template')
        return table

    @classmethod
    def from_texts(
        cls,
        triples: Iterable[Sequence[str]],
        tokenizer: Any,
        template: str | Mapping[str, Any] | Template = 'plain',
        max_len: int = 2048,
        over_length: str = 'drop',
    ) -> TokenTable:
        """A table in memory.

        Args:
            triples: (system, user, response).
            tokenizer: of ``transformers``.
            template: see :func:`mmkd.language.templates.template_of`.
            max_len: tokens of an example at most.
            over_length: see :class:`mmkd.language.tokenize.RowEncoder`.

        Raises:
            UserError: no example is left, or something that does not fit together.
        """
        encoder = RowEncoder(tokenizer, template_of(template), max_len, over_length)
        rows = [each for part in encoder(rows_of(triples)) for each in part]
        meta = meta_of(encoder)
        arrays = dict(
            tokens=np.concatenate([each.tokens for each in rows]),
            offsets=np.cumsum([0, *(len(each.tokens) for each in rows)], dtype=ARRAYS['offsets']),
            prompt_len=np.array([each.prompt_len for each in rows], ARRAYS['prompt_len']),
            row_keys=np.array([each.key for each in rows], ARRAYS['row_keys']),
        )
        return cls(arrays, meta)

    def check(
        self, tokenizer: Any, template: str | Mapping[str, Any] | Template | None = None
    ) -> None:
        """Checks what the table was made with.

        Raises:
            UserError: another tokenizer or template.
        """
        where, meta = self.folder or 'the table', self.meta
        found = tokenizer_digest(tokenizer)
        if found != meta.tokenizer:
            raise UserError(
                f'{where} was made with another tokenizer ({meta.tokenizer_name}, '
                f'{meta.tokenizer[:8]}), asked for is {tokenizer.name_or_path} ({found[:8]}): '
                'tokenize the traces again, or use that tokenizer'
            )
        if template is None:
            return
        described = template_of(template).describe(tokenizer)
        for key in [*described, *meta.template]:
            old, new = meta.template.get(key), described.get(key)
            if old != new:
                raise UserError(
                    f'{where} was made with another template: {key} was {old!r}, asked for is '
                    f'{new!r}; tokenize the traces again, or use that template'
                )

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.prompt_len)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Tokens ``(n,)`` of an example, and how many of them are the prompt."""
        if not 0 <= index < len(self):
            raise IndexError(f'example {index} of {len(self)}')
        return self.tokens[self.offsets[index] : self.offsets[index + 1]], self.prompt_len[index]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, ``(N,)`` int64."""
        return np.diff(self.offsets)

    @property
    def digest(self) -> str:
        """Key of the examples and of how they became tokens."""
        meta = self.meta
        return digest([meta.tokenizer, meta.template, meta.sha256])


def _read(folder: Path) -> tuple[dict[str, np.ndarray], TableMeta]:
    """Arrays and meta data of a folder.

    Raises:
        UserError: they are missing or damaged.
    """
    path = folder / 'meta.json'
    if not path.is_file():
        raise UserError(f'{folder}: there is no table of tokens; make one with tokenize_traces.py')
    try:
        content = json.loads(path.read_text())
        version = dict(content).get('version')
        if version != VERSION:
            raise UserError(f'{folder} has version {version} of the format, not {VERSION}')
        meta = TableMeta(**content)
        rows, tokens = meta.counts['kept'], meta.counts['tokens']
        sizes = dict(tokens=tokens, offsets=rows + 1, prompt_len=rows, row_keys=rows)
        arrays = {name: _mapped(folder / f'{name}.npy', sizes[name]) for name in ARRAYS}
        if arrays['offsets'][-1] != tokens:
            raise ValueError(f'offsets end at {arrays["offsets"][-1]} of {tokens} tokens')
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{folder} is damaged: {error}; remove it and tokenize the traces again'
        ) from error
    return arrays, meta


def _mapped(path: Path, size: int) -> np.ndarray:
    """An array of one dimension, mapped read-only.

    Raises:
        ValueError: it has another type or size.
    """
    array = np.asarray(np.load(path, mmap_mode='r', allow_pickle=False))
    if array.shape != (size,) or array.dtype != np.dtype(ARRAYS[path.stem]):
        raise ValueError(f'{path.name} has {array.dtype} {array.shape}, not {(size,)}')
    return array
