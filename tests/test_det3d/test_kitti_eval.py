"""KITTI's average precision against mmdet3d's own evaluation, hand-made numbers and laws."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kitti_cases import CLASSES, empty, found, frames, perfect, polygon, scene
from shapely.geometry import Polygon

from mmdistill.det3d import kitti_eval
from mmdistill.det3d.kitti_eval import evaluate, evaluate_frames
from mmdistill.det3d.kitti_frames import stack_frames


def not_empty(gts, dts):
    """mmdet3d's evaluation fails on frames whose ground truth is empty."""
    kept = [(gt, dt) for gt, dt in zip(gts, dts, strict=True) if len(gt['name'])]
    return [gt for gt, _ in kept], [dt for _, dt in kept]


@pytest.fixture(scope='module')
def oracle(tmp_path_factory):
    """Cases with what mmdet3d's own code says about them, computed in one process."""
    folder = tmp_path_factory.mktemp('oracle')
    cases = [
        ('simulator', *not_empty(*frames(4, 9, most=16)), CLASSES),
        ('polygons', *not_empty(*frames(1, 250)), CLASSES),
        ('polygons', *not_empty(*frames(2, 250, degenerate=True)), CLASSES),
        ('polygons', *not_empty(*frames(3, 40, most=25)), ('Car',)),
    ]
    (folder / 'in.pkl').write_bytes(pickle.dumps(cases))
    script = Path(__file__).with_name('kitti_oracle.py')
    command = [sys.executable, str(script), str(folder / 'in.pkl'), str(folder / 'out.pkl')]
    env = {**os.environ, 'NUMBA_ENABLE_CUDASIM': '1', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes = pickle.loads((folder / 'out.pkl').read_bytes())
    return [(*case[1:], outcome) for case, outcome in zip(cases, outcomes, strict=True)]


@pytest.mark.parametrize('case', range(4))
def test_equals_mmdet3d(oracle, case):
    gts, dts, classes, expected = oracle[case]
    result = evaluate_frames(gts, dts, classes)
    scalars, compared = result.scalars(), 0
    assert (result.num_gt > 0).all()
    for key, value in expected.items():
        if key != 'aos' and 'Overall' not in key:
            assert scalars[key.removeprefix('KITTI/')] == pytest.approx(value, abs=1e-6), key
            compared += 1
        elif 'Overall' in key:
            _, metric, recalls, difficulty = key.removeprefix('KITTI/').split('_')
            mean = scalars[f'm{recalls}_{metric}_{difficulty}']
            assert mean == pytest.approx(value, abs=1e-6), key
    assert compared == 2 * 3 * 3 * 2 * len(classes)
    aos = [result.ap('aos', recalls).transpose(0, 2, 1).ravel() for recalls in (11, 40)]
    overall = [result.mean_ap('aos', recalls)[:, 0] for recalls in (11, 40)]
    ours = [aos[0], overall[0], aos[1], overall[1]] if len(classes) > 1 else aos
    np.testing.assert_allclose(np.concatenate(ours), expected['aos'], atol=0.0051)
    assert max(scalars.values()) > 5  # the case is not trivial


def test_overlaps_equal_float64_polygons():
    for degenerate in (False, True):
        gt, dt = stack_frames(*frames(5, 60, degenerate=degenerate))
        pairs = kitti_eval._Pairs(gt, dt)
        bev, volume = pairs.overlaps('bev'), pairs.overlaps('3d')
        assert len(bev) > 500
        assert (bev > 0.3).sum() > 50
        for n, (i, j) in enumerate(zip(pairs._dt_of, pairs._gt_of, strict=True)):
            p, q = (
                Polygon(polygon(f.location[k], f.dimensions[k], f.rotation_y[k])).buffer(0)
                for f, k in ((dt, i), (gt, j))
            )
            inter = p.intersection(q).area
            union = p.area + q.area - inter
            assert bev[n] == pytest.approx(inter / union if inter else 0, abs=1e-9)
            spans = [
                (f.location[k, 1] - f.dimensions[k, 1], f.location[k, 1])
                for f, k in ((dt, i), (gt, j))
            ]
            inter *= max(0, min(spans[0][1], spans[1][1]) - max(spans[0][0], spans[1][0]))
            union = p.area * dt.dimensions[i, 1] + q.area * gt.dimensions[j, 1] - inter
            assert volume[n] == pytest.approx(inter / union if inter else 0, abs=1e-9)


def test_perfect_detections_score_100_where_there_is_something_to_find():
    gts = [gt for gt, _ in zip(*frames(7, 400), strict=True)]
    result = evaluate_frames(gts, [perfect(gt) for gt in gts], CLASSES)
    assert (result.num_gt > 0).all()
    for metric in ('bbox', 'bev', '3d', 'aos'):
        np.testing.assert_allclose(result.ap(metric, 40), 100)
        np.testing.assert_allclose(result.ap(metric, 11), 100)


def test_hand_made_curve():
    """Four cars; hits at .9 and .7, a false alarm at .8, two cars missed.

    The recall points nearest to 1/4 and 2/4 hold 2 thresholds: .9 (precision 1) and .7 (2/3).
    """
    gt = scene('Car', 'Car', 'Car', 'Car')
    dt = {key: value[[0, 1, 2]] for key, value in found(gt, 0.9, 0.8, 0.7, 0.0).items()}
    dt['location'][1, 2] += 30
    result = evaluate_frames([gt], [dt], ['Car'])
    curve = result.precision[result.metrics.index('3d'), 0, 1, 0]
    np.testing.assert_allclose(curve, [1, 2 / 3] + [0] * 39)
    assert result.ap('3d', 11)[0, 1, 0] == pytest.approx(100 / 11)
    assert result.ap('3d', 40)[0, 1, 0] == pytest.approx(100 * 2 / 3 / 40)


def test_orientation_similarity_of_a_constant_error():
    gt = scene('Car', 'Car')
    dt = found(gt, 0.9, 0.8)
    dt['alpha'] += 1.0
    result = evaluate_frames([gt], [dt], ['Car'])
    assert result.ap('bbox') == pytest.approx(result.ap('aos') / ((1 + np.cos(1)) / 2))
    dt['alpha'][:] = -10
    assert 'aos' not in evaluate_frames([gt], [dt], ['Car']).metrics


@pytest.mark.parametrize(
    'name, forgiven', [('Van', True), ('Truck', False), ('Person_sitting', False)]
)
def test_neighbouring_classes_are_neither_hits_nor_errors(name, forgiven):
    gt = scene('Car', name)
    dt = found(scene('Car', 'Car'), 0.5, 0.9)
    precision = evaluate_frames([gt], [dt], ['Car']).precision[..., 0]
    assert precision == pytest.approx(1.0 if forgiven else 0.5)


def test_dont_care_regions_forgive_in_the_image_only():
    gt = scene('Car', 'DontCare')
    gt['location'][1], gt['dimensions'][1] = -1000, -1
    dt = found(scene('Car', 'Car'), 0.5, 0.9)
    result = evaluate_frames([gt], [dt], ['Car'])
    first = dict(zip(result.metrics, result.precision[:, 0, 0, 0, 0], strict=True))
    assert first == pytest.approx({'bbox': 1, 'bev': 0.5, '3d': 0.5, 'aos': 1})


def test_difficulties_follow_height_occlusion_and_truncation():
    gt = scene(
        *['Car'] * 5,
        occluded=[0, 1, 2, 3, 0],
        truncated=[0.15, 0.3, 0.5, 0, 0.51],
    )
    result = evaluate_frames([gt], [found(gt, *[0.5] * 5)], ['Car'])
    assert result.num_gt.tolist() == [[1, 2, 3]]
    for height, counts in ((41, [1, 1, 1]), (40, [0, 1, 1]), (26, [0, 1, 1]), (25, [0, 0, 0])):
        gt = scene('Car', bbox=[[0, 0, 50, height]])
        assert evaluate_frames([gt], [found(gt, 0.5)], ['Car']).num_gt.tolist() == [counts]


def test_small_detections_are_no_false_alarms():
    gt = scene('Car')
    dt = found(scene('Car', 'Car'), 0.5, 0.9)
    dt['bbox'][1] = [100, 0, 150, 30]  # too small for easy only
    precision = evaluate_frames([gt], [dt], ['Car']).precision[0, 0, :, 0, 0]
    assert precision == pytest.approx([1, 0.5, 0.5])


def test_3d_needs_height_and_loose_overlaps_forgive():
    gt = scene('Pedestrian')
    dt = found(gt, 0.9)
    dt['location'][:, 1] += 0.6  # IoU 0.9 / 2.1 = 0.43 in 3D, 1 in BEV
    scalars = evaluate([gt], [dt], ['Pedestrian'])
    names = ('3D_AP11_easy_strict', '3D_AP11_easy_loose', 'BEV_AP11_easy_strict')
    assert [scalars[f'Pedestrian_{name}'] > 0 for name in names] == [False, True, True]
    assert scalars['mAP11_3D_easy'] == 0


def test_nothing_found_is_zero():
    scalars = evaluate([scene('Car')], [empty(True)], ['Car'])
    assert scalars['Car_3D_AP40_moderate_strict'] == 0


def test_order_of_frames_and_boxes_does_not_matter():
    gts, dts = frames(8, 60)
    rng = np.random.default_rng(0)
    for dt in dts:
        dt['score'] = rng.random(len(dt['score']))  # no ties
    expected = evaluate(gts, dts, CLASSES)
    order = rng.permutation(60)
    shuffled = []
    for i in order:
        turn = rng.permutation(len(dts[i]['score']))
        shuffled.append({key: value[turn] for key, value in dts[i].items()})
    assert evaluate([gts[i] for i in order], shuffled, CLASSES) == pytest.approx(
        expected, nan_ok=True
    )


def test_only_the_metrics_that_were_asked_for():
    gts, dts = frames(10, 10)
    flat = [{key: dt[key] for key in ('name', 'bbox', 'score')} for dt in dts]
    two_d = evaluate_frames(gts, flat, CLASSES, ['bbox'])
    assert two_d.metrics == ('bbox',)
    full = evaluate_frames(gts, dts, CLASSES)
    assert full.metrics == ('bbox', 'bev', '3d', 'aos')
    np.testing.assert_array_equal(two_d.ap('bbox'), full.ap('bbox'))


def test_further_classes_with_their_own_overlaps():
    gt = scene('Truck')
    with pytest.raises(KeyError, match=r"\['Truck'\].*min_overlaps"):
        evaluate_frames([gt], [found(gt, 0.9)], ['Truck'])
    limits = {'Truck': ((0.7, 0.7, 0.7), (0.5, 0.5, 0.5))}
    result = evaluate_frames([gt], [found(gt, 0.9)], ['Truck'], min_overlaps=limits)
    assert (result.ap('3d', 11) > 0).all()
