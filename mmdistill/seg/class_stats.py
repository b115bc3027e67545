"""How many pixels of every class each label file holds: the statistics file.

One JSON file, made by ``tools/dataset_converters/class_stats.py`` and the converters of
GTA5 and SYNTHIA. The three files of DAFormer's converters (``sample_class_stats.json``,
``sample_class_stats_dict.json`` and ``samples_with_class.json``) are read as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.core.errors import UserError

KIND, VERSION = 'mmdistill class statistics', 1
COMMAND = 'tools/dataset_converters/class_stats.py LABEL_FOLDER --num-classes N --out FILE'


class StatsError(UserError):
    """A statistics file is missing, broken or another dataset's; the message names it."""


@dataclass(frozen=True)
class ClassStats:
    """Pixels per class and label file.

    Attributes:
        files: names of the label files F, relative to their folder or as DAFormer wrote them.
        pixels: (F, C) int64; from DAFormer's files C is one more than the last class that occurs.
    """

    files: tuple[str, ...]
    pixels: np.ndarray

    @property
    def num_classes(self) -> int:
        """C."""
        return self.pixels.shape[1]


def count_labels(label: np.ndarray, num_classes: int, ignore_index: int = 255) -> np.ndarray:
    """Counts the pixels of every class.

    Args:
        label: unsigned integers of any shape.
        num_classes: number of classes C.
        ignore_index: an id that is not counted.

    Returns:
        (C,) int64.

    Raises:
        UserError: an id that is neither a class nor ``ignore_index``.
    """
    counts = np.bincount(label.reshape(-1), minlength=max(num_classes, ignore_index + 1))
    counts[ignore_index] = 0
    if counts[num_classes:].any():
        wrong = num_classes + int(counts[num_classes:].nonzero()[0][0])
        raise UserError(
            f'label id {wrong} is none of the {num_classes} classes and not {ignore_index}'
        )
    return counts[:num_classes].astype(np.int64)


def names_hash(names: Iterable[str]) -> str:
    """SHA-1 of the sorted names, each followed by a line feed (as ``sort | sha1sum``)."""
    return hashlib.sha1(''.join(f'{name}\n' for name in sorted(names)).encode()).hexdigest()


def write_class_stats(path: str | Path, stats: ClassStats, ignore_index: int = 255) -> None:
    """Writes a statistics file, whole or not at all.

    Args:
        path: of the file; its folder is made when missing.
        stats: what is written; files are sorted.
        ignore_index: id that was not counted.
    """
    path = Path(path)
    rows = sorted(zip(stats.files, stats.pixels.tolist(), strict=True))
    content = dict(
        kind=KIND,
        version=VERSION,
        num_classes=stats.num_classes,
        ignore_index=ignore_index,
        num_files=len(rows),
        files_sha1=names_hash(stats.files),
        pixels=stats.pixels.sum(0).tolist(),
        files={name: {str(c): n for c, n in enumerate(row) if n} for name, row in rows},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.part-{os.getpid()}')
    try:
        part.write_text(json.dumps(content) + '\n', encoding='utf-8')
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_class_stats(path: str | Path) -> ClassStats:
    """Reads a statistics file, ours or one of DAFormer's.

    Raises:
        StatsError: the file is missing, empty, cut off, changed, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise StatsError(f'{path}: no such statistics file; make it with {COMMAND}')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise StatsError(
            f'{path}: is empty or no whole JSON file; make it with {COMMAND}'
        ) from error
    try:
        stats = _parse(content)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise StatsError(
            f'{path}: holds no pixel counts of classes ({error}); make it with {COMMAND}'
        ) from error
    if not stats.pixels.any():
        raise StatsError(
            f'{path}: counts no pixel of any class; the labels it was made from are of another '
            f'package or not converted. Then make it with {COMMAND}'
        )
    return stats


def _parse(content: Any) -> ClassStats:
    """Tells the forms apart; wrong ones raise something."""
    if isinstance(content, Mapping) and content.get('kind') == KIND:
        if content['version'] != VERSION:
            raise ValueError(f'version {content["version"]} is not {VERSION}')
        files, count = content['files'], int(content['num_classes'])
        stats = _table(files.keys(), files.values(), count)
        same = stats.pixels.sum(0).tolist() == content['pixels']
        if len(files) != content['num_files'] or names_hash(files) != content['files_sha1']:
            raise ValueError('its list of files was changed')
        if not same:
            raise ValueError('its counts were changed')
        return stats
    if isinstance(content, Sequence):
        rows = [{c: n for c, n in row.items() if c != 'file'} for row in content]
        return _table([row['file'] for row in content], rows)
    if all(isinstance(value, Mapping) for value in content.values()):
        return _table(content.keys(), content.values())
    by_file: dict[str, dict[str, int]] = {}
    for c, entries in content.items():
        for name, pixels in entries:
            by_file.setdefault(name, {})[c] = pixels
    return _table(by_file.keys(), by_file.values())


def _table(
    files: Iterable[str], rows: Iterable[Mapping[str, int]], num_classes: int | None = None
) -> ClassStats:
    """Statistics from one mapping of class to pixels per file."""
    files, rows = tuple(files), list(rows)
    if len(set(files)) != len(files) or not all(isinstance(name, str) for name in files):
        raise ValueError('a file is listed twice or has no name')
    width = num_classes or 1 + max((int(c) for row in rows for c in row), default=0)
    pixels = np.zeros((len(files), width), np.int64)
    for index, row in enumerate(rows):
        for c, n in row.items():
            if not 0 <= int(c) < width or n < 0:
                raise ValueError(f'{n} pixels of class {c}')
            pixels[index, int(c)] = n
    return ClassStats(files, pixels)


def rows_of(stats: ClassStats, paths: Sequence[str]) -> np.ndarray:
    """Finds the label files of a dataset in the statistics.

    A path and a listed name are the same file when their last parts agree; among listed names
    that end alike, the one that agrees with the path in most parts.

    Args:
        stats: the statistics.
        paths: label files of the dataset.

    Returns:
        (len(paths),) rows of ``stats.pixels``, -1 for files that are not listed.

    Raises:
        StatsError: several listed names fit a path equally well.
    """
    by_name: dict[str, list[int]] = {}
    for index, name in enumerate(stats.files):
        by_name.setdefault(os.path.basename(name), []).append(index)
    rows = np.full(len(paths), -1, np.int64)
    for place, path in enumerate(paths):
        found = by_name.get(os.path.basename(path), [])
        if len(found) > 1:
            agree = [_agreement(path, stats.files[index]) for index in found]
            best = max(agree)
            if agree.count(best) > 1:
                twins = [stats.files[i] for i, n in zip(found, agree, strict=True) if n == best]
                raise StatsError(f'{path}: could be {twins[0]} or {twins[1]} of the statistics')
            found = [found[agree.index(best)]]
        if found:
            rows[place] = found[0]
    return rows


def _agreement(a: str, b: str) -> int:
    """Number of parts in which two paths agree, from their ends."""
    pairs = zip(reversed(Path(a).parts), reversed(Path(b).parts), strict=False)
    count = 0
    for x, y in pairs:
        if x != y:
            break
        count += 1
    return count
