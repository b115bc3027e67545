"""Labelled and unlabelled people as one data set: order, errors, reproducibility, cost."""

import contextlib
import copy
import io
import json
import pickle
import time

import numpy as np
import pytest
import torch
from data_cases import (
    geometry,
    person,
    pipeline,
    read_annotations,
    semi_config,
    write_annotations,
    write_coco,
)
from mmengine.dataset import pseudo_collate
from torch.utils.data import BatchSampler, DataLoader

from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import positioned_loader
from mmdistill.core.rng import seed_cpu
from mmdistill.core.samplers import RatioSampler
from mmdistill.pose.datasets import image_problem
from mmdistill.registry import DATASETS

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def build(root, **options):
    """Builds the whole data set without COCO's chatter."""
    with contextlib.redirect_stdout(io.StringIO()):
        return DATASETS.build(semi_config(root, **options))


@pytest.fixture
def semi(drawn):
    """Five labelled people, and everybody unlabelled."""
    return build(drawn)


@pytest.fixture
def plain(tmp_path):
    """Eight people on four plain images; may be changed."""
    return write_coco(tmp_path / 'plain', [person(n, 1 + n % 4) for n in range(1, 9)])


def test_labelled_people_come_first(semi):
    labeled, unlabeled = semi.source_sizes
    assert labeled == 5 and unlabeled == len(semi.unlabeled) and len(semi) == labeled + unlabeled
    flags = [semi[i]['data_samples'].labeled for i in range(len(semi))]
    assert flags == [True] * labeled + [False] * unlabeled
    ids = [semi[i]['data_samples'].id for i in range(len(semi))]
    assert ids == semi.labeled.instance_ids + semi.unlabeled.ids.tolist()
    assert semi[-1]['data_samples'].id == ids[-1]
    assert semi.metainfo['num_keypoints'] == 17


def test_every_batch_has_its_share_of_both(semi):
    sampler = RatioSampler(semi, batch_size=6, ratios=(1, 2), infinite=False)
    batches = BatchSampler(sampler, 6, drop_last=False)
    seen = []
    for batch in DataLoader(semi, batch_sampler=batches, collate_fn=pseudo_collate):
        flags = [sample.labeled for sample in batch['data_samples']]
        assert flags == [True] * 2 + [False] * 4
        assert torch.stack(batch['inputs']).shape == (6, 3, 64, 48)
        seen += [sample.id for sample in batch['data_samples'] if not sample.labeled]
    assert set(seen) == set(semi.unlabeled.ids.tolist())


def samples_of(dataset, workers, seed=0):
    """Inputs and crops of the first batches of a positioned loader."""
    sampler = RatioSampler(dataset, batch_size=4, ratios=(1, 1))
    loader = DataLoader(dataset, 4, sampler=sampler, num_workers=workers,
                        collate_fn=pseudo_collate)  # fmt: skip
    batches = iter(positioned_loader(loader, seed, infinite=True))
    found = [next(batches) for _ in range(3)]
    inputs = torch.stack([image for batch in found for image in batch['inputs']])
    crops = np.stack([s.crop for batch in found for s in batch['data_samples']])
    return inputs, crops


def test_the_seed_decides_and_workers_do_not(drawn):
    first = samples_of(build(drawn), 0)
    again = samples_of(build(drawn), 2)
    other = samples_of(build(drawn), 0, seed=1)
    assert torch.equal(first[0], again[0]) and (first[1] == again[1]).all()
    assert not torch.equal(first[0], other[0])


def test_epochs_differ(semi):
    seed_cpu(0)
    first, second = semi[0]['data_samples'].crop, semi[0]['data_samples'].crop
    assert (first != second).any()


def content_of(packed):
    """All that a sample holds, to be compared."""
    sample = packed['data_samples']
    joints = sample.gt_instances.keypoints.numpy().tobytes() if sample.labeled else b''
    return packed['inputs'].numpy().tobytes(), joints, str(sorted(sample.metainfo.items()))


def test_corrupt_joints_of_the_unlabelled_file_change_no_sample(plain):
    content = read_annotations(plain)
    other = plain / 'annotations' / 'other.json'
    source = dict(ann_file='annotations/other.json')
    found = []
    for joints in (content['annotations'][0]['keypoints'], [float('nan')] * 51, [1, 2], None):
        for each in content['annotations']:
            each['keypoints'] = joints
            if joints is None:
                del each['keypoints']
        other.write_text(json.dumps(content))
        dataset = build(plain, unlabeled=source)
        seed_cpu(3)
        found.append(tuple(content_of(dataset[i]) for i in range(len(dataset))))
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ('how', 'left'), [('nobody', 8), ('instances', 6), ('images', 4)]
)  # fmt: skip
def test_labelled_people_can_be_left_out_of_the_unlabelled(plain, how, left):
    content = read_annotations(plain)
    content['annotations'].sort(key=lambda each: each['id'])
    write_annotations(plain, content)
    dataset = build(plain, labeled=dict(indices=2), exclude_labeled=how)
    if how == 'images':
        left = sum(each['image_id'] not in dataset.labeled.image_ids
                   for each in content['annotations'])  # fmt: skip
    assert dataset.source_sizes == (2, left)
    both = set(dataset.labeled.instance_ids) & set(dataset.unlabeled.ids.tolist())
    assert bool(both) == (how == 'nobody')


def test_nobody_left_is_an_error(plain):
    with pytest.raises(UserError, match=r'train\.json leaves nobody unlabelled'):
        build(plain, labeled=dict(), exclude_labeled='instances')


def test_two_ways_of_leaving_out_are_refused(plain):
    with pytest.raises(UserError, match='exclude of unlabeled and exclude_labeled'):
        build(plain, unlabeled=dict(exclude=[1]), exclude_labeled='instances')
    with pytest.raises(UserError, match=r"exclude_labeled must be one of .*'people'"):
        build(plain, exclude_labeled='people')


def test_sources_with_other_joints_are_refused(plain):
    mpii = dict(from_file='configs/_base_/datasets/mpii.py')
    with pytest.raises(UserError, match='num_keypoints is 17 for .* and 16 for'):
        build(plain, unlabeled=dict(metainfo=mpii))


def test_a_transform_that_needs_joints_is_refused_when_built(plain):
    with pytest.raises(UserError, match=r'unlabeled_pipeline\[1\]: RandomHalfBody'):
        build(plain, unlabeled_pipeline=pipeline(dict(type='RandomHalfBody')))
    assert build(plain, labeled_pipeline=[
        *pipeline()[:2], dict(type='RandomHalfBody', prob=1.0), *pipeline()[2:]
    ])[0]  # fmt: skip


def break_image(root, number, content=b''):
    """Breaks an image; None removes it."""
    path = root / 'images' / 'train' / f'{number}.png'
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    return path


BROKEN = {'is missing': None, 'is empty': b'', 'is no image that can be decoded': b'\x89PNG no'}


@pytest.mark.parametrize('problem', BROKEN)
def test_a_broken_labelled_image_stops_at_once(plain, problem):
    dataset = build(plain)
    info = dataset.labeled.get_data_info(0)
    path = break_image(plain, info['img_id'], BROKEN[problem])
    with pytest.raises(UserError, match=f'{path}, image of labelled person .*{problem}'):
        dataset[0]


@pytest.mark.parametrize('problem', BROKEN)
def test_broken_unlabelled_images_are_skipped_up_to_a_bound(plain, problem, logged):
    dataset = build(plain, max_broken=2)
    labeled = dataset.source_sizes[0]
    ids = dataset.unlabeled.image_ids.tolist()
    break_image(plain, ids[0], BROKEN[problem])
    assert dataset[labeled]['data_samples'].img_id != ids[0]
    assert dataset[labeled]['data_samples'].labeled is False
    assert len(dataset.broken) == 2 and len(logged) == 2
    assert all(problem in line and 'of at most 2' in line for line in logged)
    break_image(plain, ids[-1], BROKEN[problem])
    with pytest.raises(UserError, match='more than max_broken=2 unlabelled people'):
        dataset[len(dataset) - 1]


def test_all_broken_is_an_error(plain, logged):
    dataset = build(plain, max_broken=100)
    for number in range(1, 5):
        break_image(plain, number)
    with pytest.raises(UserError, match='every image of .* is broken'):
        dataset[len(dataset) - 1]


def test_errors_that_are_no_broken_image_are_not_hidden(plain):
    dataset = build(plain, unlabeled_pipeline=pipeline(size=(8, 8)))
    dataset.unlabeled.boxes[0] = np.nan
    dataset.pipelines[1].transforms[1].padding = 'wide'
    with pytest.raises(Exception, match=r'.*') as caught:
        dataset[dataset.source_sizes[0]]
    assert not isinstance(caught.value, UserError) and image_problem(__file__) is not None


def test_no_sample_carries_the_dataset(semi):
    for index in (0, len(semi) - 1):
        packed = semi[index]
        assert set(packed) == {'inputs', 'data_samples'}
        assert len(pickle.dumps(packed)) < 64 * 48 * 3 + 4000
        assert 'dataset' not in semi.get_data_info(index)


def test_time_per_sample_does_not_grow_with_the_data(tmp_path):
    def cost(count):
        people = [person(n, 1 + n % 4) for n in range(1, count + 1)]
        dataset = build(write_coco(tmp_path / str(count), people), labeled=dict(indices=2))
        two = [dict(type='LoadImage'), dict(type='mmdistill.SecondCrop', transforms=geometry()),
               *pipeline()[1:]]  # fmt: skip
        dataset = build(tmp_path / str(count), unlabeled_pipeline=two)
        times = []
        for index in range(10, 40):
            start = time.perf_counter()
            dataset[index]
            times.append(time.perf_counter() - start)
        return min(times)

    cost(50)
    assert cost(4000) < 3 * cost(60) + 2e-3


def test_hidden_joints_lie_in_the_crop_where_the_matrix_says(drawn):
    dataset = build(drawn, unlabeled=dict(keep_hidden=True), unlabeled_pipeline=pipeline(flip=1))
    labeled = build(drawn, labeled=dict(), labeled_pipeline=pipeline(flip=1))
    info = labeled.labeled.get_data_info(0)
    place = dataset.unlabeled.ids.tolist().index(info['id'])
    seed_cpu(1)
    sample = dataset[dataset.source_sizes[0] + place]['data_samples']
    seed_cpu(1)
    truth = labeled[0]['data_samples'].gt_instances.keypoints[0].numpy()
    moved = sample.hidden_keypoints @ sample.crop[:, :2].T + sample.crop[:, 2]
    error = np.abs(moved[sample.flip_indices] - truth)[sample.hidden_visible > 0]
    assert error.max() < 1e-3
    assert (sample.hidden_visible == info['keypoints_visible'][0]).all()


def test_configs_are_not_changed(plain):
    config = semi_config(plain)
    before = copy.deepcopy(config)
    with contextlib.redirect_stdout(io.StringIO()):
        DATASETS.build(config)
        DATASETS.build(config)
    assert config == before
