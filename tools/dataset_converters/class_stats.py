"""Counts the pixels of every class in each label of a folder, for rare class sampling.

Example: ``class_stats.py data/cityscapes/gtFine/train --suffix _labelTrainIds.png
--num-classes 19 --out data/cityscapes/class_stats.json``. Labels hold train ids, one channel.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from label_files import (
    ClassStats,
    UserError,
    count_file,
    guarded,
    work_through,
    write_class_stats,
)


def count_folder(
    folder: Path, suffix: str, num_classes: int, ignore_index: int, processes: int
) -> ClassStats:
    """Counts all labels below a folder.

    Raises:
        UserError: no label is found, one is broken, or none holds a class.
    """
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder')
    if not 0 < num_classes <= 255 or not 0 <= ignore_index <= 255:
        raise UserError('--num-classes must lie in 1 to 255 and --ignore-index in 0 to 255')
    files = sorted(path for path in folder.rglob(f'*{suffix}') if path.is_file())
    if not files:
        raise UserError(f'{folder}: holds no label with the suffix {suffix!r}; give --suffix')
    work = partial(count_file, num_classes=num_classes, ignore_index=ignore_index)
    pixels = work_through(files, work, processes, 'labels')
    if not pixels.any():
        raise UserError(f'{folder}: no label holds a class, all pixels are {ignore_index}')
    return ClassStats(tuple(p.relative_to(folder).as_posix() for p in files), pixels)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('labels', type=Path, help='folder, searched with its subfolders')
    parser.add_argument('--num-classes', type=int, required=True)
    parser.add_argument('--out', type=Path, required=True, help='JSON file, replaced if there')
    parser.add_argument('--suffix', default='.png', help='of the labels')
    parser.add_argument('--ignore-index', type=int, default=255)
    parser.add_argument('--processes', type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)

    def run() -> None:
        stats = count_folder(
            args.labels, args.suffix, args.num_classes, args.ignore_index, args.processes
        )
        write_class_stats(args.out, stats, args.ignore_index)
        print(f'{args.out}: {len(stats.files)} labels')
        total = stats.pixels.sum()
        for c, (all_pixels, images) in enumerate(
            zip(stats.pixels.sum(0), (stats.pixels > 0).sum(0), strict=True)
        ):
            print(f'class {c:3d}: {all_pixels / total:9.5%} of the pixels, in {images} labels')

    return guarded('class_stats', run)


if __name__ == '__main__':
    sys.exit(main())
