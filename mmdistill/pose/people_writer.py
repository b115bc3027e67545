"""Writes drawn people as images with COCO's keypoint annotations."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from mmdistill.core.chunks import in_chunks

from .figure_sim import JOINTS, LINKS, Picture, PictureSettings, simulate

VAL_START = 500_000
"""First index of the validation split: both splits can grow without touching old images."""
PER_IMAGE = 10
"""Annotation ids kept for each image: they do not depend on the other images."""
QUALITY = 92
"""JPEG quality."""
_CHUNK = 16


@dataclass(frozen=True)
class Recipe:
    """All that a synthetic data set of people depends on.

    Attributes:
        train: number of training images, indices from 0.
        val: number of validation images, indices from :data:`VAL_START`.
        seed: of the data set.
        settings: what pictures hold.
    """

    train: int
    val: int
    seed: int = 0
    settings: PictureSettings = PictureSettings()

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

    def splits(self) -> dict[str, range]:
        """Indices of the images of each split that has any."""
        ranges = {'train': range(self.train), 'val': range(VAL_START, VAL_START + self.val)}
        return {name: indices for name, indices in ranges.items() if indices}


def image_entry(index: int, size: int) -> dict:
    """COCO's entry of an image; its id is ``index + 1`` as COCO has no id 0."""
    return {'id': index + 1, 'file_name': f'{index + 1:012d}.jpg', 'width': size, 'height': size}


def annotations(picture: Picture, image_id: int) -> list[dict]:
    """COCO's entries of the people of a picture.

    ``area`` counts the visible pixels, as COCO's counts those of the segment; ``bbox``
    is tight around them and the labelled joints. Somebody of whom too little is seen to
    place a joint has ``num_keypoints`` 0, which COCO's evaluation and mmpose leave out.
    """
    entries = []
    for number, label in enumerate(picture.labels):
        numbers: list[float] = []
        for x, y, flag in label.keypoints.tolist():
            numbers += [round(x, 2), round(y, 2), int(flag)] if flag else [0, 0, 0]
        entries.append(
            {
                'id': image_id * PER_IMAGE + number,
                'image_id': image_id,
                'category_id': 1,
                'iscrowd': 0,
                'bbox': label.box.tolist(),
                'area': label.area,
                'num_keypoints': int((label.keypoints[:, 2] > 0).sum()),
                'keypoints': numbers,
            }
        )
    return entries


def coco(images: list[dict], people: list[dict], seed: int) -> dict:
    """The content of a ``person_keypoints_*.json``."""
    category = {
        'id': 1,
        'name': 'person',
        'supercategory': 'person',
        'keypoints': list(JOINTS),
        'skeleton': [list(link) for link in LINKS],
    }
    info = {'description': f'synthetic people, seed {seed}'}
    return {
        'info': info, 'licenses': [], 'images': images, 'annotations': people,
        'categories': [category],
    }  # fmt: skip


def encode(picture: Picture) -> bytes:
    """The picture as a JPEG file."""
    done, data = cv2.imencode('.jpg', picture.image, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    if not done:
        raise OSError('OpenCV cannot write JPEG files')
    return data.tobytes()


def _make_many(
    root: Path, recipe: Recipe, images: list[tuple[str, int]]
) -> list[tuple[dict, list[dict]]]:
    """Draws and writes several images (split, index); returns their entries and their people's."""
    made = []
    for split, index in images:
        picture = simulate(recipe.seed, index, recipe.settings)
        entry = image_entry(index, recipe.settings.size)
        (root / 'images' / split / entry['file_name']).write_bytes(encode(picture))
        made.append((entry, annotations(picture, entry['id'])))
    return made


def write_dataset(
    root: str | Path,
    recipe: Recipe,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes ``images/{train,val}`` and ``annotations`` into an existing folder.

    The result does not depend on the number of workers.

    Args:
        root: an existing, empty folder.
        recipe: what to write.
        workers: processes that draw.
        progress: called with the images done and all images.
    """
    root = Path(root)
    (root / 'annotations').mkdir(exist_ok=True)
    splits = recipe.splits()
    for split in splits:
        (root / 'images' / split).mkdir(parents=True, exist_ok=True)
    images = [(split, index) for split, indices in splits.items() for index in indices]
    made = in_chunks(partial(_make_many, root, recipe), images, _CHUNK, workers, progress)
    for split in splits:
        kept = [entry for (name, _), entry in zip(images, made, strict=True) if name == split]
        people = [person for _, some in kept for person in some]
        content = coco([entry for entry, _ in kept], people, recipe.seed)
        path = root / 'annotations' / f'person_keypoints_{split}.json'
        path.write_text(json.dumps(content) + '\n')
