"""Converts the labels of SYNTHIA-RAND-CITYSCAPES to Cityscapes' 19 train ids.

Writes ``GT/LABELS/<number>_labelTrainIds.png`` beside ``GT/LABELS/<number>.png``, and the pixels
per class and file as ``class_stats.json``, which rare class sampling needs. An interrupted run
goes on when it is started again. Example: ``synthia.py data/synthia``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from label_files import Package, UserError, convert_main

LAST_ID = 22


def read_synthia(path: Path) -> np.ndarray:
    """Reads the ids of a label: 16 bits, three channels, OpenCV's last one holds the class.

    Raises:
        UserError: the file is broken or of another package of SYNTHIA.
    """
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UserError(f'{path}: this label cannot be read; copy it again')
    wrong = f'{path}: this is no label of the package SYNTHIA-RAND-CITYSCAPES'
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] != 3:
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        raise UserError(f'{wrong}: it has {channels} channels of {pixels.dtype}, not 3 of uint16')
    label = pixels[..., -1]
    if label.max(initial=0) > LAST_ID:
        raise UserError(f'{wrong}: it holds the id {label.max()}, the last one is {LAST_ID}')
    return label.astype(np.uint8)


SYNTHIA = Package(
    name='SYNTHIA-RAND-CITYSCAPES',
    labels='GT/LABELS',
    read=read_synthia,
    train_ids={
        3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12,
        8: 13, 18: 14, 19: 15, 20: 16, 12: 17, 11: 18,
    },
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return convert_main('synthia', __doc__, SYNTHIA, argv)


if __name__ == '__main__':
    sys.exit(main())
