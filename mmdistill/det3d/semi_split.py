"""Which training frames have labels: reads published split files, draws nested ones.

A split file holds one labelled frame per line, ``<frame id> <index>``, the
index being the frame's line in ``train.txt`` counted from 0 (the form shared by
the semi-supervised KITTI literature). The index may be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdistill.core.errors import UserError


class SplitError(UserError):
    """A split file does not fit its data set; the message names file, line and value."""


def read_frames(path: str | Path) -> list[int]:
    """Reads the frame ids of an ImageSets file, one per line.

    Raises:
        SplitError: the file is missing, holds no frame, or a line is no frame id.
    """
    return [frame for _, frame, _ in _rows(Path(path))]


def read_split(
    path: str | Path,
    train: Sequence[int] | None = None,
    val: Sequence[int] | None = None,
) -> list[int]:
    """Reads and checks the labelled frames of a split file.

    Args:
        path: the split file.
        train: all training frames in their order. By default ``train.txt`` beside the
            split file or in the neighbouring folder ``ImageSets``, if there is one.
        val: validation frames, looked for in the same way in ``val.txt``.

    Returns:
        Frame ids in file order.

    Raises:
        SplitError: the file is missing or empty, a line is malformed, a frame stands
            twice, is unknown, is a validation frame, or its index is not its line in
            train.txt.
    """
    path = Path(path)
    train = _beside(path, 'train.txt') if train is None else train
    val = _beside(path, 'val.txt') if val is None else val
    index_of = None if train is None else {frame: i for i, frame in enumerate(train)}
    hidden = set() if val is None else set(val)
    lines: dict[int, int] = {}
    for number, frame, index in _rows(path):
        where = f'{path}, line {number}: frame {frame:06d}'
        if frame in lines:
            raise SplitError(f'{where} stands already in line {lines[frame]}; remove one of them')
        if frame in hidden:
            raise SplitError(f'{where} is a validation frame; its labels must not be trained on')
        if index_of is not None:
            if frame not in index_of:
                raise SplitError(
                    f'{where} is not in train.txt ({len(index_of)} frames); '
                    'use a split file of this data set'
                )
            if index is not None and index != index_of[frame]:
                raise SplitError(
                    f'{where} has index {index}, but stands in line {index_of[frame]} '
                    '(from 0) of train.txt; use the train.txt the split was drawn from'
                )
        lines[frame] = number
    return list(lines)


def _rows(path: Path) -> list[tuple[int, int, int | None]]:
    """Line number from 1, frame id and index (None without one) of each line."""
    if not path.is_file():
        raise SplitError(
            f'{path}: no such split file; make one with '
            'tools/dataset_converters/make_semi_split.py or check the path'
        )
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise SplitError(
            f'{path}: is no text file ({error.reason} at byte {error.start})'
        ) from error
    rows = []
    for number, text in enumerate(lines, start=1):
        fields = text.split()
        if not fields:
            continue
        if len(fields) > 2 or not all(f.isascii() and f.isdigit() for f in fields):
            raise SplitError(
                f'{path}, line {number}: {text!r} is not of the form "<frame id> [<index>]"'
            )
        rows.append((number, int(fields[0]), int(fields[1]) if len(fields) == 2 else None))
    if not rows:
        raise SplitError(f'{path}: holds no frame')
    return rows


def _beside(path: Path, name: str) -> list[int] | None:
    """Frames of ``name`` in the split file's folder or in the neighbouring ImageSets."""
    for folder in (path.parent, path.parent.parent / 'ImageSets'):
        candidate = folder / name
        if candidate.is_file() and candidate.resolve() != path.resolve():
            return read_frames(candidate) if candidate.read_bytes().strip() else None
    return None


def draw_split(train: Sequence[int], count: int, number: int = 1, seed: int = 0) -> list[int]:
    """Draws labelled frames: the first ``count`` of a fixed shuffle of the training frames.

    Draws with the same seed and number are nested: a smaller one is the head of
    a larger one. Different numbers are independent.

    Args:
        train: all training frames.
        count: frames to draw.
        number: which of several splits, from 1.
        seed: of the draw.

    Raises:
        SplitError: ``count`` is not between 1 and the number of frames.
    """
    if not 0 < count <= len(train):
        raise SplitError(f'cannot draw {count} labelled frames out of {len(train)}')
    order = np.random.default_rng((seed, number)).permutation(len(train))
    return [train[i] for i in order[:count]]


def format_split(frames: Sequence[int], train: Sequence[int]) -> str:
    """The text of a split file for labelled ``frames`` of ``train``."""
    index_of = {frame: i for i, frame in enumerate(train)}
    return ''.join(f'{frame:06d} {index_of[frame]}\n' for frame in frames)


def write_splits(
    folder: str | Path,
    train: Sequence[int],
    sizes: Sequence[int | float],
    numbers: int = 3,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[Path, str]:
    """Writes ``train_<size>_<number>.txt`` for every size and number.

    Args:
        folder: of the files, made when missing.
        train: all training frames in the order of train.txt.
        sizes: counts of labelled frames, or, below 1, shares (rounded down).
        numbers: splits per size, numbered from 1.
        seed: of the draw.
        overwrite: replaces existing files. Otherwise they are checked and kept:
            published splits are never drawn anew.

    Returns:
        What happened to each file: ``drawn`` or ``kept``.

    Raises:
        SplitError: a size out of range, or an existing file that does not fit.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    done = {}
    for size in sizes:
        count = int(size * len(train)) if size < 1 else int(size)
        for number in range(1, numbers + 1):
            path = folder / f'train_{size:g}_{number}.txt'
            if path.exists() and not overwrite:
                read_split(path, train)
                done[path] = 'kept'
                continue
            frames = draw_split(train, count, number, seed)
            path.write_text(format_split(frames, train))
            done[path] = 'drawn'
    return done
