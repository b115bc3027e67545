"""Conversion of infos and predictions, against mmdet3d's."""

import numpy as np
import pytest
import torch
from kitti_splits import CLASSES, LIDAR2CAM, NUM, draw_split, info_of, lidar_boxes, write_infos
from mmdet3d.evaluation.metrics import KittiMetric as HostKittiMetric
from mmdet3d.structures import Box3DMode, LiDARInstance3DBoxes

from mmdistill.det3d.kitti_predictions import (
    ground_truth_anno,
    prediction_anno,
    prediction_anno_2d,
    submission_lines,
)


@pytest.mark.parametrize('box_type', ['lidar', 'camera'])
def test_conversion_equals_mmdet3d(tmp_path, box_type):
    """Boxes all around: those out of the image or range go, angles are wrapped alike."""
    infos, _ = draw_split()
    rng = np.random.default_rng(1)
    predictions = []
    for _ in infos:
        boxes, labels = lidar_boxes(rng, 40, spread=2)
        boxes = LiDARInstance3DBoxes(boxes)
        if box_type == 'camera':
            boxes = boxes.convert_to(Box3DMode.CAM, LIDAR2CAM.astype(np.float32))
        predictions.append({'bboxes_3d': boxes, 'labels_3d': labels, 'scores_3d': torch.rand(40)})
    host = HostKittiMetric(write_infos(tmp_path / 'infos.pkl', infos))
    host.data_infos = infos
    kept = 0
    limits = [0, -40, -3, 70.4, 40, 0.0]
    ours = [
        prediction_anno(p, info, CLASSES, limit_range=limits)
        for p, info in zip(predictions, infos, strict=True)
    ]
    theirs = host.bbox2result_kitti(predictions, list(range(NUM)), list(CLASSES))
    for own, their in zip(ours, theirs, strict=True):
        assert own['name'].tolist() == their['name'].tolist()
        kept += len(own['name'])
        for key in ('bbox', 'location', 'dimensions', 'rotation_y', 'alpha', 'score'):
            np.testing.assert_allclose(own[key], their[key], rtol=1e-5, atol=1e-4, err_msg=key)
    assert 200 < kept < 1500


def test_predictions_stay_as_they_were():
    infos, boxes = draw_split()
    before = boxes[0][0].clone()
    prediction = {
        'bboxes_3d': LiDARInstance3DBoxes(boxes[0][0]),
        'scores_3d': torch.rand(12),
        'labels_3d': boxes[0][1],
    }
    prediction_anno(prediction, infos[0], CLASSES)
    assert torch.equal(prediction['bboxes_3d'].tensor, before)


def test_ground_truth_equals_mmdet3d(tmp_path):
    infos, _ = draw_split()
    host = HostKittiMetric(write_infos(tmp_path / 'infos.pkl', infos))
    categories = {'Pedestrian': 0, 'Cyclist': 1, 'Car': 2}
    content = {'metainfo': {'categories': categories}, 'data_list': [dict(i) for i in infos]}
    names = {number: name for name, number in categories.items()}
    for info, their in zip(infos, host.convert_annos_to_kitti_annos(content), strict=True):
        own = ground_truth_anno(info, names)
        for key, value in own.items():
            assert value.tolist() == their['kitti_annos'][key].tolist()
    empty = ground_truth_anno({'instances': []}, names)
    assert empty['bbox'].shape == (0, 4)
    assert empty['location'].shape == empty['dimensions'].shape == (0, 3)


def test_dont_care_needs_no_listing():
    info = info_of(0, *lidar_boxes(np.random.default_rng(0), 12))
    info['instances'][0]['bbox_label'] = -1
    assert ground_truth_anno(info, {0: 'a', 1: 'b', 2: 'c'})['name'][0] == 'DontCare'


def test_2d_predictions_have_placeholders_in_submissions():
    prediction = {
        'bboxes': torch.tensor([[1.0, 2, 3, 4]]),
        'labels': torch.tensor([2]),
        'scores': torch.tensor([0.5]),
    }
    (line,) = submission_lines(prediction_anno_2d(prediction, CLASSES))
    numbers = '-10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10 0.5'
    assert line.split()[:3] == ['Car', '-1', '-1']
    assert [float(v) for v in line.split()[3:]] == [float(v) for v in numbers.split()]


def test_wrong_input_is_named():
    infos, boxes = draw_split()
    plain = {'bboxes_3d': boxes[0][0], 'scores_3d': torch.ones(12), 'labels_3d': boxes[0][1]}
    with pytest.raises(TypeError, match='LiDAR or camera boxes, got Tensor'):
        prediction_anno(plain, infos[0], CLASSES)
    plain['bboxes_3d'] = LiDARInstance3DBoxes(boxes[0][0])
    plain['labels_3d'] = boxes[0][1] - 1
    with pytest.raises(ValueError, match='predicted label -1'):
        prediction_anno(plain, infos[0], CLASSES)
    with pytest.raises(KeyError, match="no camera 'CAM9', only .*CAM2"):
        prediction_anno(plain, infos[0], CLASSES, 'CAM9')
