"""The metric as configs use it: results, files and errors."""

import pickle

import numpy as np
import pytest
import torch
from kitti_splits import CLASSES, LIDAR2CAM, NUM, draw_split, sample_of, write_infos
from mmdet3d.structures import Box3DMode, CameraInstance3DBoxes
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData

from mmdistill.det3d.kitti_metric import KittiMetric
from mmdistill.det3d.kitti_predictions import submission_lines
from mmdistill.registry import METRICS


@pytest.fixture
def split(tmp_path):
    """The path of an info file, its frames, and the boxes in them."""
    infos, boxes = draw_split()
    return write_infos(tmp_path / 'infos.pkl', infos), infos, boxes


def evaluate(metric, samples, classes=CLASSES, copies=1):
    """Runs a metric through mmengine's evaluator."""
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {'classes': classes}
    evaluator.process(data_samples=samples, data_batch={})
    return evaluator.evaluate(len(samples))


def test_perfect_predictions_through_the_evaluator(split):
    path, _, boxes = split
    samples = [sample_of(i, *pair, torch.rand(12) * 0.5 + 0.5) for i, pair in enumerate(boxes)]
    scores = evaluate(METRICS.build({'type': 'mmdistill.KittiMetric', 'ann_file': path}), samples)
    for name in CLASSES:
        for kind in ('3D_AP11_hard_strict', 'BEV_AP40_hard_loose', 'AOS_AP40_moderate_strict'):
            assert scores[f'Kitti/{name}_{kind}'] == pytest.approx(100)
    assert scores['Kitti/mAP40_3D_moderate'] == pytest.approx(100)
    assert scores['Kitti/mAP11_2D_hard'] == pytest.approx(100)


def test_frames_are_found_by_file_name_or_by_position(split):
    """In another order, with positions that say nothing, or by position alone."""
    path, _, boxes = split
    order = np.random.default_rng(0).permutation(NUM)[:35].tolist()
    scores = torch.linspace(0.5, 1, 12)
    by_name = [sample_of(99, *boxes[i], scores, number=10 + 3 * i) for i in order]
    by_place = [sample_of(i, *boxes[i], scores) for i in order]
    metric = KittiMetric(path)
    expected = evaluate(metric, by_name)
    assert expected['Kitti/Car_3D_AP40_hard_strict'] == pytest.approx(100)
    for samples in (by_name, by_place):
        assert evaluate(metric, samples) == pytest.approx(expected, nan_ok=True)
    wrong = [sample_of(i, *boxes[(i + 1) % NUM], scores) for i in range(NUM)]
    assert evaluate(metric, wrong)['Kitti/Car_3D_AP11_hard_strict'] < 50


def test_no_detection_anywhere_is_zero(split):
    path, _, _ = split
    nothing = torch.zeros(0, 7), torch.zeros(0, dtype=torch.long), torch.zeros(0)
    scores = evaluate(KittiMetric(path), [sample_of(i, *nothing) for i in range(NUM)])
    assert scores['Kitti/mAP40_3D_moderate'] == 0


def test_class_without_ground_truth_is_nan_with_one_warning(split, monkeypatch):
    path, _, boxes = split
    logged = []
    monkeypatch.setattr(
        'mmdistill.det3d.kitti_metric.print_log',
        lambda text, **kwargs: logged.append((text, kwargs)),
    )
    metric = KittiMetric(path)
    samples = [sample_of(i, *pair, torch.rand(12)) for i, pair in enumerate(boxes)]
    for _ in range(2):
        scores = evaluate(metric, samples, (*CLASSES, 'Van'))
        assert np.isnan(scores['Kitti/Van_3D_AP40_moderate_strict'])
        singles = [scores[f'Kitti/{name}_3D_AP40_hard_strict'] for name in CLASSES]
        assert scores['Kitti/mAP40_3D_hard'] == pytest.approx(np.mean(singles))
    warnings = [text for text, kwargs in logged if 'level' in kwargs]
    assert len(warnings) == 1
    assert 'Van (easy, moderate, hard)' in warnings[0]
    tables = [text for text, kwargs in logged if 'level' not in kwargs]
    assert len(tables) == 2
    assert 'AP40' in tables[0]
    assert 'AP11' in tables[0]


def test_2d_results_and_metric_choice(split):
    path, infos, boxes = split
    samples = []
    for i, info in enumerate(infos):
        instances = info['instances']
        labels = torch.tensor([instance['bbox_label'] for instance in instances])
        flat = torch.tensor([instance['bbox'] for instance in instances])
        sample = sample_of(i, *boxes[i], torch.rand(12))
        scores = torch.linspace(0.1, 1, len(flat))
        sample.pred_instances = InstanceData(bboxes=flat, labels=labels, scores=scores)
        samples.append(sample)
    scores = evaluate(KittiMetric(path, metric='img_bbox', prefix='Val'), samples)
    assert scores['Val/pred_instances/Car_2D_AP11_hard_strict'] == pytest.approx(100)
    assert 'Val/Car_2D_AP11_hard_strict' in scores
    assert not any('3D' in key or 'BEV' in key for key in scores)


def test_predictions_out_of_the_image_count_only_on_demand(split):
    path, _, boxes = split
    samples = []
    for i, (own, labels) in enumerate(boxes):
        aside = own.clone()
        aside[:, 0], aside[:, 1] = 10.0, 35 * aside[:, 1].sign()
        scores = torch.cat((torch.full((12,), 0.5), torch.full((12,), 0.9)))
        samples.append(sample_of(i, torch.cat((own, aside)), labels.repeat(2), scores))
    official = evaluate(KittiMetric(path), samples)
    everywhere = evaluate(KittiMetric(path, pred_fov_only=False), samples)
    for key in ('Kitti/Car_3D_AP11_hard_strict', 'Kitti/Car_2D_AP11_hard_strict'):
        assert official[key] == pytest.approx(100)
        assert everywhere[key] < 60


def test_files_for_the_server_and_for_analysis(split, tmp_path):
    path, infos, boxes = split
    samples = [sample_of(i, *pair, torch.rand(12)) for i, pair in enumerate(boxes)]
    for info in infos:
        del info['instances']
    path = write_infos(tmp_path / 'test.pkl', infos)
    folder = tmp_path / 'out'
    metric = KittiMetric(
        path, format_only=True, submission_prefix=str(folder), pklfile_prefix=str(folder)
    )
    assert evaluate(metric, samples) == {}
    files = sorted((folder / 'pred_instances_3d').glob('*.txt'))
    assert [file.stem for file in files] == [f'{10 + 3 * i:06d}' for i in range(NUM)]
    annos = pickle.loads((folder / 'pred_instances_3d.pkl').read_bytes())
    assert annos[2]['frame_id'] == '000016'
    lines = files[2].read_text().splitlines()
    assert lines == submission_lines(annos[2])
    name, *numbers = lines[0].split()
    assert name in CLASSES
    assert len(numbers) == 15
    length, height, width = annos[2]['dimensions'][0]
    np.testing.assert_allclose(
        [float(v) for v in numbers[7:10]], [height, width, length], atol=6e-5
    )
    with pytest.raises(KeyError, match='has no "instances".*format_only=True'):
        evaluate(KittiMetric(path), samples)


def test_wrong_input_is_named(split, tmp_path):
    path, infos, boxes = split
    sample = sample_of(0, *boxes[0], torch.rand(12))
    with pytest.raises(KeyError, match="some of .*'bbox', 'img_bbox'"):
        KittiMetric(path, metric='LET_mAP')
    with pytest.raises(ValueError, match='submission_prefix'):
        KittiMetric(path, format_only=True)
    with pytest.raises(ValueError, match='sample_idx 40 .* only 40 frames'):
        evaluate(KittiMetric(path), [sample_of(NUM, *boxes[0], torch.rand(12))])
    with pytest.raises(ValueError, match='000011.bin was evaluated but is no frame of'):
        evaluate(KittiMetric(path), [sample_of(0, *boxes[0], torch.rand(12), number=11)])
    with pytest.raises(ValueError, match="come twice in the predictions, first '000010'"):
        evaluate(KittiMetric(path), [sample, sample])
    with pytest.raises(KeyError, match=r"\['Tram'\]"):
        evaluate(KittiMetric(path), [sample], ('Car', 'Cyclist', 'Tram'))
    with pytest.raises(KeyError, match="no camera 'CAM9', only .*CAM2"):
        evaluate(KittiMetric(path, default_cam_key='CAM9'), [sample])
    old = tmp_path / 'old.pkl'
    old.write_bytes(pickle.dumps(infos))
    with pytest.raises(ValueError, match='no info file of mmdet3d 1.x'):
        evaluate(KittiMetric(str(old)), [sample])
    with pytest.raises(ValueError, match=r"predicted label \d, but .*'Pedestrian'\]"):
        evaluate(KittiMetric(path), [sample], ('Pedestrian',))


def test_few_objects_cap_the_ap_with_one_warning(split, tmp_path, monkeypatch):
    """The protocol fills one recall point per hit: perfect predictions of 5 cars reach 10 %."""
    _, infos, boxes = split
    cars = [(i, instance) for i in range(3) for instance in infos[i]['instances']]
    cars = [(i, instance) for i, instance in cars if instance['bbox_label'] == 2][:5]
    for i in range(3):
        infos[i]['instances'] = [instance for j, instance in cars if i == j]
    path = write_infos(tmp_path / 'few.pkl', infos[:3])
    logged = []
    monkeypatch.setattr(
        'mmdistill.det3d.kitti_metric.print_log', lambda text, **kwargs: logged.append(text)
    )
    samples = []
    for i in range(3):
        own = torch.tensor([instance['bbox_3d'] for instance in infos[i]['instances']])
        camera = CameraInstance3DBoxes(own.reshape(-1, 7))
        lidar = camera.convert_to(Box3DMode.LIDAR, np.linalg.inv(LIDAR2CAM).astype(np.float32))
        labels = torch.full((len(own),), 2)
        samples.append(sample_of(i, lidar.tensor, labels, torch.ones(len(own))))
    scores = evaluate(KittiMetric(path), samples)
    assert scores['Kitti/Car_3D_AP40_hard_strict'] == pytest.approx(100 * 4 / 40)
    assert any('Car (easy' in text and 'hard 5)' in text for text in logged)


def test_camera_boxes_are_evaluated_too(split):
    path, _, boxes = split
    samples = []
    for i, (own, labels) in enumerate(boxes):
        sample = sample_of(i, own, labels, torch.linspace(0.5, 1, 12))
        camera = sample.pred_instances_3d.bboxes_3d.convert_to(
            Box3DMode.CAM, LIDAR2CAM.astype(np.float32)
        )
        assert isinstance(camera, CameraInstance3DBoxes)
        sample.pred_instances_3d.bboxes_3d = camera
        samples.append(sample)
    scores = evaluate(KittiMetric(path), samples)
    assert scores['Kitti/Car_3D_AP11_hard_strict'] == pytest.approx(100)
