"""Label files for the converters: reading, converting, counting, in several processes."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from generated_folder import Progress, sweep
from light_import import make_light
from PIL import Image

make_light('mmdistill.core', 'mmdistill.seg')

from mmdistill.core.errors import UserError  # noqa: E402
from mmdistill.seg.class_stats import ClassStats, count_labels, write_class_stats  # noqa: E402

SUFFIX = '_labelTrainIds.png'
"""Of labels with the 19 train ids of Cityscapes."""


def read_label(path: Path) -> np.ndarray:
    """Reads a label of one channel; palette files give their indices.

    Raises:
        UserError: the file is missing, broken, or has several channels.
    """
    try:
        with Image.open(path) as image:
            label = np.array(image)
    except FileNotFoundError as error:
        raise UserError(f'{path}: this label is missing') from error
    except Exception as error:  # the decoder raises whatever it likes
        raise UserError(f'{path}: this label cannot be read ({error}); copy it again') from error
    if label.ndim != 2:
        raise UserError(f'{path}: this label has {label.shape[2]} channels, class ids need one')
    return label.astype(np.uint8) if label.dtype == bool else label


def count_file(path: Path, num_classes: int, ignore_index: int) -> np.ndarray:
    """Pixels per class of a label file, (C,).

    Raises:
        UserError: the file is broken or holds an id that is no class.
    """
    label = read_label(path)
    try:
        return count_labels(label, num_classes, ignore_index)
    except UserError as error:
        raise UserError(f'{path}: {error}') from None


def quiet() -> None:
    """Leaves Ctrl-C to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def work_through(
    files: Sequence[Path], work: Callable[[Path], np.ndarray], processes: int, what: str
) -> np.ndarray:
    """Runs ``work`` on all files and shows how far it is.

    Args:
        files: at least one.
        work: gives (C,) for a file; must be picklable for several processes.
        processes: 1 works in this one.
        what: is done, for the progress.

    Returns:
        (F, C).

    Raises:
        UserError: of a file, or a process was killed.
    """
    progress, rows = Progress(what), []
    if processes <= 1:
        for file in files:
            rows.append(work(file))
            progress(len(rows), len(files))
        return np.stack(rows)
    pool = ProcessPoolExecutor(processes, initializer=quiet)
    try:
        for row in pool.map(work, files, chunksize=8):
            rows.append(row)
            progress(len(rows), len(files))
    except BrokenProcessPool as error:
        raise UserError(f'{what}: a process was killed, perhaps for memory; use fewer') from error
    finally:
        pool.shutdown(cancel_futures=True)
    return np.stack(rows)


@dataclass(frozen=True)
class Package:
    """A published data set whose labels are converted to train ids.

    Attributes:
        name: of the data set.
        labels: folder of the labels below the root.
        read: gives the published ids of a file, (H, W); raises UserError for other files.
        train_ids: train id of each published id; all others are ignored.
    """

    name: str
    labels: str
    read: Callable[[Path], np.ndarray]
    train_ids: dict[int, int]

    def table(self) -> np.ndarray:
        """(256,) uint8 train id of every published id."""
        table = np.full(256, 255, np.uint8)
        table[list(self.train_ids)] = list(self.train_ids.values())
        return table


def convert_file(path: Path, package: Package, part: Path, overwrite: bool) -> np.ndarray:
    """Writes the train ids of a label beside it, whole or not at all.

    Args:
        path: of the published label.
        package: it belongs to.
        part: folder on the same disk for the unfinished file.
        overwrite: convert again what is there already.

    Returns:
        (19,) pixels per class.
    """
    out = path.with_name(path.stem + SUFFIX)
    if out.exists() and not overwrite:
        try:
            return count_file(out, 19, 255)
        except UserError:
            pass  # broken or something else: converted again
    label = package.table()[package.read(path)]
    data = io.BytesIO()
    Image.fromarray(label).save(data, 'PNG')
    (part / out.name).write_bytes(data.getvalue())
    os.replace(part / out.name, out)
    return count_labels(label, 19)


def convert_package(package: Package, root: Path, processes: int, overwrite: bool) -> ClassStats:
    """Converts all labels of a package and writes ``<root>/class_stats.json``.

    Labels that are converted already are counted only, so that an interrupted run goes on.

    Raises:
        UserError: the folder is missing or empty, or holds another package.
    """
    folder = root / package.labels
    if not folder.is_dir():
        raise UserError(
            f'{folder}: no such folder; give the folder of {package.name} that holds it'
        )
    files = sorted(folder.glob('*[0-9].png'))
    if not files:
        raise UserError(f'{folder}: holds no label <number>.png of {package.name}')
    sweep(folder)
    part = folder.parent / f'.{folder.name}.part-{os.getpid()}'
    part.mkdir()
    try:
        work = partial(convert_file, package=package, part=part, overwrite=overwrite)
        pixels = work_through(files, work, processes, 'labels')
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if not pixels.any():
        raise UserError(
            f'{folder}: no label holds a class of {package.name}; this is another package'
        )
    stats = ClassStats(tuple(file.stem + SUFFIX for file in files), pixels)
    write_class_stats(root / 'class_stats.json', stats)
    return stats


def convert_main(name: str, about: str, package: Package, argv: list[str] | None) -> int:
    """The command line of a converter of one package; returns the exit code."""
    import argparse

    parser = argparse.ArgumentParser(description=about)
    parser.add_argument('root', type=Path, help=f'holds {package.labels}')
    parser.add_argument('--processes', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--overwrite', action='store_true', help='convert again what is there')
    args = parser.parse_args(argv)
    return guarded(name, lambda: _convert(package, args))


def _convert(package: Package, args: object) -> None:
    """Converts and says what is there."""
    stats = convert_package(package, args.root, args.processes, args.overwrite)
    print(f'{args.root / package.labels}: {len(stats.files)} labels *{SUFFIX}')
    print(f'{args.root / "class_stats.json"}: pixels per class {stats.pixels.sum(0).tolist()}')


def guarded(name: str, run: Callable[[], object]) -> int:
    """Runs a converter; errors that a user can mend are one line. Returns the exit code."""
    try:
        run()
    except (UserError, OSError) as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f'\n{name}: interrupted; nothing is half-written, run it again', file=sys.stderr)
        return 130
    return 0
