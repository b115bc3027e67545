"""Runs mmdet3d's own KITTI evaluation in a process of its own: ``kitti_oracle.py IN.pkl OUT.pkl``.

IN.pkl holds a list of ``(how, ground truths, detections, classes)``. ``simulator`` uses mmdet3d's
CUDA kernel in numba's simulator (it needs ``NUMBA_ENABLE_CUDASIM=1``), ``polygons`` replaces just
that kernel by shapely in float64. OUT.pkl gets the list of mmdet3d's results, with the two digits
of the orientation similarities, which mmdet3d only prints, under ``aos``.
"""

import importlib.util
import os
import pickle
import re
import sys
import types
from pathlib import Path

import numpy as np
from shapely.geometry import Polygon


def load_reference():
    """Imports the evaluation's folder without mmdet3d itself, which takes a while."""
    root = Path(importlib.util.find_spec('mmdet3d').origin).parent
    package = types.ModuleType('reference')
    package.__path__ = [str(root / 'evaluation' / 'functional' / 'kitti_utils')]
    sys.modules['reference'] = package
    return importlib.import_module('reference.eval')


def corners(box):
    """Corners of (x, z, length, width, rotation_y); rotation_y turns from x towards -z."""
    x, z, length, width, angle = (float(v) for v in box)
    cos, sin = np.cos(angle), np.sin(angle)
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    turn = np.array([[cos, -sin], [sin, cos]])
    return (x, z) + signs * [length / 2, width / 2] @ turn


def polygon_iou(boxes, queries, criterion=-1):
    """The kernel's function: IoU, or the area for criterion 2."""
    first = [Polygon(corners(box)).buffer(0) for box in boxes]
    second = [Polygon(corners(box)).buffer(0) for box in queries]
    out = np.zeros((len(first), len(second)))
    for i, p in enumerate(first):
        for j, q in enumerate(second):
            inter = p.intersection(q).area
            union = p.area + q.area - inter
            out[i, j] = inter if criterion == 2 else inter / union if inter else 0
    return out


def main(source, target):
    """Evaluates all cases."""
    reference = load_reference()
    polygons = types.ModuleType('reference.rotate_iou')
    polygons.rotate_iou_gpu_eval = polygon_iou
    outcomes = []
    for how, gts, dts, classes in pickle.loads(Path(source).read_bytes()):
        if how == 'polygons':
            sys.modules['reference.rotate_iou'] = polygons
        else:
            assert os.environ['NUMBA_ENABLE_CUDASIM'] == '1'
            sys.modules.pop('reference.rotate_iou', None)
        text, numbers = reference.kitti_eval(gts, dts, list(classes))
        aos = [float(v) for line in re.findall(r'aos +AP\d+:(.*)', text) for v in line.split(',')]
        outcomes.append({**numbers, 'aos': aos})
    Path(target).write_bytes(pickle.dumps(outcomes))


if __name__ == '__main__':
    main(*sys.argv[1:])
