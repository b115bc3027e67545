"""Packed samples: the crop's matrix, joints, sizes; clipped boxes; second crops."""

import pickle

import numpy as np
import pytest
import torch
from data_cases import geometry, person, pipeline
from mmcv.transforms import Compose
from mmpose.codecs import MSRAHeatmap, UDPHeatmap
from mmpose.datasets.transforms import GenerateTarget

from mmdistill.core.errors import UserError
from mmdistill.core.rng import seed_cpu
from mmdistill.pose import ClippedBBoxTransform, PackSemiPose, SecondCrop
from mmdistill.pose.crops import crop_matrix, flip_matrix
from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.views import Affine
from mmdistill.registry import TRANSFORMS

pytestmark = pytest.mark.usefixtures('mmpose_scope')
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
SIZE = (192, 256)


def info(seed=0, labeled=True, shape=(240, 320)):
    """A person in an image of noise, in memory."""
    rng = np.random.default_rng(seed)
    joints = np.array(person(1, 1)['keypoints'], np.float32).reshape(1, 17, 3)
    places = joints[..., :2] + rng.uniform(0, 90, (1, 17, 2)).astype(np.float32)
    weights = np.linspace(0.5, 1.5, 17).astype(np.float32)
    return dict(
        img=rng.integers(0, 255, (*shape, 3), np.uint8),
        img_path='a.jpg', img_id=3, id=4, labeled=labeled, flip_indices=FLIP,
        bbox=np.array([[20, 30, 110, 170]], np.float32), bbox_score=np.ones(1, np.float32),
        keypoints=places * labeled, keypoints_visible=(joints[..., 2] > 0) * np.float32(labeled),
        dataset_keypoint_weights=weights,
    )  # fmt: skip


def run(transforms, results, seed=0):
    """Runs transforms with seeded random numbers."""
    seed_cpu(seed)
    return Compose([TRANSFORMS.build(dict(each)) for each in transforms])(results)


def moved(matrix, points):
    """Points through a (2, 3) matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize('flip', [0, 1])
@pytest.mark.parametrize('udp', [False, True])
def test_the_crop_takes_joints_of_the_image_where_mmpose_takes_them(udp, flip, direction):
    for seed in range(5):
        results = info(seed)
        before = results['keypoints'][0].copy()
        steps = [dict(type='LoadImage'), *geometry(SIZE, udp, flip, direction=direction)]
        results = run(steps, results, seed)
        matrix = crop_matrix(results, udp)
        swapped = before[FLIP] if np.linalg.det(matrix[:, :2]) < 0 else before
        assert matrix.shape == (2, 3) and matrix.dtype == np.float32
        error = np.abs(moved(matrix, swapped) - results['transformed_keypoints'][0]).max()
        assert error < 1e-3 and results['flip'] == bool(flip)


@pytest.mark.parametrize('flip', [0, 1])
@pytest.mark.parametrize(('udp', 'codec'), [(False, MSRAHeatmap), (True, UDPHeatmap)])
def test_the_crop_is_that_of_the_views(udp, codec, flip):
    steps = [dict(type='LoadImage'), *geometry(SIZE, udp, flip)]
    results = run(steps, info(), 3)
    grid = HeatmapGrid.from_codec(codec(input_size=SIZE, heatmap_size=(48, 64), sigma=2))
    view = Affine.from_crops(
        *(torch.from_numpy(np.array(results[f'bbox_{key}'], float)) for key in
          ('center', 'scale', 'rotation')),
        torch.tensor([bool(flip)]), torch.tensor([320.0], dtype=torch.float64), grid,
    )  # fmt: skip
    matrix = crop_matrix(results, udp)
    np.testing.assert_allclose(view.linear[0].numpy(), matrix[:, :2], atol=1e-5)
    np.testing.assert_allclose(view.shift[0].numpy(), matrix[:, 2], atol=1e-3)


def test_pixels_move_as_the_matrix_says():
    results = info()
    results['img'][:] = 0
    results['img'][90:94, 60:64] = 255
    packed = run(pipeline(size=SIZE, flip=1), results, 2)
    image = packed['inputs'].float().mean(0)
    total = image.sum()
    x = (image.sum(0) * torch.arange(SIZE[0])).sum() / total
    y = (image.sum(1) * torch.arange(SIZE[1])).sum() / total
    expected = moved(packed['data_samples'].crop, np.array([61.5, 91.5]))
    np.testing.assert_allclose([x, y], expected, atol=0.1)


@pytest.mark.parametrize('udp', [False, True])
def test_joints_and_weights_are_those_of_mmposes_targets(udp):
    results = info(1)
    results['keypoints'][0, 3] = 5000
    results['keypoints_visible'][0, 7] = 0
    codec = dict(type='UDPHeatmap' if udp else 'MSRAHeatmap', input_size=SIZE,
                 heatmap_size=(48, 64), sigma=2)  # fmt: skip
    cut = run(pipeline(size=SIZE, udp=udp)[:-1], results, 5)
    sample = PackSemiPose(use_udp=udp)(dict(cut))['data_samples'].gt_instances
    target = GenerateTarget(codec, use_dataset_keypoint_weights=True)(dict(cut))
    codec = (UDPHeatmap if udp else MSRAHeatmap)(**{k: v for k, v in codec.items() if k != 'type'})
    ours = codec.encode(sample.keypoints.numpy(), sample.keypoints_visible.numpy())
    np.testing.assert_array_equal(ours['heatmaps'], target['heatmaps'])
    weights = ours['keypoint_weights'] * sample.joint_weights.numpy()
    np.testing.assert_array_equal(weights, target['keypoint_weights'])
    for name in ('keypoints', 'keypoints_visible', 'joint_weights'):
        assert sample[name].dtype == torch.float32 and len(sample[name]) == 1
    assert sample.keypoints.shape == (1, 17, 2)


def test_a_labelled_sample():
    packed = run(pipeline(size=SIZE), info())
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 256, 192) and packed['inputs'].dtype == torch.uint8
    assert sample.labeled and sample.id == 4 and sample.img_id == 3 and sample.img_path == 'a.jpg'
    assert sample.input_size == SIZE and sample.flip_indices == FLIP
    assert 'gt_fields' not in sample and 'raw_ann_info' not in sample.metainfo


def test_an_unlabelled_sample_has_no_targets():
    hidden = dict(hidden_keypoints=np.ones((17, 2)), hidden_visible=np.ones(17))
    sample = run(pipeline(size=SIZE), {**info(labeled=False), **hidden})['data_samples']
    assert sample.labeled is False and 'gt_instances' not in sample
    np.testing.assert_array_equal(sample.hidden_keypoints, hidden['hidden_keypoints'])


def test_colours_are_those_of_the_file():
    results = info()
    results['img'][:] = (10, 20, 30)
    packed = run(pipeline(size=SIZE), results)
    assert packed['inputs'].amax((1, 2)).tolist() == [10, 20, 30]


@pytest.mark.parametrize('labeled', [True, False])
def test_a_pickled_sample_is_small(labeled):
    packed = run(pipeline(size=SIZE), info(labeled=labeled))
    assert len(pickle.dumps(packed)) <= 160_000


def second(**options):
    """A pipeline with two crops."""
    return pipeline(dict(type='mmdistill.SecondCrop', transforms=geometry(SIZE, **options)),
                    size=SIZE)  # fmt: skip


def test_two_crops_are_independent_views_of_one_image():
    packed = run(second(), info(), 1)
    crop = packed['data_samples'].crop
    assert packed['inputs'].shape == (2, 3, 256, 192) and crop.shape == (2, 2, 3)
    assert crop.dtype == np.float32 and np.abs(crop[0] - crop[1]).max() > 0.05
    assert packed['data_samples'].gt_instances.keypoints.shape == (1, 17, 2)
    assert packed['inputs'].is_contiguous()


def test_a_second_crop_changes_nothing_of_the_first():
    still = dict(type='RandomBBoxTransform', shift_prob=0.0, scale_prob=0.0, rotate_prob=0.0)
    spoil = [*geometry(SIZE, flip=1), dict(type='YOLOXHSVRandomAug')]
    fixed = geometry(SIZE, flip=0, box=still)
    steps = [dict(type='LoadImage'), dict(type='mmdistill.SecondCrop', transforms=spoil),
             *fixed, dict(type='mmdistill.PackSemiPose')]  # fmt: skip
    both = run(steps, info())
    one = run([steps[0], *steps[2:]], info())
    assert torch.equal(both['inputs'][0], one['inputs'])
    ours, alone = both['data_samples'], one['data_samples']
    np.testing.assert_array_equal(ours.crop[0], alone.crop)
    assert torch.equal(ours.gt_instances.keypoints, alone.gt_instances.keypoints)
    flipped = np.linalg.det(ours.crop[1][:, :2])
    assert flipped < 0 < np.linalg.det(ours.crop[0][:, :2])


def test_a_second_crop_comes_first():
    steps = pipeline(size=SIZE)
    steps.insert(3, dict(type='mmdistill.SecondCrop', transforms=geometry(SIZE)))
    with pytest.raises(UserError, match="'flip' is set"):
        run(steps, info())
    with pytest.raises(UserError, match='same input_size'):
        transforms = geometry((96, 128))
        run(pipeline(dict(type='mmdistill.SecondCrop', transforms=transforms), size=SIZE), info())


def test_what_cannot_be_packed_is_named():
    results = run(pipeline()[:-1], info())
    for image in (results['img'].astype(np.float32), results['img'][..., 0]):
        with pytest.raises(UserError, match='needs uint8 images of three channels, got'):
            PackSemiPose()({**results, 'img': image})
    with pytest.raises(UserError, match='needs TopdownAffine'):
        run([dict(type='LoadImage'), dict(type='mmdistill.PackSemiPose')], info())


def test_a_resized_image_is_refused():
    results = run(pipeline()[:-1], info())
    results['img_shape'] = (120, 160)
    with pytest.raises(UserError, match='resized'):
        PackSemiPose()(results)


def test_a_flip_is_its_own_inverse():
    for direction in (None, 'horizontal', 'vertical', 'diagonal'):
        matrix = flip_matrix(direction, 7, 5)
        np.testing.assert_array_equal(matrix @ matrix, np.eye(3))


# --- boxes by clipped normal numbers --------------------------------------------------------


def draws(count=4000, seed=0, **options):
    """Scales and angles of many boxes."""
    seed_cpu(seed)
    results = dict(bbox_center=np.zeros((count, 2)), bbox_scale=np.ones((count, 2), np.float32))
    results = ClippedBBoxTransform(**options)(results)
    scale = results['bbox_scale']
    assert (scale[:, 0] == scale[:, 1]).all() and scale.dtype == np.float32
    assert not results['bbox_center'].any()
    return scale[:, 0], results['bbox_rotation']


def test_boxes_follow_the_published_distribution():
    scale, angle = draws()
    assert scale.min() == 0.75 and scale.max() == 1.25
    assert np.isin(scale, (0.75, 1.25)).mean() == pytest.approx(0.317, abs=0.03)
    assert (angle == 0).mean() == pytest.approx(0.4, abs=0.03)
    assert np.abs(angle).max() == 60
    turned = angle[angle != 0]
    assert (np.abs(turned) == 60).mean() == pytest.approx(0.0455, abs=0.015)
    assert (turned > 0).mean() == pytest.approx(0.5, abs=0.04)


def test_the_same_seed_draws_the_same_boxes():
    first, again, other = draws(20), draws(20), draws(20, seed=1)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


def test_everything_can_be_switched_off():
    scale, angle = draws(50, box_scale_std=0.0, rotation_prob=0.0)
    assert (scale == 1).all() and (angle == 0).all()


@pytest.mark.parametrize(
    'options', [dict(box_scale=(1.2, 0.8)), dict(rotation_prob=2.0), dict(rotation_std=-1.0)]
)
def test_wrong_numbers_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        ClippedBBoxTransform(**options)


def test_second_crop_builds_its_transforms():
    assert len(SecondCrop(geometry(SIZE)).transforms.transforms) == 4
