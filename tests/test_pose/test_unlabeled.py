"""Unlabelled people: boxes only, whatever the keypoint annotations hold."""

import copy
import json

import numpy as np
import pytest
from data_cases import (
    person,
    read_annotations,
    unlabeled_config,
    write_annotations,
    write_coco,
)
from mmpose.datasets.datasets import CocoDataset

from mmdistill.core.errors import UserError
from mmdistill.registry import DATASETS

META = dict(from_file='configs/_base_/datasets/coco.py')


def build(root, **options):
    """Builds the unlabelled source with COCO's joints."""
    return DATASETS.build(unlabeled_config(root, **{'metainfo': META, **options}))


@pytest.fixture
def root(tmp_path):
    """Six people on four images."""
    people = [person(n, 1 + n % 3, bbox=[4 + n, 5, 30 + n, 40]) for n in (6, 2, 5, 1, 4, 3)]
    return write_coco(tmp_path / 'data', people)


def samples(dataset):
    """All infos, arrays as lists."""
    rows = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [
        {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in row.items()} for row in rows
    ]


CORRUPTIONS = {
    'missing': lambda each: each.pop('keypoints') and each.pop('num_keypoints'),
    'none': lambda each: each.update(keypoints=None, num_keypoints=0),
    'short': lambda each: each.update(keypoints=[1, 2, 2], num_keypoints=-4),
    'no multiple': lambda each: each.update(keypoints=[3.0] * 50),
    'nan': lambda each: each.update(keypoints=[float('nan')] * 51),
    'text': lambda each: each.update(keypoints='nobody'),
    'elsewhere': lambda each: each.update(keypoints=[1e9] * 51),
}


@pytest.mark.parametrize('how', CORRUPTIONS)
def test_corrupt_keypoints_change_nothing(root, how):
    before = samples(build(root))
    content = read_annotations(root)
    for each in content['annotations']:
        CORRUPTIONS[how](each)
    write_annotations(root, content)
    assert samples(build(root)) == before
    hidden = build(root, keep_hidden=True).get_data_info(0)
    if how != 'elsewhere':
        assert not hidden['hidden_visible'].any() and not hidden['hidden_keypoints'].any()


def test_boxes_and_order_are_those_of_mmpose(drawn):
    ours = build(drawn, with_keypoints_only=True)
    theirs = CocoDataset(
        ann_file='annotations/person_keypoints_train.json', data_root=str(drawn),
        data_prefix=dict(img='images/train/'),
    )  # fmt: skip
    assert len(ours) == len(theirs)
    for i in range(len(ours)):
        mine, other = ours.get_data_info(i), theirs.get_data_info(i)
        for key in ('id', 'img_id', 'img_path', 'flip_indices', 'dataset_name'):
            assert mine[key] == other[key]
        np.testing.assert_array_equal(mine['bbox'], other['bbox'])
        assert mine['bbox'].dtype == other['bbox'].dtype
    assert len(build(drawn)) >= len(ours)


def test_nobody_is_known_to_have_joints(root):
    info = build(root).get_data_info(0)
    assert info['labeled'] is False and 'dataset' not in info and 'hidden_keypoints' not in info
    assert info['keypoints'].shape == (1, 17, 2) and not info['keypoints'].any()
    assert info['keypoints_visible'].shape == (1, 17) and not info['keypoints_visible'].any()


def test_hidden_joints_travel_beside_the_sample(root):
    info = build(root, keep_hidden=True).get_data_info(0)
    joints = np.array(person(0, 1)['keypoints'], np.float32).reshape(17, 3)
    np.testing.assert_array_equal(info['hidden_keypoints'], joints[:, :2])
    assert info['hidden_visible'].tolist() == [1.0] * 17 and not info['keypoints'].any()


def test_people_and_images_can_be_left_out(root):
    everybody = build(root).ids.tolist()
    assert sorted(everybody) == [1, 2, 3, 4, 5, 6]
    assert build(root, exclude=[2, 5]).ids.tolist() == [i for i in everybody if i not in (2, 5)]
    rest = build(root, exclude_images=[1])
    assert sorted(rest.ids.tolist()) == [1, 2, 4, 5] and 1 not in rest.image_ids
    with pytest.raises(UserError, match='holds nobody of the 2 people to exclude'):
        build(root, exclude=[77, 78])


def test_crowds_flat_boxes_and_missing_boxes_are_left_out(root, logged):
    content = read_annotations(root)
    content['annotations'] += [
        person(31, 1, iscrowd=1), person(32, 1, bbox=[500, 5, 9, 9]), person(33, 2, bbox=None),
        person(34, 2, bbox=[float('nan'), 1, 2, 3]), person(35, 3, category_id=9),
    ]  # fmt: skip
    write_annotations(root, content)
    assert sorted(build(root).ids.tolist()) == [1, 2, 3, 4, 5, 6]
    assert any('1 boxes without area' in line and '32' in line for line in logged)
    assert any('2 entries without a box' in line and '33, 34' in line for line in logged)
    assert sorted(build(root, category_id=None).ids.tolist()) == [1, 2, 3, 4, 5, 6, 35]


def detections(root, scores=(0.9, 0.2, 0.6, 0.7, 0.1, 0.8)):
    """Writes the annotated boxes as detections of an image list without annotations."""
    content = read_annotations(root)
    found = [
        dict(image_id=e['image_id'], category_id=1, bbox=e['bbox'], score=s)
        for e, s in zip(content['annotations'], scores, strict=True)
    ]
    (root / 'image_info.json').write_text(json.dumps(dict(images=content['images'])))
    (root / 'found.json').write_text(json.dumps(found))
    return dict(ann_file='image_info.json', det_file='found.json')


def test_detections_give_the_samples_of_annotated_boxes(root):
    files = detections(root)
    found, known = build(root, **files), build(root)
    assert found.ids.tolist() == [0, 1, 2, 3, 4, 5]

    def boxes(dataset):
        rows = (dataset.get_data_info(i) for i in range(len(dataset)))
        return sorted((row['img_path'], row['bbox'].tolist()) for row in rows)

    assert boxes(found) == boxes(known)
    assert found.get_data_info(0)['bbox_score'].tolist() == [np.float32(0.9)]


def test_scores_and_sizes_filter(root):
    files = detections(root)
    assert build(root, **files, min_score=0.6).ids.tolist() == [0, 2, 3, 5]
    assert sorted(build(root, min_size=33).ids.tolist()) == [3, 4, 5, 6]
    content = json.loads((root / 'found.json').read_text())
    content[0]['category_id'] = 2
    (root / 'found.json').write_text(json.dumps(content))
    assert 0 not in build(root, **files).ids


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda c: c[1].update(image_id=99), r'found\.json: detection 1 is on image 99'),
        (lambda c: c[2].pop('score'), r'found\.json: detection 2 has no score'),
        (lambda c: c.__setitem__(0, 5), 'detection 0 has no image_id, category_id, bbox, score'),
        (lambda c: c.clear(), r'found\.json leaves nobody unlabelled'),
    ],
)
def test_wrong_detections_are_named(root, change, said):
    files = detections(root)
    content = json.loads((root / 'found.json').read_text())
    change(content)
    (root / 'found.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        build(root, **files)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(ann_file='no.json'), r'no\.json: no such annotation file'),
        (dict(min_size=1000), 'leaves nobody unlabelled: it holds 6 boxes'),
        (dict(metainfo=None), 'needs metainfo'),
        (dict(ann_file='image_info.json'), "has no 'annotations': name detections in det_file"),
        (dict(det_file='found.json', exclude=[1]), 'exclude, with_keypoints_only and keep_hidden'),
        (dict(det_file='found.json', keep_hidden=True), 'need annotations'),
        (dict(ann_file='found.json'), "holds no list 'images'"),
    ],
)
def test_wrong_options_are_named(root, options, said):
    detections(root)
    with pytest.raises(UserError, match=said):
        build(root, **options)


def test_annotations_on_unknown_images_are_named(root):
    content = read_annotations(root)
    content['annotations'][2]['image_id'] = 44
    write_annotations(root, content)
    with pytest.raises(UserError, match='annotation 5 is on the unknown image 44'):
        build(root)


def test_a_filter_by_labels_needs_them(root):
    content = read_annotations(root)
    content['annotations'][0]['num_keypoints'] = 0
    number = content['annotations'][0]['id']
    write_annotations(root, content)
    assert number in build(root).ids and number not in build(root, with_keypoints_only=True).ids
    del content['annotations'][1]['num_keypoints']
    write_annotations(root, content)
    with pytest.raises(UserError, match='has no num_keypoints'):
        build(root, with_keypoints_only=True)


def test_samples_do_not_share_memory(root):
    dataset = build(root, keep_hidden=True)
    info = dataset.get_data_info(0)
    before = copy.deepcopy(dataset.get_data_info(0))
    for key in ('bbox', 'bbox_score', 'keypoints', 'keypoints_visible', 'hidden_keypoints'):
        info[key] += 7
        np.testing.assert_array_equal(dataset.get_data_info(0)[key], before[key])
