"""Mean IoU over subsets of the classes against a count by hand."""

import numpy as np
import pytest
import torch
from mmseg.datasets import CityscapesDataset
from mmseg.evaluation import IoUMetric

from mmdistill.core.errors import UserError
from mmdistill.registry import METRICS
from mmdistill.seg.subset_iou import SYNTHIA_13, SYNTHIA_16, SubsetIoUMetric

CLASSES = CityscapesDataset.METAINFO['classes']


def evaluate(metric, labels, predictions, classes=CLASSES):
    """Runs a metric over images."""
    metric.dataset_meta = dict(classes=classes)
    for label, prediction in zip(labels, predictions, strict=True):
        sample = dict(
            pred_sem_seg=dict(data=torch.as_tensor(prediction)[None]),
            gt_sem_seg=dict(data=torch.as_tensor(label)[None]),
        )
        metric.process({}, [sample])
    return metric.evaluate(len(labels))


def brute_iou(labels, predictions, count):
    """IoU of every class from sets of pixels."""
    label, prediction = np.stack(labels).reshape(-1), np.stack(predictions).reshape(-1)
    keep = label != 255
    label, prediction = label[keep], prediction[keep]
    iou = []
    for c in range(count):
        union = ((label == c) | (prediction == c)).sum()
        iou.append(((label == c) & (prediction == c)).sum() / union if union else np.nan)
    return np.array(iou)


@pytest.fixture
def images():
    """Labels and predictions that agree on half of the pixels; all classes occur."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 19, (3, 40, 40))
    predictions = np.where(
        rng.random(labels.shape) < 0.5, labels, rng.integers(0, 19, labels.shape)
    )
    labels[rng.random(labels.shape) < 0.1] = 255
    return labels, predictions


def test_subsets_of_synthia_are_the_published_ones():
    names = [CLASSES[c] for c in range(19) if c not in SYNTHIA_16]
    assert names == ['terrain', 'truck', 'train'] and len(SYNTHIA_16) == 16
    names = [CLASSES[c] for c in SYNTHIA_16 if c not in SYNTHIA_13]
    assert names == ['wall', 'fence', 'pole'] and len(SYNTHIA_13) == 13


def test_means_are_those_of_the_classes(images):
    got = evaluate(SubsetIoUMetric(), *images)
    iou = brute_iou(*images, 19) * 100
    assert got['mIoU16'] == pytest.approx(iou[list(SYNTHIA_16)].mean(), abs=0.006)
    assert got['mIoU13'] == pytest.approx(iou[list(SYNTHIA_13)].mean(), abs=0.006)
    plain = evaluate(IoUMetric(), *images)
    assert {key: got[key] for key in plain} == plain
    assert got.keys() - plain.keys() == {'mIoU16', 'mIoU13'}


def test_sixteen_is_nineteen_times_19_by_16_when_the_others_are_never_right(images):
    labels, predictions = images
    missing = np.isin(predictions, (9, 14, 16))
    got = evaluate(SubsetIoUMetric(), labels, np.where(missing, 0, predictions))
    assert got['mIoU16'] == pytest.approx(got['mIoU'] * 19 / 16, abs=0.012)
    assert got['mIoU16'] > got['mIoU']


def test_names_and_ids_choose_the_same(images):
    by_name = SubsetIoUMetric(dict(vehicles=['car', 'bus', 'bicycle']))
    by_id = SubsetIoUMetric(dict(vehicles=[13, 15, 18]))
    a, b = evaluate(by_name, *images), evaluate(by_id, *images)
    iou = brute_iou(*images, 19) * 100
    assert a == b and a['vehicles'] == pytest.approx(iou[[13, 15, 18]].mean(), abs=0.006)
    whole = evaluate(SubsetIoUMetric(dict(all=range(19))), *images)
    assert whole['all'] == pytest.approx(whole['mIoU'], abs=0.006)


def test_classes_that_do_not_occur_do_not_count_unless_they_shall():
    labels = predictions = np.zeros((1, 4, 4), int)
    got = evaluate(SubsetIoUMetric(dict(a=[0, 1], b=[2])), labels, predictions)
    assert got['a'] == 100 and np.isnan(got['b'])
    got = evaluate(SubsetIoUMetric(dict(a=[0, 1], b=[2]), nan_to_num=0), labels, predictions)
    assert (got['a'], got['b']) == (50, 0)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(subsets=dict(mIoU=[1])), "'mIoU' is the mean of all classes"),
        (dict(subsets=dict(few=[])), "'few'.*different classes"),
        (dict(subsets=dict(few=[1, 1])), "'few'.*different classes"),
        (dict(subsets=dict(few='car')), "'few'.*different classes"),
        (dict(iou_metrics=['mDice']), "must hold 'mIoU'"),
    ],
)
def test_wrong_subsets_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        SubsetIoUMetric(**options)


@pytest.mark.parametrize(
    ('wanted', 'said'), [('cars', "did you mean 'car'"), (19, '19'), (-1, '-1')]
)
def test_a_class_the_dataset_lacks_is_found_before_the_evaluation(wanted, said):
    metric = SubsetIoUMetric(dict(few=[wanted]))
    with pytest.raises(UserError, match=said):
        metric.dataset_meta = dict(classes=CLASSES)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match='subset'):
        METRICS.build(dict(type='mmdistill.SubsetIoUMetric', subset={}))


def test_format_only_writes_and_computes_nothing(images, tmp_path):
    metric = SubsetIoUMetric(format_only=True, output_dir=str(tmp_path))
    metric.dataset_meta = dict(classes=CLASSES)
    sample = dict(pred_sem_seg=dict(data=torch.zeros(1, 4, 4)), img_path='a/b.png')
    metric.process({}, [sample])
    assert metric.compute_metrics(metric.results) == {} and (tmp_path / 'b.png').is_file()
