"""A filter of traces that share long runs of words with what a model is evaluated on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.core.errors import UserError
from mmkd.registry import TRACE_FILTERS
from mmkd.traces.filters.base import EachFilter
from mmkd.traces.ngrams import ngram_hashes, words
from mmkd.traces.rows import PARQUET, read_records
from mmkd.traces.schema import Trace

UNREAD = frozenset({'system_text'})
"""Fields of evaluation files that are no part of a question."""
EXAMPLES = 5


@TRACE_FILTERS.register_module()
class Contaminated(EachFilter):
    """Objects to a question or answer that shares a run of n words, ``filtered:contamination``.

    Words count without case and marks. Texts of less than n words cannot be found; the report says
    how many there are. Runs of 13 words are those of GPT-3's analysis (arXiv:2005.14165).

    Args:
        files: of evaluations: JSON, JSON lines, Parquet or plain text, or folders of such. Every
            text in them counts, but for ``system_text``.
        n: words of a run.

    Raises:
        UserError: there is no such file, it cannot be read, or it has no text of n words.
    """

    rule = 'contamination'

    def __init__(self, files: Sequence[str], n: int = 13) -> None:
        if isinstance(files, (str, Path)) or not files:
            raise UserError(f'files: must be a list of evaluation files, got {files!r}')
        if n < 1:
            raise UserError(f'n must be at least 1, got {n}')
        self.n = n
        self.files: list[dict[str, Any]] = []
        self.checked = 0
        self.hits: Counter[int] = Counter()
        self.examples: dict[int, list[str]] = {}
        self.runs, self.owners = self._index([*_each_file(files)])

    def objects_to(self, trace: Trace) -> bool:
        """Whether it shares a run, which the report then names."""
        self.checked += 1
        found: set[int] = set()
        for text in (trace.user_text, trace.response_text):
            found.update(self.matches(text))
        for number in found:
            self.hits[number] += 1
            examples = self.examples.setdefault(number, [])
            if len(examples) < EXAMPLES:
                examples.append(trace.source_uid)
        return bool(found)

    def matches(self, text: str) -> list[int]:
        """Numbers of the files that a text shares a run with.

        A run that several files have belongs to the first of them.

        Args:
            text: of any length.
        """
        runs = ngram_hashes(text, self.n)
        places = np.searchsorted(self.runs, runs).clip(max=len(self.runs) - 1)
        return np.unique(self.owners[places[self.runs[places] == runs]]).tolist()

    def report(self) -> dict[str, Any]:
        """What was compared and found.

        ``n``; ``checked`` traces; ``files``, of each: ``file``, ``texts``, ``too_short`` of them,
        ``runs``, ``traces`` that share one and the ``source_uid`` of some, ``examples``.
        """
        files = [
            dict(about, traces=self.hits[number], examples=self.examples.get(number, []))
            for number, about in enumerate(self.files)
        ]
        return dict(n=self.n, checked=self.checked, files=files)

    def _index(self, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
        """Runs ``(R,)``, sorted, and the numbers of their files ``(R,)``."""
        runs = []
        for path in paths:
            texts = list(evaluation_texts(path))
            short = sum(len(words(each)) < self.n for each in texts)
            own = [ngram_hashes(each, self.n) for each in texts]
            runs.append(np.unique(np.concatenate([np.zeros(0, np.uint64), *own])))
            about = dict(texts=len(texts), too_short=short, runs=len(runs[-1]))
            self.files.append(dict(file=str(path), **about))
        owners = np.repeat(np.arange(len(runs)), [len(each) for each in runs])
        found, first = np.unique(np.concatenate(runs), return_index=True)
        if not len(found):
            raise UserError(f'{paths[0]}: no text of the evaluation files has {self.n} words')
        return found, owners[first]


def evaluation_texts(path: Path) -> Iterator[str]:
    """Texts of an evaluation file, at any depth.

    Args:
        path: ``.jsonl`` or Parquet: of every row; ``.json``: of the whole; other files: lines.

    Raises:
        UserError: it cannot be read.
    """
    if path.suffix.lower() in ('.jsonl', *PARQUET):
        for _, row in read_records(path, lambda row, place: row):
            yield from _strings(row)
        return
    try:
        content = path.read_text(encoding='utf-8')
        if path.suffix.lower() == '.json':
            yield from _strings(json.loads(content))
            return
    except ValueError as error:
        raise UserError(f'{path}: cannot be read: {error}') from None
    yield from (line for line in content.splitlines() if line.strip())


def _strings(value: Any) -> Iterator[str]:
    """Texts within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if name not in UNREAD:
                yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _each_file(files: Sequence[str]) -> Iterator[Path]:
    """The files, those of folders in the order of their names."""
    for name in files:
        path = Path(name)
        if path.is_dir():
            found = sorted(each for each in path.rglob('*') if each.is_file())
            if not found:
                raise UserError(f'{path}: there is no file in this folder')
            yield from found
        elif path.is_file():
            yield path
        else:
            raise UserError(f'{path}: there is no such evaluation file')
