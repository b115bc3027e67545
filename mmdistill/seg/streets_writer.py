"""Writes street scenes of two domains as two trees in the layout of Cityscapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mmdistill.core.chunks import in_chunks

from .class_stats import ClassStats, count_labels, write_class_stats
from .street_sim import DOMAINS, StreetSettings, simulate

CLASSES = 19
"""Train ids of Cityscapes."""
VAL_START = 500_000
"""First index of the validation split: both splits can grow without touching old images."""
PER_TOWN = 1000
"""Images of a folder."""
_CHUNK = 8
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True)
class Recipe:
    """All that a data set of street scenes depends on.

    Attributes:
        train: number of training images of each domain, indices from 0.
        val: number of validation images of each domain, indices from :data:`VAL_START`.
        seed: of the data set.
        settings: what pictures are.
    """

    train: int
    val: int
    seed: int = 0
    settings: StreetSettings = StreetSettings()

    def __post_init__(self) -> None:
        """Checks the counts.

        Raises:
            ValueError: a count out of range or a negative seed.
        """
        if not (0 < self.train <= VAL_START and 0 <= self.val <= VAL_START and self.seed >= 0):
            raise ValueError(
                f'need 1 to {VAL_START} training images, 0 to {VAL_START} validation images and '
                f'a seed >= 0, got train={self.train}, val={self.val}, seed={self.seed}'
            )

    def images(self) -> list[tuple[str, str, int]]:
        """Domain, split and index of every image."""
        splits = {'train': range(self.train), 'val': range(VAL_START, VAL_START + self.val)}
        return [
            (domain, split, index)
            for domain in DOMAINS
            for split, indices in splits.items()
            for index in indices
        ]


def image_files(domain: str, split: str, index: int) -> tuple[Path, Path]:
    """Paths of an image and of its label below the root."""
    town = f'town{index // PER_TOWN:03d}'
    name = f'{town}_{index:06d}_000000'
    folder = Path(domain)
    return (
        folder / 'leftImg8bit' / split / town / f'{name}_leftImg8bit.png',
        folder / 'gtFine' / split / town / f'{name}_gtFine_labelTrainIds.png',
    )


def _write(path: Path, pixels: np.ndarray) -> None:
    """Writes a PNG file."""
    done, data = cv2.imencode('.png', pixels, _PNG)
    if not done:
        raise OSError('OpenCV cannot write PNG files')
    path.write_bytes(data.tobytes())


def _make_many(root: Path, recipe: Recipe, images: list[tuple[str, str, int]]) -> list[np.ndarray]:
    """Draws and writes several images with their labels; returns the pixels per class."""
    counts = []
    for domain, split, index in images:
        street = simulate(domain, recipe.seed, index, recipe.settings)
        image, label = image_files(domain, split, index)
        _write(root / image, street.image)
        _write(root / label, street.label)
        counts.append(count_labels(street.label, CLASSES))
    return counts


def write_dataset(
    root: str | Path,
    recipe: Recipe,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes ``{source,target}/{leftImg8bit,gtFine}/{train,val}`` into an existing folder.

    ``source/class_stats.json`` counts the classes of the source's training labels, for rare class
    sampling. The result does not depend on the number of workers.

    Args:
        root: an existing, empty folder.
        recipe: what to write.
        workers: processes that draw.
        progress: called with the images done and all images.
    """
    root = Path(root)
    images = recipe.images()
    for folder in {path.parent for image in images for path in image_files(*image)}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    counts = in_chunks(partial(_make_many, root, recipe), images, _CHUNK, workers, progress)
    folder = Path('source', 'gtFine', 'train')
    rows = [
        (image_files(*image)[1].relative_to(folder).as_posix(), pixels)
        for image, pixels in zip(images, counts, strict=True)
        if image[:2] == ('source', 'train')
    ]
    names, pixels = zip(*sorted(rows, key=lambda row: row[0]), strict=True)
    stats = ClassStats(names, np.stack(pixels))
    write_class_stats(root / 'source' / 'class_stats.json', stats)
