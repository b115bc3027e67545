"""Random and degenerate frames in KITTI's camera frame, shared by the evaluation's tests."""

import copy
import math

import numpy as np

NAMES = ('Car', 'Pedestrian', 'Cyclist', 'Van', 'Person_sitting', 'DontCare', 'Truck')
SHARES = (0.3, 0.2, 0.2, 0.1, 0.05, 0.1, 0.05)
CLASSES = ('Pedestrian', 'Cyclist', 'Car')


def random_boxes(rng, num):
    """Boxes of all sizes, as an annotation without names."""
    height, left, top = (
        rng.uniform(15, 90, num),
        rng.uniform(0, 900, num),
        rng.uniform(50, 200, num),
    )
    width = rng.uniform(20, 200, num)
    columns = ((-20, 20), (1, 2), (5, 60)), ((0.5, 4.5), (1, 2), (0.4, 2))
    location, dimensions = (np.stack([rng.uniform(*c, num) for c in part], 1) for part in columns)
    return {
        'bbox': np.stack([left, top, left + width, top + height], 1),
        'location': location,
        'dimensions': dimensions,
        'rotation_y': rng.uniform(-math.pi, math.pi, num),
        'alpha': rng.uniform(-math.pi, math.pi, num),
    }


def random_gt(rng, num):
    """Objects of all classes, occlusions and truncations."""
    anno = random_boxes(rng, num)
    anno['name'] = rng.choice(NAMES, num, p=SHARES)
    anno['occluded'] = rng.choice(4, num, p=[0.55, 0.2, 0.15, 0.1])
    anno['truncated'] = rng.choice([0.0, 0.1, 0.2, 0.4, 0.7], num, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    anno['alpha'][anno['name'] == 'DontCare'] = -10
    return anno


def random_dt(rng, gt, num, degenerate=False):
    """Detections, most of them near an object: jittered, or moved in ways that trap clippers."""
    anno = random_boxes(rng, num)
    anno['name'] = rng.choice(CLASSES, num)
    anno['score'] = np.round(rng.random(num), int(rng.integers(1, 9)))  # with ties
    if len(gt['name']):
        source = rng.integers(0, len(gt['name']), num)
        near = rng.random(num) < 0.85
        for key in ('bbox', 'location', 'dimensions', 'rotation_y', 'alpha'):
            anno[key][near] = gt[key][source[near]]
        own = near & np.isin(gt['name'][source], CLASSES) & (rng.random(num) < 0.9)
        anno['name'][own] = gt['name'][source[own]]
        _move_degenerately(rng, anno, near) if degenerate else _jitter(rng, anno, near)
    return anno


def _jitter(rng, anno, near):
    sizes = {'bbox': 3, 'location': 0.08, 'dimensions': 0.05, 'rotation_y': 0.05, 'alpha': 0.3}
    for key, size in sizes.items():
        anno[key][near] += rng.normal(0, size, anno[key][near].shape)


def _move_degenerately(rng, anno, near):
    """Identical, half turn, slid along or across the heading, shrunk about the centre, flat.

    No IoU comes near 0.25, 0.5 or 0.7, where rounding would decide.
    """
    for i in np.flatnonzero(near):
        kind, heading = rng.integers(0, 6), anno['rotation_y'][i]
        length, _, width = anno['dimensions'][i]
        along = np.array([math.cos(heading), 0, -math.sin(heading)])
        if kind == 1:
            anno['rotation_y'][i] += math.pi
        elif kind == 2:
            anno['location'][i] += along * length * rng.choice([-1, -0.2, 0.1, 0.5, 1])
        elif kind == 3:
            anno['location'][i] += along[[2, 1, 0]] * [-1, 1, 1] * width * rng.choice([0.1, 0.3, 1])
            anno['rotation_y'][i] += math.pi
        elif kind == 4:
            anno['dimensions'][i] *= rng.choice([0.6, 0.9])
        elif kind == 5:
            anno['dimensions'][i, rng.integers(0, 3)] = 0


def frames(seed, num, degenerate=False, most=7):
    """Ground truth and detections of some frames, a few of them empty."""
    rng = np.random.default_rng(seed)
    gts = [random_gt(rng, int(rng.integers(0, most))) for _ in range(num)]
    return gts, [random_dt(rng, gt, int(rng.integers(0, most + 2)), degenerate) for gt in gts]


def empty(with_score=False):
    """An annotation without boxes."""
    anno = random_gt(np.random.default_rng(0), 0)
    return {**anno, 'score': np.zeros(0)} if with_score else anno


def perfect(gt):
    """Detections that equal the ground truth of the three classes."""
    keep = np.isin(gt['name'], CLASSES)
    keys = ('name', 'bbox', 'location', 'dimensions', 'rotation_y', 'alpha')
    anno = {key: gt[key][keep].copy() for key in keys}
    return {**anno, 'score': np.linspace(1, 0.5, keep.sum())}


def polygon(location, dimensions, rotation_y):
    """Footprint corners (x, z) of a box, by KITTI's definition."""
    (x, _, z), (length, _, width) = location, dimensions
    cos, sin = math.cos(rotation_y), math.sin(rotation_y)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    halves = ((sx * length / 2, sz * width / 2) for sx, sz in signs)
    return [
        (x + cos * along + sin * across, z - sin * along + cos * across) for along, across in halves
    ]


def scene(*names, **changes):
    """A frame of big, visible, well separated objects."""
    n = len(names)
    x = 10.0 * np.arange(n)
    anno = {
        'name': np.array(names),
        'bbox': np.stack([100 * np.arange(n), 0 * x, 100 * np.arange(n) + 50, 0 * x + 100], 1),
        'location': np.stack([x, 0 * x + 1.5, 0 * x + 20], 1),
        'dimensions': np.tile([4.0, 1.5, 2.0], (n, 1)),
        'rotation_y': np.zeros(n),
        'alpha': np.zeros(n),
        'truncated': np.zeros(n),
        'occluded': np.zeros(n, int),
    }
    return {**anno, **{key: np.array(value) for key, value in changes.items()}}


def found(gt, *scores):
    """Detections that equal the objects of a scene."""
    dt = copy.deepcopy({k: v for k, v in gt.items() if k not in ('truncated', 'occluded')})
    return {**dt, 'score': np.array(scores)}
