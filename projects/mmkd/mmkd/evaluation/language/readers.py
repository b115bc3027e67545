"""Benchmarks of language models: BIG-Bench Hard, AGIEval, and queries of your own.

They are for evaluation alone: traces that overlap with them do not belong into a training.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.traces.rows import Place, read_records
from mmkd.traces.schema import Query, read_record

PAIRS = (('True', 'False'), ('Yes', 'No'), ('yes', 'no'))
"""Labels of a task that lists no options, where all of its answers are among them."""


@dataclass(frozen=True)
class Item:
    """A question of a benchmark.

    Attributes:
        task: name.
        uid: unique in the benchmark.
        prompt: what the model reads.
        labels: what an answer may be, letters or words; empty: free text.
        options: their texts.
        target: the right label or text.
        system: system message.
    """

    task: str
    uid: str
    prompt: str
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    target: str = ''
    system: str = ''

    def query(self, benchmark: str = 'own') -> Query:
        """As a query of the sub-collection of that name."""
        return Query(
            source_uid=self.uid,
            sub_collection=benchmark,
            task_name=self.task,
            template_type='zs_opt' if self.labels else 'zs_noopt',
            is_mc=bool(self.labels),
            system_text=self.system,
            user_text=self.prompt,
            target=self.target,
        )


def counts(items: Iterable[Item]) -> dict[str, dict[str, int]]:
    """Of every task the number of questions ``n`` and of those whose answer is a label, ``choice``.

    A few rows of BIG-Bench Hard list options of which none is the target; they count in ``n`` and
    cannot be answered right.
    """
    found: dict[str, Counter] = {}
    for item in items:
        row = found.setdefault(item.task, Counter(n=0, choice=0))
        row.update(n=1, choice=int(item.target in item.labels))
    return {task: dict(row) for task, row in found.items()}


def parse_options(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels and texts of the options that a question lists behind its last ``Options:``.

    Lines ``(A) text`` have letters; lines ``- text`` are their own labels. Both are empty where
    there are none.

    Args:
        text: the question.
    """
    lines = text.rpartition('Options:')[2].strip().splitlines() if 'Options:' in text else []
    lettered = [re.fullmatch(r'\(([A-Z])\)\s*(.*)', line.strip()) for line in lines]
    listed = [re.fullmatch(r'-\s*(.+)', line.strip()) for line in lines]
    if lines and all(lettered):
        labels, texts = zip(*(each.groups() for each in lettered), strict=True)
        if labels == tuple(ascii_uppercase[: len(labels)]):
            return labels, texts
    if lines and all(listed):
        texts = tuple(each[1].strip() for each in listed)
        return texts, texts
    return (), ()


def read_bbh(folder: str | Path, tasks: Sequence[str] | None = None) -> list[Item]:
    """BIG-Bench Hard (arXiv:2210.09261), for evaluation alone.

    Options are those that a question lists; a task that lists none and whose answers are all one
    of :data:`PAIRS` has these, and the others are free text.

    Args:
        folder: of files ``TASK.json``, ``{"examples": [{"input", "target"}]}`` each.
        tasks: names; None: all.

    Raises:
        UserError: no such folder or task, or a file of another form.
    """
    files = {path.stem: path for path in sorted(Path(folder).glob('*.json'))}
    if not files:
        raise UserError(f'{folder}: there is no TASK.json in it; name the folder of the tasks')
    for name in tasks or ():
        if name not in files:
            raise UserError(
                f'{folder}: there is no task {name!r}{did_you_mean(name, files)}; '
                f'known: {sorted(files)}'
            )
    return [item for name in (tasks or files) for item in _bbh_task(files[name])]


def _bbh_task(path: Path) -> list[Item]:
    """Questions of a file."""
    content = _json(path)
    rows = content.get('examples') if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise UserError(f'{path}: needs a list "examples" that is not empty')
    for number, row in enumerate(rows):
        _need(row, dict(input=str, target=str), f'{path}: example {number}')
    targets = {row['target'].strip() for row in rows}
    pair = next((each for each in PAIRS if targets <= set(each)), ())
    found = []
    for number, row in enumerate(rows):
        labels, options = parse_options(row['input'])
        if not labels:
            labels = options = pair
        target = _label_or_text(row['target'], labels)
        uid = f'{path.stem}.{number}'
        found.append(Item(path.stem, uid, row['input'], labels, options, target))
    return found


def read_agieval(path: str | Path) -> list[Item]:
    """A task of AGIEval (arXiv:2304.06364), named as the file.

    Args:
        path: a file of JSON lines with ``question`` and, where there are, ``passage`` and
            ``options``; the target is ``label``, a letter, or else ``answer``.

    Raises:
        UserError: no such file, or a line of another form.
    """
    return [item for _, item in read_records(path, _agieval_item)]


def _agieval_item(row: Mapping[str, Any], place: Place) -> Item:
    """The question of a line."""
    _need(row, dict(question=str), str(place))
    task = place.path.stem
    options = _bare_options(row.get('options') or (), str(place))
    labels = tuple(ascii_uppercase[: len(options)])
    target = row.get('label') if options else row.get('answer') or row.get('label')
    if not isinstance(target, str) or (options and target not in labels):
        known = f'one of {"".join(labels)}' if options else 'a text'
        raise UserError(f'{place}: the answer must be {known}, got {target!r}')
    prompt = agieval_prompt(row['question'], options, row.get('passage') or '')
    return Item(task, f'{task}.{place.number}', prompt, labels, options, target)


def agieval_prompt(question: str, options: Sequence[str], passage: str = '') -> str:
    """The prompt of AGIEval without examples, which others' numbers are measured with.

    Args:
        question: text.
        options: texts without letters; none: a question with a free answer.
        passage: read before the question.
    """
    if not options:
        return f'{passage}Q: {question}\nA: The answer is'
    letters = ascii_uppercase[: len(options)]
    listed = ' '.join(f'({letter}){text}' for letter, text in zip(letters, options, strict=True))
    return (
        f'{passage}Q: {question} Answer Choices: {listed}\n'
        f'A: Among A through {letters[-1]}, the answer is'
    )


def read_queries(path: str | Path) -> list[Item]:
    """Questions from rows of :class:`mmkd.traces.schema.Query`; options are those they list.

    Args:
        path: JSON lines, or Parquet; a question without a target has ``''``, which no answer is.

    Raises:
        UserError: no such file, or a line that is no query.
    """

    def item(row: Mapping[str, Any], place: Place) -> Item:
        """The question of a row."""
        return item_of(read_record(Query, json.dumps(row), str(place)))

    return [found for _, found in read_records(path, item)]


def item_of(query: Query) -> Item:
    """A query as a question of a benchmark; the options are those that its text lists."""
    labels, options = parse_options(query.user_text)
    target = _label_or_text(query.target or '', labels)
    return Item(
        query.task_name,
        query.source_uid,
        query.user_text,
        labels,
        options,
        target,
        query.system_text,
    )


def _label_or_text(target: str, labels: Sequence[str]) -> str:
    """A target, without its brackets where it is a label then."""
    bare = target.strip().removeprefix('(').removesuffix(')')
    return bare if bare in labels else target.strip()


def _json(path: Path) -> Any:
    """What a file of JSON holds."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise UserError(f'{path}:{error.lineno}: no JSON: {error.msg}') from None


def _need(row: Any, kinds: dict[str, type], where: str) -> None:
    """Refuses what is no mapping with values of these types."""
    for key, kind in kinds.items():
        value = row.get(key) if isinstance(row, dict) else None
        if not isinstance(value, kind):
            raise UserError(f'{where}: {key!r} must be a {kind.__name__}, got {value!r}')


def _bare_options(options: Any, where: str) -> tuple[str, ...]:
    """Texts of options, ``(A)text`` or ``text`` each, in the order of their letters."""
    found = []
    for letter, option in zip(ascii_uppercase, options, strict=False):
        named = re.match(r'\s*\(([A-Z])\)\s*', option) if isinstance(option, str) else None
        if not isinstance(option, str) or (named and named[1] != letter):
            raise UserError(f'{where}: option {letter} must be a text "({letter})...": {option!r}')
        found.append(option[named.end() :] if named else option)
    return tuple(found)
