"""Joining the annotations of frames: correspondence, checks, bad numbers."""

import numpy as np
import pytest
from kitti_cases import CLASSES, empty, found, frames, scene

from mmdistill.det3d.kitti_eval import evaluate, evaluate_frames
from mmdistill.det3d.kitti_frames import stack_frames


def test_frames_own_their_boxes():
    gts, dts = frames(0, 30)
    gt, dt = stack_frames(gts, dts)
    for stacked, annos in ((gt, gts), (dt, dts)):
        for f, anno in enumerate(annos):
            own = slice(stacked.start[f], stacked.start[f + 1])
            np.testing.assert_array_equal(stacked.location[own], anno['location'])
            np.testing.assert_array_equal(stacked.bbox[own], anno['bbox'])
            assert stacked.name[own].tolist() == [name.lower() for name in anno['name']]
    assert gt.has_alpha
    assert not dt.occluded.any()


def test_empty_frames_keep_their_place():
    gt, dt = stack_frames([scene('Car'), empty(), scene('Car', 'Van')], [empty(True)] * 3)
    assert gt.start.tolist() == [0, 1, 1, 3]
    assert dt.start.tolist() == [0, 0, 0, 0]
    assert not dt.has_alpha


def test_mappings_match_by_frame_id():
    gts, dts = frames(9, 20)
    by_id = {f'{i:06d}': gt for i, gt in enumerate(gts)}
    backwards = {f'{i:06d}': dts[i] for i in reversed(range(20))}
    assert evaluate(by_id, backwards, CLASSES) == pytest.approx(
        evaluate(gts, dts, CLASSES), nan_ok=True
    )
    with pytest.raises(ValueError, match=r"1 frames have no .*'000003'.* 1 have no .*'7'"):
        evaluate(by_id, {**{k: v for k, v in backwards.items() if k != '000003'}, '7': {}}, CLASSES)


def test_wrong_input_is_named():
    gt, dt = scene('Car'), found(scene('Car'), 0.9)
    with pytest.raises(ValueError, match='2 frames of ground truth, but 1 of detections'):
        evaluate([gt, gt], [dt], ['Car'])
    with pytest.raises(ValueError, match='frame 0 is 4 in the ground truth, 5 in detections'):
        evaluate([{**gt, 'sample_idx': 4}], [{**dt, 'sample_idx': np.array([5])}], ['Car'])
    with pytest.raises(KeyError, match=r"detections of frame 0 lack \['score'\]"):
        evaluate([gt], [{k: v for k, v in dt.items() if k != 'score'}], ['Car'])
    with pytest.raises(ValueError, match="frame 0: 1 names but 2 of 'bbox'"):
        evaluate([gt], [{**dt, 'bbox': np.zeros((2, 4))}], ['Car'])
    with pytest.raises(ValueError, match='bbox, bev, 3d'):
        evaluate([gt], [dt], ['Car'], ['mAP'])


def test_detections_that_are_not_finite_are_left_out_with_a_warning():
    gt = scene('Car', 'Car')
    dt = found(scene('Car', 'Car', 'Car', 'Car'), 0.9, np.nan, 0.8, 0.7)
    dt['location'][2, 0] = np.inf
    with pytest.warns(UserWarning, match='2 detections with inf or nan'):
        result = evaluate_frames([gt], [dt], ['Car'])
    clean = {key: value[[0, 3]] for key, value in dt.items()}
    np.testing.assert_array_equal(
        result.precision, evaluate_frames([gt], [clean], ['Car']).precision
    )
