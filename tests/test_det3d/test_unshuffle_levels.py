"""PV-RCNN sees a shuffled scene in its sparse encoder alone; every level comes out in place."""

import itertools

import pytest
import torch
from det3d_scenes import boxes_of, cloud, sample
from pv_rcnn_cases import ROWS, hssda_pv_rcnn
from pv_rcnn_cfg import RANGE, VOXEL, pv_rcnn

from mmdistill.core.errors import UserError
from mmdistill.det3d.cpu_ops import remove_cpu_ops
from mmdistill.det3d.shuffle_aug import PatchGrid, unshuffled_at

spconv = pytest.importorskip('spconv.pytorch')
SIGMA = torch.tensor([[2, 0, 3, 1], [1, 0, 3, 2], [0, 1, 2, 3], [3, 2, 1, 0]])
CELLS = 128


@pytest.fixture(scope='module')
def model(host):
    """HSSDA on the tiny PV-RCNN, no view; read only."""
    yield hssda_pv_rcnn(student_view={}).eval()
    remove_cpu_ops()


@pytest.fixture(scope='module')
def grid():
    """Four patches of the tiny range."""
    return PatchGrid(RANGE)


def scene_batch(model, count=4):
    """Unlabelled scenes with points of their own."""
    boxes, labels = boxes_of(ROWS)
    points = [cloud(boxes, labels, seed=k, ground=1500 + 100 * k) for k in range(count)]
    return model.read_batch(dict(points=points), [sample(k, labeled=False) for k in range(count)])


def voxels_of(model):
    """Voxels of the scenes, and the same voxels shuffled."""
    clouds = model.crop(scene_batch(model).points)
    voxels = model.student.data_preprocessor.voxelize(clouds, None)
    return voxels, model.patches.shuffle_voxels(voxels, SIGMA, (CELLS, CELLS))


def encode(encoder, features, coors):
    """Dense map and levels of a sparse encoder."""
    with torch.no_grad():
        return encoder(features, coors, len(SIGMA))


def to_dense(level):
    """(B, C * D, H, W) map of a level."""
    return level.dense().flatten(1, 2)


def test_every_level_and_the_map_equal_their_dense_unshuffle(model, grid):
    """Fact 5: index sets, features, row order, batch and height columns, the grid's bounds."""
    encoder = model.student.middle_encoder
    _, shuffled = voxels_of(model)
    features = torch.rand(len(shuffled['coors']), 4)
    dense, levels = encode(encoder, features, shuffled['coors'])
    before = [level.indices.clone() for level in levels]
    moved, moved_levels = grid.unshuffle((dense, levels), SIGMA)
    assert torch.equal(moved, grid.unshuffle_dense(dense, SIGMA))
    sizes = [tuple(level.spatial_shape[-2:]) for level in levels]
    assert sizes == [(128, 128), (64, 64), (32, 32), (16, 16)] and dense.shape[-2:] == (16, 16)
    for level, back, indices, (rows, columns) in zip(
        levels, moved_levels, before, sizes, strict=True
    ):
        assert torch.equal(level.indices, indices)  # a new tensor, not a changed one
        assert torch.equal(back.features, level.features)
        assert torch.equal(back.indices[:, :2], indices[:, :2])
        assert back.indices.dtype == indices.dtype and back.batch_size == len(SIGMA)
        assert bool((back.indices >= 0).all())
        assert bool((back.indices[:, 2] < rows).all() & (back.indices[:, 3] < columns).all())
        assert torch.equal(to_dense(back), grid.unshuffle_dense(to_dense(level), SIGMA))
        assert not torch.equal(back.indices, indices)


def test_every_permutation_returns_every_level(grid):
    """All 24, on levels down to two cells a patch."""
    every = torch.tensor(list(itertools.permutations(range(4))))
    for size in (4, 16, 128):
        generator = torch.Generator().manual_seed(size)
        cells = torch.randint(size, (24, 30, 2), generator=generator)
        sample = torch.arange(24).repeat_interleave(30)[:, None]
        indices = torch.cat([sample, torch.zeros_like(sample), cells.view(-1, 2)], 1).int()
        there = grid.unshuffle_indices(indices, every.argsort(1), size, size)
        assert torch.equal(grid.unshuffle_indices(there, every, size, size), indices)
        assert (there != indices).any()


def test_first_level_is_the_voxelised_scene_again(model):
    """Submanifold convolutions keep their voxels, so their indices tell the scene itself."""
    voxels, shuffled = voxels_of(model)
    student = model.student
    with torch.no_grad(), unshuffled_at(student, 'middle_encoder', model.patches, SIGMA):
        features = student.voxel_encoder(
            shuffled['voxels'], shuffled['num_points'], shuffled['coors']
        )
        _, levels = student.middle_encoder(features, shuffled['coors'], len(SIGMA))
    assert torch.equal(levels[0].indices, voxels['coors'].int())
    assert not torch.equal(shuffled['coors'], voxels['coors'])


def test_only_cells_near_a_seam_notice_the_shuffle(model, grid):
    """Fact 8 on each level, for features without coordinates: 40 voxels away nothing differs."""
    encoder = model.student.middle_encoder
    voxels, shuffled = voxels_of(model)
    features = torch.rand(len(voxels['coors']), 4, generator=torch.Generator().manual_seed(0))
    plain = encode(encoder, features, voxels['coors'])
    found = grid.unshuffle(encode(encoder, features, shuffled['coors']), SIGMA)
    places = torch.arange(64).repeat(2)
    distance = torch.minimum(places, 63 - places)  # voxels to the nearest seam or border
    checked = 0
    for level, back in zip((*plain[1], plain[0]), (*found[1], found[0]), strict=True):
        level, back = (each if torch.is_tensor(each) else to_dense(each) for each in (level, back))
        stride = CELLS // level.shape[-1]
        near = distance[::stride]
        far = torch.minimum(near[:, None], near[None]) >= 24
        reach = (level - back).abs().amax((0, 1))
        if stride < 8:  # a cell of the last level sees 37 voxels aside, more than a patch has
            assert float(reach[far].max()) < 1e-6
            assert float(level.abs().amax((0, 1))[far].max()) > 0
            checked += 1
        assert float(reach.max()) > 0
    assert checked == 3


def test_keypoints_come_from_the_unshuffled_student_scene(model, host):
    """The points encoder gets the augmented points in place, and unshuffled levels."""
    made = hssda_pv_rcnn()
    seen = {}

    def remember(module, given, out):
        seen.update(inputs=given[0], feats=given[1], keypoints=out['keypoints'])

    handle = made.student.points_encoder.register_forward_hook(remember)
    scenes = scene_batch(made)
    batch, samples, sigma = made.student_batch(scenes, scenes.boxes, None)
    with unshuffled_at(made.student, 'middle_encoder', made.patches, sigma):
        made.student.loss(batch, samples)
    handle.remove()
    clouds = seen['inputs']['points']
    plain = made.student.data_preprocessor.voxelize(clouds, None)
    assert not torch.equal(plain['coors'], seen['inputs']['voxels']['coors'])
    levels = seen['feats']['multi_scale_3d_feats']
    assert torch.equal(levels[0].indices, plain['coors'].int())
    for level in levels:  # rows of a sample stand together: keypoints count them
        assert bool((level.indices[1:, 0] >= level.indices[:-1, 0]).all())
    for row, points in enumerate(clouds):
        keypoints = seen['keypoints'][seen['keypoints'][:, 0] == row, 1:]
        known = {tuple(point) for point in points[:, :3].tolist()}
        assert {tuple(point) for point in keypoints.tolist()} <= known
        # the student's view of the scene, not the raw one
        assert not torch.isin(points[:, 0], scenes.points.lists()[row][:, 0]).all()


def test_the_raw_and_the_sparse_branch_agree_on_where_things_are(model):
    """Level 1 has a voxel wherever a keypoint is; a shuffled level has not."""
    voxels, shuffled = voxels_of(model)
    encoder = model.student.points_encoder
    clouds = model.crop(scene_batch(model).points)
    keypoints = encoder.sample_key_points(clouds, None)

    def distance(coors):
        centers = encoder.get_voxel_centers(coors, 1)
        return max(
            float(torch.cdist(keypoints[row], centers[coors[:, 0] == row]).amin(1).max())
            for row in (0, 1, 3)
        )

    half = torch.tensor(VOXEL).norm() / 2
    assert distance(voxels['coors']) <= half + 1e-3
    assert distance(shuffled['coors']) > 2 * half


# ------------------------------------------------------------------ refused before training


@pytest.mark.parametrize('place', ['neck', 'backbone'])
def test_keypoints_need_the_official_place(host, place):
    with pytest.raises(UserError, match=f"unshuffle_at='{place}'.*'middle_encoder'"):
        hssda_pv_rcnn(shuffle=dict(unshuffle_at=place))


def test_keypoints_of_shuffled_voxels_are_refused(host):
    detector = pv_rcnn()
    detector.points_encoder.voxel_center_as_source = True
    with pytest.raises(UserError, match='voxel_center_as_source.*shuffle=None'):
        hssda_pv_rcnn(detector=detector)
    assert hssda_pv_rcnn(detector=detector, shuffle=None).patches is None


def test_patches_of_broken_cells_are_refused(host):
    """120 voxels: patches of 60, no whole cells at stride 8, though the map has 15 rows."""
    detector = pv_rcnn()
    detector.data_preprocessor.voxel_layer.point_cloud_range = [0, -12.0, -3, 24.0, 12.0, 1]
    with pytest.raises(UserError, match='60 x 60 .y, x. voxels.* 8 voxels .*middle_encoder'):
        hssda_pv_rcnn(detector=detector)


def test_a_place_that_does_not_exist_is_named(host):
    with pytest.raises(UserError, match='no such submodule.*middle_encoder'):
        hssda_pv_rcnn(shuffle=dict(unshuffle_at='encoder'))
