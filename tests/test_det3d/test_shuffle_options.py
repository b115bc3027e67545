"""Options of the shuffle: other grids, labelled scenes, default places, other voxel grids."""

import copy

import pytest
import torch
from centerpoint_cfg import centerpoint, centerpoint_voxel
from det3d_scenes import CLASSES, boxes_of, cloud, initialised, pointpillars, sample, second
from pv_rcnn_cfg import pv_rcnn

from mmdistill.core.errors import UserError
from mmdistill.det3d.shuffle_aug import PatchGrid, unshuffled_at
from mmdistill.det3d.sparse_unshuffle import default_unshuffle

STILL = dict(flip_prob=0.0)
ROWS = [(6, 2, 2), (9, -3, 0), (4, -4, 1)]
FAMILIES = {
    'pillars': (pointpillars, 'neck'),
    'voxels': (second, 'middle_encoder'),
    'center-pillars': (centerpoint, 'neck'),
    'center-voxels': (centerpoint_voxel, 'middle_encoder'),
}


@pytest.fixture(autouse=True)
def mmdet3d_scope(host):
    """Stock type names are mmdet3d's, whatever an earlier test left."""
    from mmengine.registry import DefaultScope

    from mmdistill.det3d.compat import fix_spconv_cpu_stream

    pytest.importorskip('spconv.pytorch')
    fix_spconv_cpu_stream()
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        yield


def method(detector, **changes):
    """A method that learns from ground truth alone."""
    from mmdistill.det3d.semi_detector import SemiDet3D

    class TruthOnly(SemiDet3D):
        def pseudo_labels(self, scenes):
            return scenes.boxes, None

    torch.manual_seed(0)
    cfg = dict(detector=detector, class_names=CLASSES, student_view=STILL)
    return initialised(TruthOnly(**{**cfg, **changes}))


def scenes_of(model, *labeled):
    """Inputs and samples of scenes with points all over the model's range."""
    boxes, labels = boxes_of(ROWS)
    span = model.point_cloud_range
    points = [
        cloud(boxes, labels, seed=row, ground=1500, point_range=span) for row in range(len(labeled))
    ]
    truths = [(boxes, labels) if known else boxes_of([]) for known in labeled]
    samples = [
        sample(row, *truth, labeled=known)
        for row, (truth, known) in enumerate(zip(truths, labeled, strict=True))
    ]
    return dict(points=points), samples


def shuffled_batch(model, *labeled):
    """The student's batch of some scenes, and its permutations."""
    inputs, samples = scenes_of(model, *labeled)
    scenes = model.read_batch(inputs, samples)
    batch, _, sigma = model.student_batch(scenes, scenes.boxes, None)
    return batch, sigma


def part(detector, name):
    """A submodule, whatever its prefix."""
    return getattr(detector, name, None) or getattr(detector, f'pts_{name}')


def features(detector, batch):
    """Maps that the head reads; the host's pillar encoder writes into its input."""
    given = dict(voxels={key: value.clone() for key, value in batch['voxels'].items()})
    if hasattr(detector, 'pts_neck'):
        return detector.extract_feat(given, [])[1]
    return detector.extract_feat(given)


def by_hand(detector, voxels, grid, sigma, place):
    """The same, part by part, unshuffled by loops over patches after ``place``."""
    voxels = {key: value.clone() for key, value in voxels.items()}
    x = part(detector, 'voxel_encoder')(voxels['voxels'], voxels['num_points'], voxels['coors'])
    x = part(detector, 'middle_encoder')(x, voxels['coors'], len(sigma))
    if place == 'middle_encoder':
        x = put_back(x, grid, sigma)
    x = part(detector, 'neck')(part(detector, 'backbone')(x))
    return [put_back(each, grid, sigma) for each in x] if place == 'neck' else x


def put_back(dense, grid, sigma):
    """Unshuffles a map patch by patch, columns along x and rows along y."""
    rows, columns = dense.shape[2] // grid.ny, dense.shape[3] // grid.nx
    back = torch.empty_like(dense)
    for row, places in enumerate(sigma.tolist()):
        for patch, place in enumerate(places):
            (x, y), (sx, sy) = grid.cells[patch].tolist(), grid.cells[place].tolist()
            back[row, :, y * rows : (y + 1) * rows, x * columns : (x + 1) * columns] = dense[
                row, :, sy * rows : (sy + 1) * rows, sx * columns : (sx + 1) * columns
            ]
    return back


def assert_step_is_right(model, place):
    """A shuffled scene's voxels, the unshuffled features, and finite gradients of a whole step."""
    batch, sigma = shuffled_batch(model, False, False)
    grid, student = model.patches, model.student
    assert model.unshuffle_at == place and sigma.shape == (2, len(grid))
    assert not torch.equal(sigma, grid.identity(2))
    plain = student.data_preprocessor.voxelize(batch['points'], None)
    moved = plain['coors'].clone()
    width, height = (n // m for n, m in zip(model.grid_cells, (grid.nx, grid.ny), strict=True))
    for row, (scene, _, y, x) in enumerate(plain['coors'].tolist()):
        patch = int(grid.number[x // width, y // height])
        px, py = grid.cells[sigma[scene, patch]].tolist()
        moved[row, 2] = py * height + y % height
        moved[row, 3] = px * width + x % width
    assert torch.equal(batch['voxels']['coors'], moved)
    model.eval()
    with torch.no_grad(), unshuffled_at(student, place, grid, sigma):
        found = features(student, batch)
    with torch.no_grad():
        expected = by_hand(student, batch['voxels'], grid, sigma, place)
        shuffled = features(student, batch)
    assert torch.equal(found[0], expected[0]) and not torch.allclose(found[0], shuffled[0])
    losses = model.train().loss(*scenes_of(model, True, False))
    total = sum(sum(each) if isinstance(each, list) else each for each in losses.values())
    total.backward()
    used = [p for p in student.parameters() if p.grad is not None]
    assert used and all(bool(p.grad.isfinite().all()) for p in used)


# ------------------------------------------------------------------ grids


@pytest.mark.parametrize('family', list(FAMILIES))
@pytest.mark.parametrize('shape', [(3, 1), (4, 2), (1, 2)])
def test_other_grids_through_a_whole_step(family, shape):
    build, place = FAMILIES[family]
    columns = 96 if 'pillars' in family else 192
    detector = build(rows=64 if 'pillars' in family else 128, columns=columns)
    assert_step_is_right(method(detector, shuffle=dict(grid=shape)), place)


@pytest.mark.parametrize('shape', [(0, 2), (2.0, 2), (2,), (2, 2, 2)])
def test_a_grid_is_two_whole_numbers(shape):
    with pytest.raises(UserError, match=r'shuffle.grid must be two whole numbers.*at least 1 x 1'):
        PatchGrid([0, -4, -3, 8, 4, 1], shape)


# ------------------------------------------------------------------ labelled scenes


def test_labelled_scenes_are_shuffled_on_request():
    still, moved = (
        method(pointpillars(), shuffle=dict(labeled=labeled)) for labeled in (False, True)
    )
    _, sigma = shuffled_batch(still, True, False, True)
    identity = still.patches.identity(3)
    assert (sigma == identity).all(1).tolist() == [True, False, True]
    _, other = shuffled_batch(moved, True, False, True)
    assert not bool((other == identity).all(1).any())
    assert torch.equal(other[1], sigma[1])  # the same draws
    never = method(pointpillars(), shuffle=dict(labeled=True, prob=0.0))
    assert shuffled_batch(never, True, False)[1] is None


def test_boxes_of_shuffled_labelled_scenes_stay():
    model = method(pointpillars(), shuffle=dict(labeled=True))
    scenes = model.read_batch(*scenes_of(model, True))
    _, made, sigma = model.student_batch(scenes, scenes.boxes, None)
    assert sigma is not None
    found = made[0].gt_instances_3d.bboxes_3d.tensor
    torch.testing.assert_close(found, boxes_of(ROWS)[0])


def test_unknown_options_and_values():
    with pytest.raises(UserError, match=r"shuffle: unknown key 'label' \(did you mean 'labeled'"):
        method(pointpillars(), shuffle=dict(label=True))
    with pytest.raises(UserError, match=r"shuffle.labeled must be True or False, got 'yes'"):
        method(pointpillars(), shuffle=dict(labeled='yes'))


# ------------------------------------------------------------------ where to unshuffle


@pytest.mark.parametrize('family', list(FAMILIES))
def test_default_place_of_each_family(family):
    build, place = FAMILIES[family]
    model = method(build(), shuffle={})
    assert default_unshuffle(model.student) == default_unshuffle(model.teacher) == place
    assert model.unshuffle_at == place
    named = 'backbone' if place == 'neck' else 'neck'
    assert method(build(), shuffle=dict(unshuffle_at=named)).unshuffle_at == named


def test_default_place_of_pv_rcnn_and_of_pillars_without_a_neck():
    from mmdistill.det3d.cpu_ops import remove_cpu_ops

    assert method(pv_rcnn(), shuffle={}).unshuffle_at == 'middle_encoder'
    remove_cpu_ops()
    bare = method(pointpillars()).student
    bare.neck = None
    assert default_unshuffle(bare) == 'backbone'


# ------------------------------------------------------------------ other voxel grids


def on_range(detector, span, voxel):
    """A detector's config on another range and voxel size; sizes of maps follow."""
    detector = copy.deepcopy(detector)
    layer = detector['data_preprocessor']['voxel_layer']
    layer.update(point_cloud_range=span, voxel_size=voxel)
    cells = [round((span[i + 3] - span[i]) / voxel[i]) for i in range(3)]
    encoder = detector['middle_encoder']
    if 'sparse_shape' in encoder:
        encoder['sparse_shape'] = [cells[2] + 1, cells[1], cells[0]]
    else:
        encoder['output_shape'] = cells[1::-1]
        detector['voxel_encoder'].update(voxel_size=voxel, point_cloud_range=span)
    anchors = [[*span[:2], -1.7, *span[3:5], -1.7]] * 3
    detector['bbox_head']['anchor_generator']['ranges'] = anchors
    return detector


@pytest.mark.parametrize(
    ('build', 'span', 'voxel', 'shape'),
    [
        (second, [-51.2, -51.2, -3, 51.2, 51.2, 1], [0.1, 0.1, 0.1], (2, 2)),
        (second, [-12.0, -9.6, -3, 12.0, 9.6, 1], [0.1, 0.15, 0.1], (3, 2)),
        (pointpillars, [-32, -32, -3, 32, 32, 1], [0.25, 0.25, 4], (2, 2)),
        (pointpillars, [-20, -10, -2, 40, 14, 2], [0.25, 0.5, 4], (5, 3)),
    ],
)
def test_other_ranges_and_voxel_sizes(build, span, voxel, shape):
    model = method(on_range(build(), span, voxel), shuffle=dict(grid=shape))
    assert_step_is_right(model, FAMILIES['voxels' if build is second else 'pillars'][1])


@pytest.mark.parametrize(
    ('build', 'span', 'voxel', 'shuffle', 'message'),
    [
        # 75 m of 0.25 m: levels of 150 and 75 pillars
        (
            pointpillars,
            [0, -32, -3, 75, 32, 1],
            [0.25, 0.25, 4],
            dict(unshuffle_at='backbone'),
            r'output of backbone, level 1 of 64 x 75 \(y, x\) cells.* 2 x 2 .*voxel_size',
        ),
        (
            pointpillars,
            [0, -32, -3, 75, 32, 1],
            [0.25, 0.25, 4],
            dict(grid=(8, 1)),
            r'voxel grid of 256 x 300 \(y, x\) cells.* 1 x 8 .*point_cloud_range',
        ),
        (
            pointpillars,
            [0, -32, -3, 74.5, 32, 1],
            [0.25, 0.25, 4],
            {},
            r'neck cannot join its levels on a map of 256 x 298 .*halved at every level',
        ),
        (
            pointpillars,
            [-51.2, -51.2, -3, 51.2, 51.2, 1],
            [0.25, 0.25, 4],
            {},
            r'102.4 m of point_cloud_range along x are 409.60 voxels of 0.25 m',
        ),
        # 100 m of 0.1 m: patches of 500 voxels, 62.5 cells at stride 8
        (
            second,
            [-50, -51.2, -3, 50, 51.2, 1],
            [0.1, 0.1, 0.1],
            {},
            r'patches of 512 x 500 \(y, x\) voxels.* 8 voxels .*last level of middle_encoder.*'
            r'multiples of 16 x 16 voxels instead of 1024 x 1000',
        ),
        # the encoder ends on 16 x 15 cells, which the neck doubles after halving
        (
            second,
            [0, -6.4, -3, 12, 6.4, 1],
            [0.1, 0.1, 0.1],
            dict(grid=(1, 2), unshuffle_at='neck'),
            r'neck cannot join its levels on a map of 16 x 15',
        ),
        (
            second,
            [0, -6.4, -3, 14.4, 6.4, 1],
            [0.1, 0.1, 0.1],
            dict(grid=(2, 1), unshuffle_at='backbone'),
            r'output of backbone, level 1 of 8 x 9 \(y, x\) cells.* 1 x 2 ',
        ),
    ],
)
def test_grids_that_do_not_divide_are_refused_before_training(build, span, voxel, shuffle, message):
    with pytest.raises(UserError, match=message):
        method(on_range(build(), span, voxel), shuffle=shuffle)


@pytest.mark.parametrize(('build', 'key'), [(second, 'sparse_shape'), (pointpillars, 'output_sha')])
def test_an_encoder_of_another_grid_is_refused(build, key):
    """SECOND would train on without a word, its patches cut beside the seams."""
    detector = build()
    right = copy.deepcopy(detector['middle_encoder'])
    layer = detector['data_preprocessor']['voxel_layer']
    changed = on_range(detector, [0, *layer['point_cloud_range'][1:3], 51.2, *layer[
        'point_cloud_range'][4:]], layer['voxel_size'])  # fmt: skip
    changed['middle_encoder'] = right
    with pytest.raises(UserError, match=f'middle_encoder.{key}.*set {key}'):
        method(changed, shuffle={})
    assert method(changed).patches is None


def test_patches_that_end_within_cells_are_refused():
    """62 pillars at stride 4 are 16 cells: two patches of 8, which end after 32 pillars, not 31."""
    detector = pointpillars(columns=62)
    detector['backbone'].update(layer_nums=[1], layer_strides=[4], out_channels=[8])
    detector['neck'].update(in_channels=[8], upsample_strides=[1], out_channels=[16])
    with pytest.raises(UserError, match=r'output of neck, level 0 of 16 x 16 .*64 x 62 voxels'):
        method(detector, shuffle={})
    assert method(detector, shuffle=dict(grid=(1, 2))).unshuffle_at == 'neck'
