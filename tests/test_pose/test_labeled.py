"""Who is labelled: the published rule, folds, the record, and annotations that are refused."""

import contextlib
import hashlib
import io
import json
from types import SimpleNamespace

import pytest
import torch
from data_cases import (
    coco_config,
    labeled_config,
    person,
    read_annotations,
    semi_config,
    write_annotations,
    write_coco,
)
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.pose import LabeledInstancesHook
from mmdistill.pose.labeled import Fold
from mmdistill.registry import DATASETS

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def build(config):
    """Builds a dataset without COCO's chatter."""
    with contextlib.redirect_stdout(io.StringIO()):
        return DATASETS.build(config)


@pytest.fixture
def mixed(tmp_path):
    """Ten people in shuffled order, among them a crowd, somebody without joints and a flat box."""
    people = [person(number, 1 + number % 4) for number in (7, 3, 9, 1, 5, 2, 8, 4)]
    people.insert(1, person(20, 1, iscrowd=1))
    people.insert(3, person(21, 4, num_keypoints=0, keypoints=[0] * 51))
    people.insert(5, person(22, 2, bbox=[5, 5, 0, 10]))
    return write_coco(tmp_path / 'mixed', people)


def peers_rule(content, count):
    """The published rule in a few lines: people by image in file order, then the first ones."""
    found = []
    for image in content['images']:
        for each in content['annotations']:
            x, y, w, h = each['bbox']
            keep = each['image_id'] == image['id'] and not each['iscrowd'] and each['area'] > 0
            if keep and w > 0 and h > 0 and max(each['keypoints']) > 0:
                found.append(each['id'])
    return found[:count]


@pytest.mark.parametrize('count', [1, 3, 8])
def test_indices_take_the_first_people_of_the_published_rule(mixed, count):
    dataset = build(labeled_config(mixed, indices=count))
    assert dataset.instance_ids == peers_rule(read_annotations(mixed), count)
    assert [dataset.get_data_info(i)['id'] for i in range(len(dataset))] == dataset.instance_ids
    text = '\n'.join(map(str, dataset.instance_ids)) + '\n'
    assert dataset.ids_hash == hashlib.sha256(text.encode()).hexdigest()


def test_indices_are_those_of_mmpose_itself(drawn):
    theirs = build(coco_config(drawn, indices=9))
    ours = build(labeled_config(drawn, indices=9))
    assert [theirs.get_data_info(i)['id'] for i in range(9)] == ours.instance_ids
    info = ours.get_data_info(0)
    assert info['labeled'] and not {'dataset', 'raw_ann_info', 'segmentation'} & set(info)


def test_without_a_choice_all_are_labelled(mixed):
    assert sorted(build(labeled_config(mixed)).instance_ids) == [1, 2, 3, 4, 5, 7, 8, 9]


def test_a_fold_labels_everybody_on_the_drawn_images(drawn):
    dataset = build(labeled_config(drawn, fold=dict(percent=25, index=1)))
    all_ids = build(labeled_config(drawn))
    images = {all_ids.get_data_info(i)['img_id'] for i in range(len(all_ids))}
    chosen = Fold(25, 1).draw(sorted(images))
    assert len(chosen) == max(1, round(len(images) / 4)) and set(dataset.image_ids) == chosen
    wanted = [i for i in range(len(all_ids)) if all_ids.get_data_info(i)['img_id'] in chosen]
    assert dataset.instance_ids == [all_ids.instance_ids[i] for i in wanted]


def test_folds_are_nested_pinned_and_do_not_see_the_order_of_the_file():
    images = list(range(1, 401))
    drawn = {p: Fold(p).draw(images) for p in (1, 5, 10, 100)}
    assert [len(drawn[p]) for p in (1, 5, 10, 100)] == [4, 20, 40, 400]
    assert drawn[1] < drawn[5] < drawn[10] < drawn[100]
    assert Fold(5).draw(images[::-1] + images) == drawn[5]
    assert Fold(5, 1).draw(images) != drawn[5] != Fold(5, 0, 1).draw(images)
    assert len(Fold(0.001).draw(images)) == 1
    assert sorted(drawn[1]) == [89, 134, 203, 294]


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(indices=3, fold=dict(percent=1)), 'not by both'),
        (dict(indices=9), r'indices=9: .*person_keypoints_train.json holds 8 people'),
        (dict(indices=0), 'indices=0'),
        (dict(fold=dict(percent=0)), 'percent'),
        (dict(fold=dict(index=1)), 'fold needs percent'),
        (dict(fold=dict(precent=1)), r"'precent' of fold \(did you mean 'percent'\?\)"),
    ],
)
def test_wrong_choices_are_named(mixed, options, said):
    with pytest.raises(UserError, match=said):
        build(labeled_config(mixed, **options))


def test_indices_inside_of_the_host_are_refused(mixed):
    config = labeled_config(mixed)
    config['dataset']['indices'] = 3
    with pytest.raises(UserError, match='put it beside it'):
        build(config)


def test_all_wrong_joint_counts_are_found_at_once(tmp_path):
    people = [
        person(4, 1), person(5, 1, keypoints=[1, 2, 2] * 16), person(6, 2, keypoints=[1, 2])
    ]  # fmt: skip
    root = write_coco(tmp_path / 'a', people)
    with pytest.raises(UserError, match=r'train\.json: annotation 5 has 48 .* 2 such .*: 5, 6$'):
        build(labeled_config(root, indices=1))


def test_joints_far_outside_are_found_when_they_are_labelled(tmp_path):
    far = person(5, 1)['keypoints']
    far[3:5] = 900, 10
    nan = person(6, 2)['keypoints']
    nan[0] = float('nan')
    root = write_coco(tmp_path / 'a', [person(4, 1), person(5, 1, keypoints=far)])
    with pytest.raises(UserError, match=r'annotation 5: joint 1 lies at \[900\.0, 10\.0\].*80 x'):
        build(labeled_config(root))
    assert build(labeled_config(root, indices=1)).instance_ids == [4]
    content = read_annotations(root)
    content['annotations'].append(person(6, 2, keypoints=nan))
    write_annotations(root, content)
    with pytest.raises(UserError, match='2 such annotations: 5, 6'):
        build(labeled_config(root))


def test_unlabelled_joints_of_a_labelled_person_may_lie_anywhere(tmp_path):
    joints = person(4, 1)['keypoints']
    joints[6:9] = -9999, 0, 0
    assert len(build(labeled_config(write_coco(tmp_path / 'a', [person(4, 1, keypoints=joints)]))))


def test_flat_boxes_are_counted_and_left_out(mixed, logged):
    assert 22 not in build(labeled_config(mixed)).instance_ids
    assert any('1 labelled boxes without area' in line and '22' in line for line in logged)


def test_missing_and_broken_files_are_named(tmp_path, mixed):
    with pytest.raises(UserError, match=r'nowhere.*train\.json: no such annotation file'):
        build(labeled_config(tmp_path / 'nowhere'))
    (mixed / 'annotations' / 'person_keypoints_train.json').write_text('{"images": [')
    with pytest.raises(UserError, match=r'train\.json: the annotation file is no JSON'):
        build(labeled_config(mixed))


def test_nobody_labelled_is_an_error(tmp_path):
    root = write_coco(tmp_path / 'a', [person(1, 1, iscrowd=1)])
    with pytest.raises(UserError, match=r'train\.json holds nobody'):
        build(labeled_config(root))


def test_mpii_files_are_read_too(tmp_path):
    joints = [[20.0 + j, 30.0] for j in range(16)]
    entry = dict(image='5.jpg', center=[30, 30], scale=0.4, joints=joints, joints_vis=[1] * 16)
    (tmp_path / 'mpii.json').write_text(json.dumps([entry, dict(entry, image='6.jpg')]))
    host = dict(type='MpiiDataset', data_root=str(tmp_path), ann_file='mpii.json')
    dataset = build(dict(type='mmdistill.LabeledPoseDataset', dataset=host, indices=1))
    assert dataset.instance_ids == [0] and dataset.metainfo['num_keypoints'] == 16
    (tmp_path / 'mpii.json').write_text(json.dumps([dict(entry, joints=joints[:15])]))
    with pytest.raises(UserError, match=r'mpii\.json: annotation 0 has not the 16 joints'):
        build(dict(type='mmdistill.LabeledPoseDataset', dataset=host))


def runner_of(dataset, folder, iteration=0):
    """As much of a runner as the hook looks at."""
    semi = SimpleNamespace(labeled=dataset)
    loader = SimpleNamespace(dataset=semi)
    return SimpleNamespace(train_dataloader=loader, work_dir=str(folder), iter=iteration)


def test_the_record_holds_the_ids_and_nothing_is_left_beside_it(mixed, tmp_path, logged):
    dataset = build(labeled_config(mixed, indices=3))
    LabeledInstancesHook().before_train(runner_of(dataset, tmp_path / 'run'))
    (file,) = (tmp_path / 'run').iterdir()
    record = json.loads(file.read_text())
    assert file.name == 'labeled_instances.json' and record['ids'] == dataset.instance_ids
    assert record['sha256'] == dataset.ids_hash and record['ann_file'] == dataset.ann_file
    other = build(labeled_config(mixed, indices=4))
    LabeledInstancesHook().before_train(runner_of(dataset, tmp_path / 'run', 7))
    assert not any('other labels' in line for line in logged)
    LabeledInstancesHook().before_train(runner_of(other, tmp_path / 'run', 7))
    assert any('other labels' in line for line in logged)


def test_the_hook_wants_a_semi_supervised_dataset(mixed, tmp_path):
    unlabeled = SimpleNamespace(labeled=None)
    with pytest.raises(UserError, match='SemiPoseDataset'):
        LabeledInstancesHook().before_train(runner_of(unlabeled, tmp_path))


class Nothing(BaseModel):
    """A model that learns nothing from what it gets."""

    def __init__(self) -> None:
        super().__init__(data_preprocessor=dict(type='mmengine.BaseDataPreprocessor'))
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        """A loss without data."""
        return dict(loss=self.weight.sum())


def test_a_run_leaves_the_record_in_its_folder(drawn, tmp_path):
    loader = dict(
        batch_size=4, num_workers=0, dataset=semi_config(drawn),
        sampler=dict(type='mmdistill.RatioSampler', batch_size=4, ratios=(1, 1)),
        collate_fn=dict(type='pseudo_collate'),
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        runner = Runner(
            Nothing(), str(tmp_path), train_dataloader=loader,
            train_cfg=dict(type='mmdistill.IterTrainLoop', max_iters=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), default_scope='mmpose',
            custom_hooks=[dict(type='mmdistill.LabeledInstancesHook')],
            default_hooks=dict(checkpoint=None), experiment_name=tmp_path.name,
            log_level='ERROR',
        )  # fmt: skip
        runner.train()
    record = json.loads((tmp_path / 'labeled_instances.json').read_text())
    assert record['ids'] == runner.train_dataloader.dataset.labeled.instance_ids
    assert len(record['ids']) == 5


def test_other_kinds_of_datasets_are_refused(drawn):
    config = labeled_config(drawn)
    config['dataset']['data_mode'] = 'bottomup'
    with pytest.raises(UserError, match='CocoDataset is no mmpose dataset of data_mode topdown'):
        build(config)
