"""Tiny folders of images and labels."""

from pathlib import Path

import numpy as np
from PIL import Image

from mmdistill.seg.class_stats import ClassStats, count_labels, write_class_stats


def write_pair(root: Path, name: str, label: np.ndarray, suffix: str = '.png') -> None:
    """Writes ``images/<name>.png`` of random pixels and ``labels/<name><suffix>``."""
    image = root / 'images' / f'{name}.png'
    target = root / 'labels' / f'{name}{suffix}'
    for path in (image, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 255, (*label.shape[:2], 3), np.uint8)
    Image.fromarray(pixels).save(image)
    Image.fromarray(label).save(target)


def blocks(counts: dict[int, int], shape: tuple[int, int] = (40, 50), rest: int = 255):
    """A label with so many pixels of each class from its start on, ``rest`` elsewhere."""
    label = np.full(shape, rest, np.uint8).reshape(-1)
    start = 0
    for c, number in counts.items():
        label[start : start + number] = c
        start += number
    return label.reshape(shape)


def write_scenes(root: Path, scenes: dict[str, dict[int, int]], num_classes: int = 19) -> dict:
    """Writes pairs from :func:`blocks` and their statistics; returns a config of the dataset."""
    rows = []
    for name, counts in scenes.items():
        label = blocks(counts)
        write_pair(root, name, label)
        rows.append(count_labels(label, num_classes))
    names = tuple(f'{name}.png' for name in scenes)
    write_class_stats(root / 'class_stats.json', ClassStats(names, np.stack(rows)))
    return dict(
        type='mmdistill.GTA5Dataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        seg_map_suffix='.png',
        pipeline=[],
        serialize_data=False,  # saves the collection of garbage
    )
