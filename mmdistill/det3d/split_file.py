"""Labelled frames of any of mmdet3d's info files: nested draws by frame or by sequence, as JSON.

Neighbouring frames of a sequence are nearly alike, so frames drawn one by one show most of what is
called unlabelled; drawing whole sequences keeps them apart. The file says how it was drawn and from
which frames, so that it is not used with others.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mmdistill.det3d.semi_split import SplitError

FORMAT = 1
UNITS = ('frame', 'sequence')
GAP_SECONDS = 2.0
"""Between two frames of a log, from which on another sequence begins."""


@dataclass(frozen=True)
class Split:
    """A draw.

    Attributes:
        ann_file: name of the info file.
        frames: number of its frames.
        frames_hash: of their keys in order, see :func:`frame_keys`.
        by: ``frame`` or ``sequence``.
        share: of the frames, at least; below 1.
        number: which of several draws, from 1.
        seed: of the draw.
        labeled: keys of the labelled frames, in the order of the info file.
    """

    ann_file: str
    frames: int
    frames_hash: str
    by: str
    share: float
    number: int
    seed: int
    labeled: tuple[str, ...]


def frame_key(info: Mapping) -> str:
    """Key of a frame: its token where it has one (nuScenes), else the name of its point file."""
    return str(info.get('token') or Path(info['lidar_points']['lidar_path']).name.split('.')[0])


def frame_keys(infos: Iterable[Mapping]) -> list[str]:
    """Keys of frames.

    Raises:
        SplitError: two frames have the same.
    """
    keys = [frame_key(info) for info in infos]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SplitError(f'frame {twice} stands twice in the info file: make the file again')
    return keys


def sequences_of(infos: Sequence[Mapping]) -> list[str]:
    """Name of each frame's sequence.

    ``scene_token`` or ``context_name`` (Waymo) where the infos have one; else the log in the name
    of a nuScenes point file, cut where :data:`GAP_SECONDS` are missing; else a Waymo frame number
    without its last three digits.

    Raises:
        SplitError: nothing tells the sequence.
    """
    named = [info.get('scene_token') or info.get('context_name') for info in infos]
    if all(named):
        return [str(each) for each in named]
    names = [Path(info['lidar_points']['lidar_path']).name for info in infos]
    if all('__' in name for name in names):
        return _by_gaps([name.split('__')[0] for name in names], infos)
    stems = [name.split('.')[0] for name in names]
    if all(stem.isdecimal() and len(stem) == 7 for stem in stems):
        return [stem[:-3] for stem in stems]
    raise SplitError(
        f'nothing tells the sequence of {names[0]}: give a file with --sequences, a JSON object of '
        'frame and sequence'
    )


def _by_gaps(logs: Sequence[str], infos: Sequence[Mapping]) -> list[str]:
    """Sequences of logs: a new one where frames are missing."""
    order = sorted(range(len(logs)), key=lambda row: (logs[row], infos[row]['timestamp']))
    found, number, before = [''] * len(logs), 0, None
    for row in order:
        here = (logs[row], float(infos[row]['timestamp']))
        if before is not None and (here[0] != before[0] or here[1] - before[1] > GAP_SECONDS):
            number += 1
        found[row], before = f'{here[0]}#{number}', here
    return found


def draw(units: Sequence[str], share: float, number: int, seed: int) -> list[int]:
    """Rows of labelled frames: those of the first units of a fixed shuffle.

    A smaller share with the same number and seed is part of a larger one.

    Args:
        units: name of each frame's unit, itself or its sequence.
        share: of the frames, at least; the last unit is taken whole.
        number: which of several draws, from 1.
        seed: of the draw.

    Raises:
        SplitError: a share out of range, or less than one frame.
    """
    if not 0 < share <= 1 or int(share * len(units)) < 1:
        raise SplitError(
            f'a share of {share:g} of {len(units)} frames cannot be drawn: it must lie in (0, 1] '
            'and hold one frame at least'
        )
    wanted, found = int(share * len(units)), []
    names = sorted(set(units))
    rows: dict[str, list[int]] = {name: [] for name in names}
    for row, name in enumerate(units):
        rows[name].append(row)
    for each in np.random.default_rng((seed, number)).permutation(len(names)):
        if len(found) >= wanted:
            break
        found += rows[names[each]]
    return sorted(found)


def digest(keys: Sequence[str]) -> str:
    """Hash of keys in their order."""
    return hashlib.sha256('\n'.join(keys).encode()).hexdigest()[:16]


def split_id(frames_hash: str, labeled: Sequence[str]) -> str:
    """Name of a split: the same for the same frames with the same labelled ones."""
    return digest([frames_hash, *sorted(labeled)])


def make_split(
    infos: Sequence[Mapping],
    ann_file: str,
    share: float,
    by: str = 'frame',
    number: int = 1,
    seed: int = 0,
    sequences: Mapping[str, str] | None = None,
) -> Split:
    """Draws a split.

    Args:
        infos: ``data_list`` of an info file of mmdet3d.
        ann_file: its name.
        share: see :func:`draw`.
        by: ``frame`` or ``sequence``.
        number: see :func:`draw`.
        seed: see :func:`draw`.
        sequences: sequence by frame key, instead of :func:`sequences_of`.

    Raises:
        SplitError: a value out of range, or a frame without a sequence.
    """
    if by not in UNITS:
        raise SplitError(f'by must be one of {UNITS}, got {by!r}')
    keys = frame_keys(infos)
    units: Sequence[str] = keys
    if by == 'sequence':
        if sequences is None:
            units = sequences_of(infos)
        else:
            missing = [key for key in keys if key not in sequences]
            if missing:
                raise SplitError(f'--sequences has no frame {missing[0]} ({len(missing)} missing)')
            units = [str(sequences[key]) for key in keys]
    rows = draw(units, share, number, seed)
    labeled = tuple(keys[row] for row in rows)
    return Split(ann_file, len(keys), digest(keys), by, share, number, seed, labeled)


def write_split(path: str | Path, split: Split) -> None:
    """Writes a split, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dict(format=FORMAT, id=split_id(split.frames_hash, split.labeled), **asdict(split))
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    temporary.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(temporary, path)


def read_split_file(path: str | Path, keys: Sequence[str] | None = None) -> Split:
    """Reads a split and looks whether it was drawn from these frames.

    Args:
        path: of the file.
        keys: of the frames that it is used with, see :func:`frame_keys`; None: whatever they are.

    Raises:
        SplitError: no such file, it is damaged, or it belongs to other frames.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise SplitError(
            f'{path}: no such split file; make one with '
            'tools/dataset_converters/make_semi_split.py --infos or check the path'
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SplitError(f'{path}: is no JSON ({error})') from None
    names = {'format', 'id', *Split.__dataclass_fields__}
    if not isinstance(content, dict) or set(content) != names or content['format'] != FORMAT:
        raise SplitError(f'{path}: is no split of format {FORMAT} with the keys {sorted(names)}')
    known = content.pop('id')
    del content['format']
    split = Split(**{**content, 'labeled': tuple(content['labeled'])})
    if split_id(split.frames_hash, split.labeled) != known:
        raise SplitError(f'{path}: was changed by hand, its id does not fit: draw it again')
    if keys is not None and digest(keys) != split.frames_hash:
        raise SplitError(
            f'{path} was drawn from {split.ann_file} with {split.frames} frames, here are '
            f'{len(keys)} others: use the info file that it was drawn from, or draw a split of '
            'this one'
        )
    return split
