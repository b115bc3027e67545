"""CIFAR-10 and CIFAR-100 as their authors publish them: pickles in a folder or a .tar.gz."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.datasets.images import MemoryImages
from mmkd.registry import DATASETS

SIDE = 32
_RECONSTRUCT = np.empty(0).__reduce__()[0]


@dataclass(frozen=True)
class _Source:
    """Where things are in the published files, and statistics of the images to train with."""

    folder: str
    archive: str
    splits: Mapping[str, Sequence[str]]
    meta: str
    names: bytes
    labels: bytes
    mean: Sequence[float]
    std: Sequence[float]


SOURCES = dict(
    cifar10=_Source(
        folder='cifar-10-batches-py',
        archive='cifar-10-python.tar.gz',
        splits=dict(train=[f'data_batch_{n}' for n in range(1, 6)], test=['test_batch']),
        meta='batches.meta',
        names=b'label_names',
        labels=b'labels',
        mean=(125.307, 122.950, 113.865),
        std=(62.993, 62.089, 66.705),
    ),
    cifar100=_Source(
        folder='cifar-100-python',
        archive='cifar-100-python.tar.gz',
        splits=dict(train=['train'], test=['test']),
        meta='meta',
        names=b'fine_label_names',
        labels=b'fine_labels',
        mean=(129.304, 124.070, 112.434),
        std=(68.170, 65.392, 70.418),
    ),
)


@DATASETS.register_module()
class CifarDataset(MemoryImages):
    """CIFAR-10 or CIFAR-100 with its fine classes, kept as bytes; see :class:`MemoryImages`.

    Args:
        data_root: folder of ``cifar-100-python/`` or ``cifar-10-batches-py/``, or of the archive
            ``cifar-100-python.tar.gz`` or ``cifar-10-python.tar.gz``, which stays as it is.
        split: ``train`` or ``test``.
        name: ``cifar100`` or ``cifar10``.
        pad: pixels by which an image may be moved in every direction; 0: not at all.
        flip: flips half of the images.
        mean: of red, green and blue, in [0, 255]; None: that of the images to train with.
        std: alike.

    Raises:
        UserError: another name or split, a file that is missing, or one that holds something else.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        name: str = 'cifar100',
        pad: int = 0,
        flip: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if name not in SOURCES:
            raise UserError(
                f'name {name!r} of CifarDataset is not known{did_you_mean(name, SOURCES)}; '
                f'known: {sorted(SOURCES)}'
            )
        source = SOURCES[name]
        if split not in source.splits:
            raise UserError(f'split of CifarDataset is train or test, got {split!r}')
        files = source.splits[split]
        place, contents = _contents(Path(data_root), source, [source.meta, *files])
        found = {each: safe_unpickle(contents[each], f'{place}/{each}') for each in contents}
        classes = _entry(found[source.meta], source.names, f'{place}/{source.meta}')
        images, labels = [], []
        for each in files:
            pixels, numbers = _batch(found[each], source.labels, len(classes), f'{place}/{each}')
            images.append(pixels)
            labels.extend(numbers)
        super().__init__(
            torch.from_numpy(np.concatenate(images)).view(-1, 3, SIDE, SIDE),
            labels,
            [each.decode() for each in classes],
            source.mean if mean is None else mean,
            source.std if std is None else std,
            pad,
            flip,
        )


class _Unpickler(pickle.Unpickler):
    """Makes numpy arrays beside what needs no import, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """One of three names of numpy; calling others could run any code."""
        if module in ('numpy.core.multiarray', 'numpy._core.multiarray') and name == '_reconstruct':
            return _RECONSTRUCT
        if module == 'numpy' and name in ('ndarray', 'dtype'):
            return getattr(np, name)
        raise pickle.UnpicklingError(f'{module}.{name} is refused')


def safe_unpickle(content: bytes, place: str) -> Any:
    """What a pickle holds, if these are arrays, dicts, lists, bytes and numbers alone.

    Args:
        content: of the file; text of Python 2 becomes bytes.
        place: of the file, for the message.

    Raises:
        UserError: the pickle is damaged, or asks for anything else, which is never run.
    """
    try:
        return _Unpickler(io.BytesIO(content), encoding='bytes').load()
    except Exception as error:
        raise UserError(
            f'{place}: no pickle of arrays and lists alone, get the file anew: {error}'
        ) from error


def _contents(root: Path, source: _Source, names: Sequence[str]) -> tuple[Path, dict[str, bytes]]:
    """Where the files are, and their bytes by name; an archive is read once, front to back."""
    folder, archive = root / source.folder, root / source.archive
    found = {}
    if folder.is_dir():
        place = folder
        found = {each: (folder / each).read_bytes() for each in names if (folder / each).is_file()}
    elif archive.is_file():
        place = archive
        wanted = {f'{source.folder}/{each}': each for each in names}
        try:
            with tarfile.open(archive, 'r|gz') as file:
                for member in file:
                    name = wanted.get(member.name.removeprefix('./'))
                    if name is not None and member.isfile():
                        found[name] = file.extractfile(member).read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f'{archive}: no whole .tar.gz, get it anew: {error}') from error
    else:
        raise UserError(f'{root}: there is neither {source.folder}/ nor {source.archive}')
    missing = [each for each in names if each not in found]
    if missing:
        raise UserError(f'{place}: there is no {missing[0]} in it')
    return place, found


def _entry(content: Any, key: bytes, place: str) -> Any:
    """A value of a pickled dict."""
    if not isinstance(content, dict) or key not in content:
        raise UserError(f'{place}: there is no {key.decode()!r}: this is another data set')
    return content[key]


def _batch(content: Any, key: bytes, classes: int, place: str) -> tuple[np.ndarray, list[int]]:
    """Rows of pixels, channel by channel, and their classes."""
    pixels, labels = _entry(content, b'data', place), _entry(content, key, place)
    wanted = (len(labels), 3 * SIDE * SIDE)
    if getattr(pixels, 'shape', None) != wanted or pixels.dtype != np.uint8:
        raise UserError(f'{place}: data are not {wanted[0]} rows of {wanted[1]} bytes')
    if not all(isinstance(each, int) and 0 <= each < classes for each in labels):
        raise UserError(f'{place}: {key.decode()} are not all classes from 0 to {classes - 1}')
    return pixels, labels
