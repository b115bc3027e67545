"""Reads COCO's files of images, boxes and keypoints, and says which entries cannot be used."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from mmdistill.core.errors import UserError

FAR_OUTSIDE = 0.5
"""A labelled joint may lie this share of the image's side beyond its border."""


def read_json(path: str, what: str) -> Any:
    """The content of a JSON file.

    Args:
        path: local path or URL that mmengine can read.
        what: of the file, for the error.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        with get_local_path(str(path)) as local, open(local, encoding='utf-8') as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such {what}; check ann_file and data_root') from error
    except ValueError as error:
        raise UserError(f'{path}: the {what} is no JSON ({error}); copy it again') from error


def some(ids: Sequence[Any], most: int = 5) -> str:
    """The first few ids as text, and how many more there are."""
    text = ', '.join(str(each) for each in ids[:most])
    return text if len(ids) <= most else f'{text} and {len(ids) - most} more'


def left_out(path: str, reason: str, ids: Sequence[Any]) -> None:
    """Logs entries that are not used; silent when there are none."""
    if ids:
        print_log(f'{path}: {len(ids)} {reason} left out: {some(ids)}', logger='current', level=30)


def clip_boxes(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes as corners inside their images, as mmpose clips those of annotation files.

    Args:
        boxes: (N, 4) x, y, width, height in pixels.
        sizes: (N, 2) width and height of the images in pixels; 0 where it is not known.

    Returns:
        (N, 4) float32 x1, y1, x2, y2.
    """
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], 1)
    limit = np.where(sizes > 0, sizes - 1, np.inf)
    low = np.where(sizes > 0, 0, -np.inf)
    return np.clip(corners, np.tile(low, 2), np.tile(limit, 2)).astype(np.float32)


def joints_of(annotation: Mapping, count: int) -> np.ndarray | None:
    """(K, 3) float32 joints of an annotation; None unless it has ``count`` finite ones."""
    try:
        joints = np.array(annotation.get('keypoints'), np.float32).reshape(-1, 3)
    except (TypeError, ValueError):
        return None
    return joints if len(joints) == count and np.isfinite(joints).all() else None


def check_joint_counts(path: str, annotations: Iterable[Mapping], count: int) -> None:
    """Refuses annotations whose keypoints are not ``count`` times x, y, visibility.

    Annotations without box or without keypoints are mmpose's to skip.

    Raises:
        UserError: names the file and the annotations.
    """
    wrong = []
    for each in annotations:
        if 'bbox' in each and 'keypoints' in each:
            joints = each['keypoints']
            size = len(joints) if isinstance(joints, (list, tuple)) else -1
            if size != 3 * count:
                wrong.append((each.get('id'), size))
    if wrong:
        number, size = wrong[0]
        raise UserError(
            f'{path}: annotation {number} has {size} keypoint numbers, not 3 x {count} as the '
            f'metainfo says; {len(wrong)} such annotations: {some([each for each, _ in wrong])}'
        )


def misplaced_joints(
    annotations: Iterable[Mapping], sizes: Mapping[int, tuple[int, int]]
) -> dict[int, str]:
    """Finds labelled joints that are no numbers or lie far outside their image.

    Args:
        annotations: COCO's entries, their counts checked.
        sizes: width and height by image id.

    Returns:
        What is wrong, by the id of the annotation.
    """
    wrong = {}
    for each in annotations:
        if 'bbox' not in each or not each.get('keypoints') or each.get('num_keypoints') == 0:
            continue
        joints = np.array(each['keypoints'], np.float64).reshape(-1, 3)
        width, height = sizes.get(each.get('image_id'), (np.inf, np.inf))
        size = np.array([width, height], np.float64)
        places = joints[:, :2]
        inside = (places >= -FAR_OUTSIDE * size) & (places <= (1 + FAR_OUTSIDE) * size)
        bad = ~(inside.all(1) & np.isfinite(joints).all(1)) & ~(joints[:, 2] <= 0)
        if bad.any():
            joint = int(bad.argmax())
            wrong[each['id']] = (
                f'joint {joint} lies at {places[joint].tolist()} in an image of '
                f'{width} x {height} pixels'
            )
    return wrong
