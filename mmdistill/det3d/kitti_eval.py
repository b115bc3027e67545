"""KITTI's average precision for 2D boxes, ground plane, volumes and orientation, on the CPU.

The protocol of the object benchmark (Geiger et al., CVPR 2012; 40 recall points: Simonelli et al.,
ICCV 2019) with the semantics of mmdet3d's ``kitti_eval``: difficulties, DontCare regions,
neighbouring classes and minimum heights. Differences, all on purpose:

* overlaps are exact float64 areas (mmdet3d: float32 on a GPU, wrong for identical boxes);
* a class without ground truth has the AP nan and no part in the means (mmdet3d: 0);
* a threshold at which nothing counts, neither hit nor error, has precision 0 (mmdet3d: nan).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mmdistill.det3d.boxes import bev_overlap_area_pairs
from mmdistill.det3d.kitti_frames import Frames, stack_frames
from mmdistill.det3d.kitti_matching import (
    NUM_RECALL_POINTS,
    count_at_thresholds,
    matched_scores,
    score_thresholds,
)
from mmdistill.det3d.kitti_result import DIFFICULTIES, METRICS, KittiResult

_MIN_HEIGHT = (40, 25, 25)
_MAX_OCCLUSION = (0, 1, 2)
_MAX_TRUNCATION = (0.15, 0.3, 0.5)
_NEIGHBOURS = {'pedestrian': 'person_sitting', 'car': 'van'}

_LARGE = ((0.7, 0.7, 0.7), (0.7, 0.5, 0.5))
_SMALL = ((0.5, 0.5, 0.5), (0.5, 0.25, 0.25))
MIN_OVERLAPS: Mapping[str, tuple] = {
    'Car': _LARGE,
    'Pedestrian': _SMALL,
    'Cyclist': _SMALL,
    'Van': _LARGE,
    'Person_sitting': _SMALL,
}
"""Class -> ((strict bbox, bev, 3d), (loose bbox, bev, 3d)): overlaps that a match must exceed."""

_PAIRS_PER_BLOCK = 1 << 18


def evaluate_frames(
    gt_annos: Sequence[Mapping] | Mapping,
    dt_annos: Sequence[Mapping] | Mapping,
    classes: Sequence[str],
    metrics: Sequence[str] = ('bbox', 'bev', '3d'),
    min_overlaps: Mapping[str, Sequence] | None = None,
) -> KittiResult:
    """Evaluates detections of a set of frames.

    Args:
        gt_annos: Per frame a dict of arrays in KITTI's camera frame: ``name`` (N,), ``bbox``
            (N, 4) left, top, right, bottom in pixels, ``location`` (N, 3) bottom centre in metres,
            ``dimensions`` (N, 3) length, height, width, ``rotation_y`` (N,), ``alpha`` (N,),
            ``truncated`` (N,), ``occluded`` (N,). Either a sequence or a mapping from frame ids.
        dt_annos: The same for the detections, with ``score`` (N,) instead of truncation and
            occlusion, in the same order or with the same ids.
        classes: Names of the classes to report.
        metrics: Which of ``bbox``, ``bev`` and ``3d``. ``aos`` comes with ``bbox`` if both sides
            hold an ``alpha`` that is not -10.
        min_overlaps: Overlaps of further classes, or others for these, as in ``MIN_OVERLAPS``.

    Returns:
        The average precisions in percent.

    Raises:
        KeyError: If a class has no overlaps or an annotation lacks a key.
        ValueError: If frames do not correspond, arrays disagree in length, or a metric is unknown.
    """
    classes = [classes] if isinstance(classes, str) else list(classes)
    overlaps = _class_overlaps(classes, min_overlaps)
    unknown = [metric for metric in metrics if metric not in ('bbox', 'bev', '3d')]
    if unknown or not metrics:
        raise ValueError(f'metrics must be some of bbox, bev, 3d, got {list(metrics)}')
    gt, dt = stack_frames(gt_annos, dt_annos, three_d=set(metrics) != {'bbox'})
    with_aos = 'bbox' in metrics and gt.has_alpha and dt.has_alpha
    names = [m for m in METRICS if m in metrics or (m == 'aos' and with_aos)]
    shape = (len(names), len(classes), len(DIFFICULTIES), 2, NUM_RECALL_POINTS)
    precision = np.full(shape, np.nan)
    num_gt = np.zeros((len(classes), len(DIFFICULTIES)), dtype=np.int64)
    pairs = _Pairs(gt, dt)
    for metric in (name for name in names if name != 'aos'):
        overlap_of_pairs, covered = pairs.overlaps(metric), pairs.covered(metric)
        column = ('bbox', 'bev', '3d').index(metric)
        for c, name in enumerate(classes):
            for d in range(len(DIFFICULTIES)):
                states = _gt_states(gt, name, d), _dt_states(dt, name, d)
                num_gt[c, d] = (states[0] == 0).sum()
                for k in range(2):
                    limit = float(overlaps[name][k][column])
                    args = (pairs.frames, overlap_of_pairs, *states, dt.score, limit)
                    hits, similarity = _curves(args, covered > limit, num_gt[c, d], gt, dt)
                    precision[names.index(metric), c, d, k] = hits
                    if metric == 'bbox' and with_aos:
                        precision[names.index('aos'), c, d, k] = similarity
    return KittiResult(tuple(classes), tuple(names), precision, num_gt, overlaps)


def evaluate(
    gt_annos: Sequence[Mapping] | Mapping,
    dt_annos: Sequence[Mapping] | Mapping,
    classes: Sequence[str],
    metrics: Sequence[str] = ('bbox', 'bev', '3d'),
) -> dict[str, float]:
    """Evaluates detections and returns plain numbers; see :func:`evaluate_frames`.

    Args:
        gt_annos: Ground truth of the frames.
        dt_annos: Detections in the frames.
        classes: Names of the classes to report.
        metrics: Which of ``bbox``, ``bev`` and ``3d``.

    Returns:
        Percentages by name, as ``Car_3D_AP40_moderate_strict`` and ``mAP40_3D_moderate``.

    Raises:
        KeyError: If a class has no overlaps or an annotation lacks a key.
        ValueError: If frames do not correspond, arrays disagree in length, or a metric is unknown.
    """
    return evaluate_frames(gt_annos, dt_annos, classes, metrics).scalars()


class _Pairs:
    """All pairs of a detection and an object of the same frame, and their overlaps."""

    def __init__(self, gt: Frames, dt: Frames) -> None:
        self._gt, self._dt = gt, dt
        gts, dts = np.diff(gt.start), np.diff(dt.start)
        pair_start = np.concatenate(([0], np.cumsum(gts * dts)))
        self.frames = (gt.start, dt.start, pair_start)
        frame = np.repeat(np.arange(len(gts)), gts * dts)
        within = np.arange(pair_start[-1]) - pair_start[frame]
        self._dt_of = dt.start[frame] + within // np.maximum(gts[frame], 1)
        self._gt_of = gt.start[frame] + within % np.maximum(gts[frame], 1)
        self._area: np.ndarray | None = None

    def overlaps(self, metric: str) -> np.ndarray:
        """IoU of every pair, ``(pairs,)`` float64."""
        if metric == 'bbox':
            return _box_overlap(self._dt.bbox[self._dt_of], self._gt.bbox[self._gt_of])
        inter = self._ground_area()
        size_dt, size_gt = self._dt.dimensions, self._gt.dimensions
        axes = [0, 2]
        if metric == '3d':
            axes = [0, 1, 2]
            # y points down and the location is the bottom: a box spans [y - height, y].
            bottom_dt, bottom_gt = self._dt.location[:, 1], self._gt.location[:, 1]
            low = np.minimum(bottom_dt[self._dt_of], bottom_gt[self._gt_of])
            top_dt, top_gt = bottom_dt - size_dt[:, 1], bottom_gt - size_gt[:, 1]
            high = np.maximum(top_dt[self._dt_of], top_gt[self._gt_of])
            inter = inter * np.maximum(low - high, 0)
        size_dt, size_gt = size_dt[:, axes].prod(1), size_gt[:, axes].prod(1)
        union = size_dt[self._dt_of] + size_gt[self._gt_of] - inter
        return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)

    def covered(self, metric: str) -> np.ndarray:
        """Largest share of each detection inside a DontCare region, ``(D,)``; 0 but for bbox."""
        share = np.zeros(len(self._dt.score))
        if metric == 'bbox':
            region = (self._gt.name == 'dontcare')[self._gt_of]
            dts, gts = self._dt_of[region], self._gt_of[region]
            inside = _box_overlap(self._dt.bbox[dts], self._gt.bbox[gts], of_first=True)
            np.maximum.at(share, dts, inside)
        return share

    def _ground_area(self) -> np.ndarray:
        """Shared area of the footprints of every pair, computed once."""
        if self._area is None:
            flat_dt, flat_gt = _on_ground(self._dt), _on_ground(self._gt)
            self._area = np.zeros(len(self._dt_of))
            for first in range(0, len(self._area), _PAIRS_PER_BLOCK):
                part = slice(first, first + _PAIRS_PER_BLOCK)
                area = bev_overlap_area_pairs(
                    flat_dt[self._dt_of[part]], flat_gt[self._gt_of[part]]
                )
                self._area[part] = area.numpy()
        return self._area


def _on_ground(frames: Frames) -> torch.Tensor:
    """Footprints as ``(N, 7)`` float64 boxes of :mod:`mmdistill.det3d.boxes`, in x and z."""
    (x, _, z), (length, height, width) = frames.location.T, frames.dimensions.T
    # rotation_y turns about the axis pointing down: from x towards -z.
    boxes = np.stack((x, z, 0 * x, length, width, height, -frames.rotation_y), 1)
    return torch.from_numpy(boxes)


def _box_overlap(first: np.ndarray, second: np.ndarray, of_first: bool = False) -> np.ndarray:
    """IoU of 2D boxes pair by pair, or the share of the first one that lies in the second."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    inter = np.where((sides > 0).all(1), sides.prod(1), 0)
    size_first = (first[:, 2:] - first[:, :2]).prod(1)
    whole = size_first
    if not of_first:
        whole = size_first + (second[:, 2:] - second[:, :2]).prod(1) - inter
    return np.divide(inter, whole, out=np.zeros(len(inter)), where=inter > 0)


def _gt_states(gt: Frames, name: str, difficulty: int) -> np.ndarray:
    """States of the objects, see :mod:`mmdistill.det3d.kitti_matching`."""
    own = gt.name == name.lower()
    neighbour = gt.name == _NEIGHBOURS.get(name.lower(), '')
    hard = (
        (gt.occluded > _MAX_OCCLUSION[difficulty])
        | (gt.truncated > _MAX_TRUNCATION[difficulty])
        | (gt.bbox[:, 3] - gt.bbox[:, 1] <= _MIN_HEIGHT[difficulty])
    )
    return np.where(own & ~hard, 0, np.where(own | neighbour, 1, -1)).astype(np.int64)


def _dt_states(dt: Frames, name: str, difficulty: int) -> np.ndarray:
    """States of the detections, see :mod:`mmdistill.det3d.kitti_matching`."""
    # Small detections of every class are tolerated, as in the development kit.
    small = np.abs(dt.bbox[:, 3] - dt.bbox[:, 1]) < _MIN_HEIGHT[difficulty]
    return np.where(small, 1, np.where(dt.name == name.lower(), 0, -1)).astype(np.int64)


def _curves(args, covered, num_gt, gt: Frames, dt: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Precision and orientation similarity at the 41 recall points, nan without objects."""
    curves = np.zeros((2, NUM_RECALL_POINTS))
    if num_gt == 0:
        return curves[0] + np.nan, curves[1] + np.nan
    thresholds = score_thresholds(matched_scores(*args), int(num_gt))
    if len(thresholds):
        counts = count_at_thresholds(*args, thresholds, covered, gt.alpha, dt.alpha)
        total = np.maximum(counts[:, 0] + counts[:, 1], 1)
        curves[0, : len(thresholds)] = counts[:, 0] / total
        curves[1, : len(thresholds)] = counts[:, 2] / total
    best_from_here = np.maximum.accumulate(curves[:, ::-1], axis=1)[:, ::-1]
    return best_from_here[0], best_from_here[1]


def _class_overlaps(classes, min_overlaps) -> dict[str, tuple]:
    """The overlaps of the evaluated classes."""
    known = {**MIN_OVERLAPS, **(min_overlaps or {})}
    missing = [name for name in classes if name not in known]
    if missing:
        raise KeyError(
            f'no overlaps for the classes {missing}; known are {sorted(known)}. Pass min_overlaps='
            '{name: ((strict bbox, bev, 3d), (loose bbox, bev, 3d))} to evaluate others'
        )
    return {name: tuple(known[name]) for name in classes}
