"""Numbers, means and the table of a result."""

import numpy as np
import pytest
from kitti_cases import CLASSES, empty, found, frames, scene

from mmdistill.det3d.kitti_eval import evaluate, evaluate_frames
from mmdistill.det3d.kitti_result import DIFFICULTIES, KittiResult


def result_of(curve, num_gt=50):
    """A result of one class and metric with the same curve everywhere."""
    precision = np.broadcast_to(curve, (1, 1, 3, 2, 41))
    overlaps = {'Car': ((0.7,) * 3, (0.5,) * 3)}
    return KittiResult(('Car',), ('3d',), precision, np.full((1, 3), num_gt), overlaps)


def test_recall_points_of_both_protocols():
    """Recall 0 counts among 11 points, not among 40; precision 1 up to recall 1/2."""
    half = result_of(np.arange(41) <= 20)
    assert half.ap('3d', 40) == pytest.approx(50)
    assert half.ap('3d', 11) == pytest.approx(100 * 6 / 11)
    start = result_of(np.arange(41) == 0)
    assert start.ap('3d', 40) == pytest.approx(0)
    assert start.ap('3d', 11) == pytest.approx(100 / 11)


def test_few_objects_are_told():
    assert result_of(np.zeros(41), 39).few_gt() == ['Car (easy 39, moderate 39, hard 39)']
    assert result_of(np.zeros(41), 40).few_gt() == []
    assert result_of(np.zeros(41), 0).few_gt() == []


def test_a_class_without_ground_truth_is_nan_and_leaves_the_mean():
    gt = scene('Car')
    result = evaluate_frames([gt], [found(scene('Car'), 0.9)], CLASSES)
    assert result.without_gt() == [
        'Pedestrian (easy, moderate, hard)',
        'Cyclist (easy, moderate, hard)',
    ]
    scalars = result.scalars()
    assert np.isnan(scalars['Cyclist_3D_AP40_moderate_strict'])
    assert scalars['mAP11_3D_moderate'] == scalars['Car_3D_AP11_moderate_strict'] > 0
    assert np.isnan(evaluate([empty()], [empty(True)], CLASSES)['mAP40_3D_moderate'])


def test_table_and_scalars_tell_the_same():
    result = evaluate_frames(*frames(11, 80), CLASSES)
    lines = result.table(40).splitlines()
    assert lines[0].split() == ['AP40', 'IoU', '2D', 'BEV', '3D', 'AOS', 'objects']
    car = next(line for line in lines if line.startswith('Car') and '0.7 0.7 0.7' in line)
    numbers = [float(v) for v in car.split()[4:-1]]
    scalars = result.scalars()
    expected = [
        scalars[f'Car_{metric}_AP40_{difficulty}_strict']
        for metric in ('2D', 'BEV', '3D', 'AOS')
        for difficulty in DIFFICULTIES
    ]
    np.testing.assert_allclose(numbers, expected, atol=0.0051)
    with pytest.raises(ValueError, match='recalls must be one of'):
        result.ap('3d', 101)
