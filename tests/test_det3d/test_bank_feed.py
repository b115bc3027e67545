"""The object bank is fed from labelled frames and the store, and from nothing else."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from det3d_scenes import CLASSES, LABELLED, load_points, read_pipeline, semi_cfg
from mmengine.dataset import RepeatDataset

from mmdistill.core.errors import UserError
from mmdistill.det3d.bank_feed import (
    ObjectBankHook,
    add_labeled,
    add_mined,
    raw_points,
    semi_dataset,
)
from mmdistill.det3d.boxes import bev_iou, points_in_boxes
from mmdistill.det3d.object_bank import ObjectBank
from mmdistill.det3d.pseudo_store import PseudoLabelStore
from mmdistill.testing import captured_log

GROUPS = dict(Pedestrian=5, Cyclist=5, Car=5)


@pytest.fixture
def dataset(semi_data, kitti_folder):
    """The tiny tree with four labelled frames."""
    return semi_data(kitti_folder)


@pytest.fixture
def bank():
    """A bank without the wish for many points."""
    return ObjectBank(GROUPS, CLASSES, min_points=3)


def fair(kitti_folder):
    """{frame: (N,) bool}: which trained objects have a difficulty."""
    infos = pickle.loads((kitti_folder / 'kitti_infos_train.pkl').read_bytes())['data_list']
    return {
        info['sample_idx']: torch.tensor(
            [
                each['difficulty'] >= 0
                for each in info['instances']
                if each['bbox_label'] in (0, 1, 2)
            ]
        )
        for info in infos
    }


# ------------------------------------------------------------------ labelled objects


def test_no_object_of_an_unlabelled_frame_gets_in(dataset, bank, truth):
    """hssda fact 29, the leak test: every object is one of its own labelled frame."""
    add_labeled(bank, dataset)
    assert len(bank) > 5 and set(bank.frames.tolist()) <= set(LABELLED)
    for box, label, frame in zip(bank.boxes, bank.labels, bank.frames.tolist(), strict=True):
        boxes, labels = truth[frame]
        equal = (boxes == box).all(1)
        assert int(equal.sum()) == 1 and int(labels[equal]) == int(label)
        for other, (others, _) in truth.items():
            if other not in LABELLED:
                assert not (others == box).all(1).any()
    assert not bank.mined.any()


def test_the_bank_does_not_rely_on_the_dataset_hiding_annotations(
    dataset, bank, truth, monkeypatch
):
    """Even when every frame shows its objects, those of unlabelled frames stay out."""
    honest = dataset.get_data_info

    def leaky(index):
        info = honest(index)
        boxes, labels = truth[dataset.frame_ids[index]]
        shown = info['ann_info']['gt_bboxes_3d'].new_box(boxes)
        return dict(info, ann_info=dict(gt_bboxes_3d=shown, gt_labels_3d=labels.numpy()))

    monkeypatch.setattr(dataset, 'get_data_info', leaky)
    add_labeled(bank, dataset)
    assert len(bank) > 5 and set(bank.frames.tolist()) <= set(LABELLED)


def test_points_of_an_object_are_those_of_its_frame(dataset, bank):
    add_labeled(bank, dataset)
    start = 0
    for row, count in enumerate(bank.counts.tolist()):
        crop = bank.points[start : start + count].clone()
        crop[:, :3] += bank.boxes[row, :3]
        start += count
        scan = raw_points(dataset, dataset.frame_ids.index(int(bank.frames[row])))
        inside = scan[points_in_boxes(scan[:, :3], bank.boxes[row : row + 1])[:, 0]]
        torch.testing.assert_close(crop, inside, atol=1e-5, rtol=0)
    assert start == len(bank.points)


def test_objects_too_hard_for_the_evaluation_stay_out(dataset, bank, truth, kitti_folder):
    """Official GT sampling: difficulty -1 is dropped, as are objects with too few points."""
    add_labeled(bank, dataset)
    expected, dropped = 0, 0
    for frame in LABELLED:
        boxes, _ = truth[frame]
        scan = raw_points(dataset, dataset.frame_ids.index(frame))
        enough = points_in_boxes(scan[:, :3], boxes).sum(0) >= 3
        expected += int((enough & fair(kitti_folder)[frame]).sum())
        dropped += int((enough & ~fair(kitti_folder)[frame]).sum())
    assert len(bank) == expected and dropped > 0


def test_changed_annotations_of_unlabelled_frames_change_nothing(
    dataset, semi_data, bank, kitti_copy
):
    path = kitti_copy / 'kitti_infos_train.pkl'
    infos = pickle.loads(path.read_bytes())
    for info in infos['data_list']:
        if info['sample_idx'] not in LABELLED:
            info['instances'] = info['instances'][:1]
            info['instances'][0]['bbox_3d'] = [1.0, 1.7, 9.0, 3.9, 1.5, 1.6, 0.0]
    path.write_bytes(pickle.dumps(infos))
    add_labeled(bank, dataset)
    other = ObjectBank(GROUPS, CLASSES, min_points=3)
    add_labeled(other, semi_data(kitti_copy))
    assert torch.equal(bank.boxes, other.boxes) and torch.equal(bank.points, other.points)


def test_a_class_without_objects_is_said_and_survived(semi_data, kitti_copy):
    """hssda fact 32 on files: a split without cyclists."""
    path = kitti_copy / 'kitti_infos_train.pkl'
    infos = pickle.loads(path.read_bytes())
    for info in infos['data_list']:
        info['instances'] = [each for each in info['instances'] if each['bbox_label'] != 1]
    path.write_bytes(pickle.dumps(infos))
    bank = ObjectBank(GROUPS, CLASSES, min_points=3)
    with captured_log() as lines:
        add_labeled(bank, semi_data(kitti_copy))
    assert 1 not in bank.labels.tolist() and len(bank) > 0
    assert [line for line in lines if 'WARNING' in line and 'no Cyclist' in line]
    assert not [line for line in lines if 'no Car' in line]


# ------------------------------------------------------------------ mined objects


def store_of(truth, *frames):
    """A store that holds all true boxes of some frames."""
    store = PseudoLabelStore()
    boxes, labels = zip(*(truth[frame] for frame in frames), strict=True)
    counts = torch.tensor([len(each) for each in labels])
    store.update(
        dict(
            frames=torch.tensor(frames).repeat_interleave(counts),
            boxes=torch.cat(boxes),
            labels=torch.cat(labels),
            scores=torch.ones(int(counts.sum())),
        ),
        0,
    )
    return store


def test_mined_objects_are_replaced_and_labelled_ones_stay(dataset, bank, truth):
    add_labeled(bank, dataset)
    labelled = len(bank)
    add_mined(bank, dataset, store_of(truth, 3, 5))
    assert set(bank.frames[bank.mined].tolist()) == {3, 5}
    first = len(bank)
    add_mined(bank, dataset, store_of(truth, 3, 5))
    assert len(bank) == first
    add_mined(bank, dataset, store_of(truth, 9))
    assert set(bank.frames[bank.mined].tolist()) == {9}
    assert bank.mined[:labelled].sum() == 0 and int(bank.counts.sum()) == len(bank.points)
    add_mined(bank, dataset, PseudoLabelStore())
    assert len(bank) == labelled


def test_mined_boxes_of_a_frame_that_is_labelled_now_are_ignored(dataset, bank, truth):
    """After a resume with another split: its ground truth is in the bank already."""
    add_mined(bank, dataset, store_of(truth, 7, 3))
    assert set(bank.frames.tolist()) == {3}


def test_a_store_of_another_dataset_is_a_clear_error(semi_data, kitti_folder, bank, truth):
    labelled_only = semi_data(kitti_folder, role='labeled')
    with pytest.raises(UserError, match='000003.*resume with the dataset'):
        add_mined(bank, labelled_only, store_of(truth, 3))


# ------------------------------------------------------------------ datasets and hook


def test_wrapped_datasets_are_unwrapped(dataset, kitti_folder):
    assert semi_dataset(dataset) is dataset
    repeated = RepeatDataset(semi_cfg(kitti_folder), times=5)
    assert len(repeated) == 60 and semi_dataset(repeated) is repeated.dataset
    assert semi_dataset(repeated).frame_ids == dataset.frame_ids
    with pytest.raises(UserError, match='SemiDet3DDataset'):
        semi_dataset([1, 2])


def test_raw_points_are_the_file(dataset, semi_data, kitti_folder):
    points = raw_points(dataset, 5)
    path = kitti_folder / 'training/velodyne_reduced' / f'{dataset.frame_ids[5]:06d}.bin'
    assert np.array_equal(points.numpy(), np.fromfile(path, np.float32).reshape(-1, 4))
    blind = semi_data(kitti_folder, pipeline=read_pipeline()[1:])
    with pytest.raises(UserError, match='LoadLiDARPoints'):
        raw_points(blind, 0)


def test_hook_fills_the_bank_once_with_labelled_and_stored_objects(dataset, hssda, truth):
    model = hssda(object_bank=dict(sample_groups=GROUPS, min_points=3))
    model.store.replace(store_of(truth, 4).contents())
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset))
    for _ in range(2):
        ObjectBankHook().before_train(runner)
        assert set(model.bank.frames[~model.bank.mined].tolist()) <= set(LABELLED)
        assert set(model.bank.frames[model.bank.mined].tolist()) == {4}
        sizes = len(model.bank)
    ObjectBankHook().before_train(runner)
    assert len(model.bank) == sizes
    bare = hssda()
    ObjectBankHook().before_train(SimpleNamespace(model=bare, train_dataloader=None))
    assert bare.bank is None


# ------------------------------------------------------------------ inside a pipeline


def sampling_pipeline(**options):
    """The supervised config's pipeline up to pasting."""
    groups = dict(sample_groups=GROUPS, class_names=CLASSES, min_points=3)
    return [*read_pipeline()[:2], dict(type='mmdistill.ObjectBankSample', **{**groups, **options}),
            read_pipeline()[2]]  # fmt: skip


def test_pipeline_pastes_labelled_objects_only(semi_data, kitti_folder, truth):
    dataset = semi_data(kitti_folder, pipeline=sampling_pipeline(), role='labeled')
    known = torch.cat([truth[frame][0] for frame in LABELLED])
    torch.manual_seed(0)
    pasted = 0
    for index in range(len(dataset)):
        data_sample = dataset[index]['data_samples']
        boxes = data_sample.gt_instances_3d.bboxes_3d.tensor
        own = truth[data_sample.sample_idx][0]
        assert torch.equal(boxes[: len(own)], own)
        assert len(data_sample.gt_instances_3d.labels_3d) == len(boxes)
        for box in boxes[len(own) :]:
            assert (known == box).all(1).any()
        new = boxes[len(own) :]
        overlap = bev_iou(new, boxes)
        overlap[torch.arange(len(new)), torch.arange(len(own), len(boxes))] = 0
        assert float(overlap.sum()) < 1e-5
        pasted += len(new)
    assert pasted > 5


@pytest.mark.parametrize('use', [False, True])
def test_pipeline_sets_objects_on_the_plane_of_the_frame(semi_data, kitti_folder, truth, use):
    """A frame without a plane pastes at the objects' own height."""
    pipeline = sampling_pipeline(use_ground_plane=use)
    dataset = semi_data(kitti_folder, pipeline=pipeline, role='labeled')
    loaded = dataset.pipeline.transforms
    known = torch.cat([truth[frame][0] for frame in LABELLED])
    found = {}
    for plane in (None, [0.0, 0.0, 1.0, 2.5]):
        torch.manual_seed(0)
        results = dict(dataset.get_data_info(0), plane=plane)
        own = len(truth[dataset.frame_ids[0]][0])
        for transform in loaded[:3]:
            results = transform(results)
        found[plane is None] = results['gt_bboxes_3d'].tensor[own:]
    assert len(found[True]) > 0
    assert all(bool((known == box).all(1).any()) for box in found[True])
    if use:
        assert bool((found[False][:, 2] == -2.5).all())
    else:
        assert torch.equal(found[False], found[True])


def test_pasting_repeats_with_the_global_generator(semi_data, kitti_folder):
    dataset = semi_data(kitti_folder, pipeline=sampling_pipeline(), role='labeled')
    samples = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        samples.append(copy.deepcopy([dataset[index]['inputs']['points'] for index in range(4)]))
    same = [torch.equal(a, b) for a, b in zip(samples[0], samples[1], strict=True)]
    other = [torch.equal(a, b) for a, b in zip(samples[0], samples[2], strict=True)]
    assert all(same) and not all(other)


def test_the_whole_supervised_pipeline_runs(semi_data, kitti_folder):
    """Pasted objects go through the host's flip, rotation, range filters and packing."""
    pipeline = [
        *sampling_pipeline()[:3],
        dict(type='mmdet3d.RandomFlip3D', flip_ratio_bev_horizontal=0.5),
        dict(
            type='mmdet3d.GlobalRotScaleTrans',
            rot_range=[-0.7, 0.7],
            scale_ratio_range=[0.95, 1.05],
        ),
        dict(type='mmdet3d.PointsRangeFilter', point_cloud_range=[0, -12.8, -3, 25.6, 12.8, 1]),
        dict(type='mmdet3d.ObjectRangeFilter', point_cloud_range=[0, -12.8, -3, 25.6, 12.8, 1]),
        dict(type='mmdet3d.PointShuffle'),
        dict(type='mmdet3d.Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
    ]
    dataset = semi_data(kitti_folder, pipeline=pipeline, role='labeled')
    for index in range(4):
        instances = dataset[index]['data_samples'].gt_instances_3d
        assert len(instances.bboxes_3d) == len(instances.labels_3d)
        assert bool((instances.labels_3d >= 0).all() & (instances.labels_3d < 3).all())


def test_pasting_outside_a_semi_dataset_is_a_clear_error():
    from mmdistill.det3d.bank_feed import ObjectBankSample

    with pytest.raises(UserError, match='SemiDet3DDataset'):
        ObjectBankSample(class_names=CLASSES, sample_groups=GROUPS).transform({})
    with pytest.raises(TypeError, match='sample_group'):
        ObjectBankSample(class_names=CLASSES, sample_group=GROUPS)
    assert load_points()['load_dim'] == 4
