"""Converts the labels of GTA5 ("Playing for Data") to Cityscapes' 19 train ids.

Writes ``labels/<number>_labelTrainIds.png`` beside ``labels/<number>.png``, and the pixels per
class and file as ``class_stats.json``, which rare class sampling needs. An interrupted run goes
on when it is started again. Example: ``gta.py data/gta``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from label_files import Package, UserError, convert_main, read_label

LAST_ID = 34


def read_gta(path: Path) -> np.ndarray:
    """Reads the ids of a label, palette indices in the range of Cityscapes' ids.

    Raises:
        UserError: the file is broken or holds something else.
    """
    label = read_label(path)
    if label.dtype != np.uint8 or label.max(initial=0) > LAST_ID:
        raise UserError(
            f'{path}: holds the id {label.max()}, GTA5 has 0 to {LAST_ID}; this is no label of the '
            'package "Playing for Data"'
        )
    return label


GTA = Package(
    name='GTA5',
    labels='labels',
    read=read_gta,
    train_ids={
        7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11,
        25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
    },
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return convert_main('gta', __doc__, GTA, argv)


if __name__ == '__main__':
    sys.exit(main())
