"""Tables of numbers and words with classes, scaled and numbered by their training rows alone."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.datasets.column_cache import cached_columns
from mmkd.datasets.columns import Layout, Table
from mmkd.datasets.tables import Column
from mmkd.registry import DATASETS

SPLITS = ('train', 'val', 'test')
PARTS = ('teacher', 'student')
UNKNOWN, MISSING, FIRST = 0, 1, 2
"""Ids of words that the training rows lack or have too rarely, of empty fields, of the others."""


def split_rows(
    count: int,
    split: str,
    shares: Sequence[float] = (0.72, 0.08, 0.2),
    seed: int = 0,
    part: str | None = None,
    teacher_share: float = 0.7,
) -> np.ndarray:
    """Rows of a split of one table, drawn at random.

    The default is the protocol of TGeo-KD (arXiv:2312.15112) on 100 000 rows of Criteo: 20 000 to
    test; of 72 000 to train and 8 000 to validate, 50 400 and 5 600 are the teacher's.

    Args:
        count: rows of the table.
        split: ``train``, ``val`` or ``test``.
        shares: of the three; their sum is 1.
        seed: of the order in which rows are dealt.
        part: ``teacher`` or ``student``, of train and val; None: both.
        teacher_share: of a split that is the teacher's, in (0, 1).

    Returns:
        Sorted numbers of rows; splits and parts have none in common.

    Raises:
        UserError: another split or part, shares that do not add up, or no row.
    """
    if split not in SPLITS:
        raise UserError(f'split must be one of {list(SPLITS)}, got {split!r}')
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise UserError(f'shares of train, val and test must add up to 1, got {list(shares)}')
    bounds = [0, *(round(count * each) for each in np.cumsum(shares))]
    place = SPLITS.index(split)
    rows = np.random.default_rng(seed).permutation(count)[bounds[place] : bounds[place + 1]]
    if part is not None:
        if part not in PARTS or split == 'test':
            raise UserError(f'part is teacher or student of train or val, got {part!r} of {split}')
        if not 0 < teacher_share < 1:
            raise UserError(f'teacher_share must be between 0 and 1, got {teacher_share}')
        border = round(teacher_share * len(rows))
        rows = rows[:border] if part == 'teacher' else rows[border:]
    if not len(rows):
        raise UserError(f'{split} of {count} rows with shares {list(shares)} is empty')
    return np.sort(rows)


@dataclass(frozen=True)
class Statistics:
    """What the training rows say.

    Attributes:
        offset: of every numeric column, ``(n,)``.
        scale: alike; ``(x - offset) / scale`` is what a network sees.
        ids: number of every word of every categorical column, from 2.
    """

    offset: np.ndarray
    scale: np.ndarray
    ids: list[dict[str, int]]


def fit_statistics(
    table: Table, rows: np.ndarray, scaling: str | None = 'minmax', min_count: int = 1
) -> Statistics:
    """Scales of numbers and ids of words.

    Args:
        table: with these rows and others.
        rows: numbers of the rows that count.
        scaling: ``minmax``: to [0, 1]; ``standard``: mean 0 and deviation 1; None: as they are.
            What is infinite or no number does not count; a constant column is only moved.
        min_count: rows that must have a word for it to get an id.

    Raises:
        UserError: another scaling.
    """
    numeric = table.numeric[rows]
    finite = np.isfinite(numeric)
    offset, scale = np.zeros(numeric.shape[1]), np.ones(numeric.shape[1])
    if scaling == 'minmax':
        some = finite.any(0)
        offset = np.where(some, numeric.min(0, where=finite, initial=np.inf), 0)
        scale = np.where(some, numeric.max(0, where=finite, initial=-np.inf), 0) - offset
    elif scaling == 'standard':
        counts = np.maximum(finite.sum(0), 1)
        offset = numeric.sum(0, where=finite) / counts
        apart = np.where(finite, numeric, offset) - offset
        scale = np.sqrt(np.square(apart).sum(0) / counts)
    elif scaling is not None:
        raise UserError(f'scaling must be minmax, standard or None, got {scaling!r}')
    ids = []
    for column, words in enumerate(table.words):
        counts = np.bincount(table.codes[rows, column], minlength=len(words))
        kept = sorted(w for w, n in zip(words, counts, strict=True) if n >= max(min_count, 1) and w)
        ids.append({word: number for number, word in enumerate(kept, start=FIRST)})
    return Statistics(offset, np.where(scale == 0, 1.0, scale), ids)


def hashed(words: Iterable[str], buckets: int) -> dict[str, int]:
    """Ids of words by a hash, which is the same on every machine.

    Args:
        words: of a column.
        buckets: number of ids.
    """
    return {word: FIRST + zlib.crc32(word.encode()) % buckets for word in words}


@DATASETS.register_module()
class TabularDataset(Dataset):
    """Rows of a CSV file as numbers and ids of words, kept in memory.

    A sample is ``dict(inputs=dict(numeric, categories), labels)``: ``(n,)`` float, ``(c,)`` ids,
    and the class; what a table has no column of is left out. ``metainfo`` has the count
    ``numeric``, ``cardinalities`` of the categorical columns, and ``classes``.

    An empty number is 0, an empty word has the id 1; a word that the training rows do not have, or
    fewer than min_count times, has 0. What is infinite or no number becomes 0 after the scaling.

    Args:
        path: of the table, see :func:`mmkd.datasets.columns.read_columns`.
        label: column of the class.
        labels: names of the classes or integers in the order of the network's outputs, as they
            stand in the table.
        numeric: columns of numbers; None: all that are neither label nor categorical.
        categorical: columns of words.
        header: whether the first line names the columns.
        delimiter: between columns.
        split: ``train``, ``val`` or ``test``, see :func:`split_rows`; None: all rows.
        shares: see there.
        seed: see there.
        part: see there.
        teacher_share: see there.
        fit_path: table whose rows give scales and ids, for files that are divided already; None:
            this one.
        fit_rows: which of its rows: ``train``, those of that split with the same shares and seed,
            or ``all``; None: ``train`` if a split is given, else ``all``. Statistics are of teacher
            and student together, so that both see the same inputs.
        scaling: see :func:`fit_statistics`.
        min_count: see there.
        buckets: words with an id get one of so many by a hash instead, so that cardinalities are
            known before the table is read: ``2 + buckets`` for every categorical column.
        cache_dir: folder in which what was read is kept for the next time.
        data_root: folder of all files that are not absolute.

    Raises:
        UserError: see :func:`read_columns`, :func:`split_rows` and :func:`fit_statistics`.
    """

    def __init__(
        self,
        path: str,
        label: Column,
        labels: Sequence[str | int],
        numeric: Sequence[Column] | None = None,
        categorical: Sequence[Column] = (),
        header: bool = True,
        delimiter: str = ',',
        split: str | None = 'train',
        shares: Sequence[float] = (0.72, 0.08, 0.2),
        seed: int = 0,
        part: str | None = None,
        teacher_share: float = 0.7,
        fit_path: str | None = None,
        fit_rows: str | None = None,
        scaling: str | None = 'minmax',
        min_count: int = 1,
        buckets: int | None = None,
        cache_dir: str | None = None,
        data_root: str = '',
    ) -> None:
        if buckets is not None and buckets < 1:
            raise UserError(f'buckets must be at least 1, got {buckets}')
        if fit_rows not in ('train', 'all', None):
            raise UserError(f'fit_rows must be train, all or None, got {fit_rows!r}')
        if split is None and part is not None:
            raise UserError(f'part {part!r} needs a split')
        numeric = None if numeric is None else tuple(numeric)
        names = tuple(map(str, labels))
        layout = Layout(label, names, numeric, tuple(categorical), header, delimiter)
        self.path = Path(data_root, path)
        source = self.path if fit_path is None else Path(data_root, fit_path)
        table = fitted = cached_columns(source, layout, cache_dir)
        if source != self.path:
            # columns by the names of the fitted file, in whatever order this one has them
            layout = replace(layout, numeric=tuple(fitted.names))
            table = cached_columns(self.path, layout, cache_dir)
        seen, rows = np.arange(len(fitted.labels)), np.arange(len(table.labels))
        if fit_rows == 'train' or (fit_rows is None and split is not None):
            seen = split_rows(len(seen), 'train', shares, seed)
        if split is not None:
            rows = split_rows(len(rows), split, shares, seed, part, teacher_share)
        self.statistics = fit_statistics(fitted, seen, scaling, min_count)
        if buckets is not None:
            self.statistics = replace(
                self.statistics,
                ids=[hashed(words, buckets) for words in self.statistics.ids],
            )
        self.numeric = torch.from_numpy(self._scaled(table.numeric[rows]))
        self.categories = torch.from_numpy(self._ids(table, rows))
        self.labels = torch.from_numpy(table.labels[rows])
        self.metainfo: dict[str, Any] = dict(
            classes=names,
            numeric=self.numeric.shape[1],
            cardinalities=[FIRST + (buckets or len(each)) for each in self.statistics.ids],
        )

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Numbers as the network sees them."""
        with np.errstate(invalid='ignore', over='ignore'):
            found = ((values - self.statistics.offset) / self.statistics.scale).astype(np.float32)
        wrong = ~np.isfinite(found)
        if wrong.any():
            message = f'{self.path}: {wrong.sum()} numbers are infinite or none at all and count as'
            print_log(f'{message} 0 after the scaling', 'current', logging.WARNING)
        return np.where(wrong, np.float32(0), found)

    def _ids(self, table: Table, rows: np.ndarray) -> np.ndarray:
        """Words by their numbers."""
        found = np.empty((len(rows), len(table.words)), np.int64)
        for column, (words, ids) in enumerate(zip(table.words, self.statistics.ids, strict=True)):
            numbers = [ids.get(word, UNKNOWN) if word else MISSING for word in words]
            found[:, column] = np.array(numbers)[table.codes[rows, column]]
        return found

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        inputs = dict(numeric=self.numeric[index], categories=self.categories[index])
        inputs = {name: values for name, values in inputs.items() if len(values)}
        return dict(inputs=inputs, labels=int(self.labels[index]))


@DATASETS.register_module()
class CriteoDataset(TabularDataset):
    """Clicks as Criteo publishes them: no header, tabs, the label, 13 numbers, 26 words.

    Args:
        path: such as ``dac_sample.txt``.
        options: of :class:`TabularDataset`.
    """

    def __init__(self, path: str, **options: Any) -> None:
        layout = dict(label=0, labels=(0, 1), numeric=range(1, 14), categorical=range(14, 40))
        super().__init__(path, **{**layout, 'header': False, 'delimiter': '\t', **options})
