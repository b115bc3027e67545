"""Shuffle and unshuffle are inverse permutations of cells, on dense maps, indices and voxels."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.det3d.shuffle_aug import PatchGrid, unshuffled_at

KITTI = [0, -40, -3, 70.4, 40, 1]
EVERY = torch.tensor(list(itertools.permutations(range(4))))
MOVED = torch.tensor([[2, 0, 3, 1], [1, 0, 3, 2], [0, 1, 2, 3], [3, 2, 1, 0]])


@pytest.fixture
def grid():
    """The official 2 x 2 grid."""
    return PatchGrid(KITTI)


def reference_unshuffle(dense, sigma):
    """Loops over samples and quadrants, written from the official table (H is y, W is x)."""
    rows, columns = dense.shape[2] // 2, dense.shape[3] // 2
    corner = {0: (0, columns), 1: (rows, columns), 2: (rows, 0), 3: (0, 0)}
    back = torch.empty_like(dense)
    for sample, row in enumerate(sigma.tolist()):
        for patch, place in enumerate(row):
            (y, x), (sy, sx) = corner[patch], corner[place]
            back[sample, :, y : y + rows, x : x + columns] = dense[
                sample, :, sy : sy + rows, sx : sx + columns
            ]
    return back


# ------------------------------------------------------------------ dense maps


def test_unshuffle_undoes_every_permutation_bit_exactly(grid):
    dense = torch.randn(24, 3, 6, 10)
    shuffled = grid.shuffle_dense(dense, EVERY)
    assert torch.equal(grid.unshuffle_dense(shuffled, EVERY), dense)
    assert torch.equal(grid.shuffle_dense(grid.unshuffle_dense(dense, EVERY), EVERY), dense)
    assert torch.equal(shuffled.flatten(1).sort(1).values, dense.flatten(1).sort(1).values)
    assert torch.equal(grid.unshuffle_dense(dense, EVERY), reference_unshuffle(dense, EVERY))


def test_only_the_identity_changes_nothing(grid):
    dense = torch.randn(1, 2, 4, 4).expand(24, -1, -1, -1)
    same = (grid.shuffle_dense(dense, EVERY) == dense).flatten(1).all(1)
    assert same.tolist() == [True] + [False] * 23
    assert EVERY[0].tolist() == [0, 1, 2, 3]
    assert torch.equal(grid.identity(3), torch.arange(4).repeat(3, 1))


@pytest.mark.parametrize('shape', [(1, 1), (3, 2), (2, 3), (4, 4)])
def test_other_grids_invert_too(shape):
    grid = PatchGrid([0, -12, -3, 24, 12, 1], shape)
    sigma = grid.draw(torch.rand(5, len(grid)))
    dense = torch.randn(5, 2, 12, 24)
    shuffled = grid.shuffle_dense(dense, sigma)
    assert torch.equal(grid.unshuffle_dense(shuffled, sigma), dense)
    assert len(grid) == shape[0] * shape[1]
    if len(grid) > 1:
        assert not torch.equal(shuffled, dense)


def test_works_on_any_memory_layout(grid):
    dense = torch.randn(4, 3, 6, 8)
    expected = grid.unshuffle_dense(dense, MOVED)
    layouts = [
        dense.to(memory_format=torch.channels_last),
        dense.transpose(2, 3).contiguous().transpose(2, 3),
    ]
    for layout in layouts:
        assert torch.equal(grid.unshuffle_dense(layout, MOVED), expected)


def test_gradient_goes_back_to_the_cell_it_came_from(grid):
    dense = torch.randn(4, 1, 4, 4, requires_grad=True)
    weight = torch.randn(4, 1, 4, 4)
    (grid.unshuffle_dense(dense, MOVED) * weight).sum().backward()
    assert torch.equal(dense.grad, grid.shuffle_dense(weight, MOVED))


def test_gradient_of_the_gradient_is_right(grid):
    dense = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor([[2, 0, 3, 1], [1, 0, 3, 2]])
    move = partial(grid.unshuffle_dense, sigma=sigma)
    assert torch.autograd.gradcheck(move, dense) and torch.autograd.gradgradcheck(move, dense)


# ------------------------------------------------------------------ patches


def test_patch_numbers_of_the_official_table(grid):
    table = {(52.8, -20): 0, (52.8, 20): 1, (17.6, 20): 2, (17.6, -20): 3}
    points = torch.tensor([[x, y, 0.0] for x, y in table])
    assert grid.patch_of_points(points).tolist() == list(table.values())


def test_patches_are_half_open_and_partition_the_range(grid):
    edges = torch.tensor(
        [[35.2, -1.0], [35.2, 1.0], [10, 0.0], [60, 0.0], [35.2, 0.0], [0, -40], [70.3, 39.9]]
    )
    assert grid.patch_of_points(edges).tolist() == [0, 1, 2, 1, 1, 3, 1]
    before = torch.nextafter(torch.tensor(35.2), torch.tensor(0.0))
    assert grid.patch_of_points(torch.tensor([[before, -1.0]])).tolist() == [3]
    x, y = torch.meshgrid(torch.arange(0, 70.4, 0.4), torch.arange(-40, 40, 0.5), indexing='ij')
    patch = grid.patch_of_points(torch.stack([x.flatten(), y.flatten()], 1))
    assert torch.bincount(patch, minlength=4).tolist() == [88 * 80] * 4


def test_points_return_within_four_micrometres(grid):
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(20000, 4, generator=generator) * torch.tensor([70.4, 80, 4, 1])
    points -= torch.tensor([0, 40, 3, 0])
    sample = torch.randint(24, (20000,), generator=generator)
    shuffled = grid.shuffle_points(points, sample, EVERY)
    places = EVERY[sample, grid.patch_of_points(points)]
    near_edge = ((shuffled[:, 0] - 35.2).abs() < 1e-4) | (shuffled[:, 1].abs() < 1e-4)
    assert torch.equal(grid.patch_of_points(shuffled)[~near_edge], places[~near_edge])
    assert torch.equal(shuffled[:, 2:], points[:, 2:])
    back = grid.shuffle_points(shuffled, sample, EVERY.argsort(1))
    error = (back - points)[~near_edge].abs().max()
    assert error <= 4e-6
    inside = (shuffled[:, 0] >= 0) & (shuffled[:, 0] < 70.4 + 1e-5) & (shuffled[:, 1].abs() <= 40)
    assert inside.all()


def test_a_point_moves_by_the_distance_of_the_patch_centres(grid):
    centers = torch.tensor([[52.8, -20], [52.8, 20], [17.6, 20], [17.6, -20]])
    for sigma in EVERY:
        moved = grid.shuffle_points(centers, torch.zeros(4, dtype=torch.long), sigma[None])
        torch.testing.assert_close(moved, centers[sigma])


# ------------------------------------------------------------------ voxels


def voxelize(points, voxel=(0.4, 0.5)):
    """Cell (y, x) of each point, on a grid that holds 176 x 160 cells."""
    x = (points[:, 0] / voxel[0]).floor().long()
    y = ((points[:, 1] + 40) / voxel[1]).floor().long()
    return torch.stack([y, x], 1)


def hard_voxels(points, sample, voxel=(0.4, 0.5)):
    """mmdet3d's hard voxelisation by hand: voxels, coors, num_points and point ids."""
    cells = torch.cat([sample[:, None], torch.zeros_like(sample)[:, None], voxelize(points)], 1)
    coors, owner = torch.unique(cells, dim=0, return_inverse=True)
    counts = torch.bincount(owner)
    slots = int(counts.max()) + 1
    voxels = torch.zeros(len(coors), slots, points.shape[1])
    ids = torch.full((len(coors), slots), -1)
    filled = torch.zeros(len(coors), dtype=torch.long)
    for index, voxel_index in enumerate(owner.tolist()):
        voxels[voxel_index, filled[voxel_index]] = points[index]
        ids[voxel_index, filled[voxel_index]] = index
        filled[voxel_index] += 1
    centers = torch.stack([(coors[:, 3] + 0.5) * voxel[0], (coors[:, 2] + 0.5) * voxel[1] - 40], 1)
    centers = torch.cat([centers, torch.full((len(coors), 1), -1.0)], 1)
    return dict(voxels=voxels, coors=coors, num_points=counts, voxel_centers=centers), ids


def interior_points(count, samples, seed=0):
    """Points that stay 1e-3 of a cell away from voxel edges."""
    generator = torch.Generator().manual_seed(seed)
    cell = torch.stack(
        [torch.randint(size, (count,), generator=generator) for size in (176, 160)], 1
    )
    offset = 1e-3 + torch.rand(count, 2, generator=generator) * (1 - 2e-3)
    xy = (cell + offset) * torch.tensor([0.4, 0.5]) - torch.tensor([0.0, 40])
    rest = torch.rand(count, 2, generator=generator)
    sample = torch.randint(samples, (count,), generator=generator).sort().values
    return torch.cat([xy, rest], 1), sample


def as_sets(voxel_dict, ids):
    """{cell: frozenset of point ids} of a voxelised batch."""
    return {
        tuple(cell): frozenset(row[row >= 0].tolist())
        for cell, row in zip(voxel_dict['coors'].tolist(), ids, strict=True)
    }


def test_shuffling_voxels_equals_voxelising_shuffled_points(grid):
    points, sample = interior_points(3000, 24)
    once, ids = hard_voxels(points, sample)
    moved = grid.shuffle_voxels(once, EVERY, (176, 160))
    again, other_ids = hard_voxels(grid.shuffle_points(points, sample, EVERY), sample)
    assert as_sets(moved, ids) == as_sets(again, other_ids)
    assert torch.equal(moved['num_points'], once['num_points'])
    # point coordinates and centres inside the voxels, slot by slot
    order = {tuple(cell): row for row, cell in enumerate(again['coors'].tolist())}
    rows = torch.tensor([order[tuple(cell)] for cell in moved['coors'].tolist()])
    torch.testing.assert_close(moved['voxels'], again['voxels'][rows], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved['voxel_centers'], again['voxel_centers'][rows])


def test_shuffling_voxels_keeps_padding_input_and_row_order(grid):
    points, sample = interior_points(500, 4)
    once, ids = hard_voxels(points, sample)
    before = {key: value.clone() for key, value in once.items()}
    moved = grid.shuffle_voxels(once, MOVED, (176, 160))
    for key, value in once.items():
        assert torch.equal(value, before[key]), key
    assert bool((moved['voxels'][ids < 0] == 0).all())
    assert torch.equal(moved['coors'][:, :2], once['coors'][:, :2])
    assert torch.equal(moved['voxels'][..., 2:], once['voxels'][..., 2:])
    assert bool((moved['coors'][:, 2] < 160).all() & (moved['coors'][:, 3] < 176).all())
    assert bool((moved['coors'] >= 0).all())
    assert len(torch.unique(moved['coors'], dim=0)) == len(once['coors'])


def test_host_voxelisation_commutes_with_the_shuffle(host, grid):
    """The same law with mmcv's voxel layer, which the detectors use."""
    from mmdet3d.registry import MODELS

    layer = dict(
        max_num_points=16, point_cloud_range=KITTI, voxel_size=[0.4, 0.5, 4], max_voxels=20000
    )
    processor = MODELS.build(
        dict(type='mmdet3d.Det3DDataPreprocessor', voxel=True, voxel_layer=layer)
    )
    points, sample = interior_points(4000, 4, seed=2)
    points[:, 3] = torch.arange(4000).float()

    def voxelize_all(cloud):
        return processor.voxelize([cloud[sample == b] for b in range(4)], None)

    moved = grid.shuffle_voxels(voxelize_all(points), MOVED, (176, 160))
    again = voxelize_all(grid.shuffle_points(points, sample, MOVED))

    def sets(voxel_dict):
        return {
            tuple(cell): frozenset(voxel[:count, 3].tolist())
            for cell, voxel, count in zip(
                voxel_dict['coors'].tolist(),
                voxel_dict['voxels'],
                voxel_dict['num_points'].tolist(),
                strict=True,
            )
        }

    assert sets(moved) == sets(again)
    assert max(len(ids) for ids in sets(moved).values()) > 1


def test_dynamic_voxels_move_with_their_points(grid):
    """(P, 3 + F) points with one cell each; points outside the grid (cell -1) stay."""
    points, sample = interior_points(300, 4)
    coors = torch.cat([sample[:, None], torch.zeros(300, 1).long(), voxelize(points)], 1)
    coors[::10, 1:] = -1
    moved = grid.shuffle_voxels(dict(voxels=points, coors=coors), MOVED, (176, 160))
    outside = coors[:, 1] < 0
    expected = grid.shuffle_points(points, sample, MOVED)
    expected[outside] = points[outside]
    torch.testing.assert_close(moved['voxels'], expected)
    assert torch.equal(moved['coors'][outside], coors[outside])
    assert torch.equal(moved['coors'][~outside, 2:], voxelize(expected)[~outside])


# ------------------------------------------------------------------ sparse tensors


def sparse_case(depth=5, rows=8, columns=12, seed=0):
    """Random active cells of 4 samples, some of them none, not sorted."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(4, depth, rows, columns, generator=generator) < 0.2
    dense[2] = False
    indices = dense.nonzero()
    order = torch.randperm(len(indices), generator=generator)
    indices = indices[order].int()
    return indices, torch.rand(len(indices), 6, generator=generator)


def to_dense(indices, features, depth=5, rows=8, columns=12):
    """(B, C * D, H, W) map of a sparse tensor."""
    dense = torch.zeros(4, depth, rows, columns, features.shape[1])
    dense[tuple(indices.long().T)] = features
    return dense.permute(0, 4, 1, 2, 3).flatten(1, 2)


def test_sparse_unshuffle_equals_dense_unshuffle(grid):
    indices, features = sparse_case()
    moved = grid.unshuffle_indices(indices, MOVED, 8, 12)
    assert moved.dtype == indices.dtype
    expected = grid.unshuffle_dense(to_dense(indices, features), MOVED)
    assert torch.equal(to_dense(moved, features), expected)
    assert torch.equal(moved[:, :2], indices[:, :2])
    assert bool((moved[:, 2] >= 0).all() & (moved[:, 2] < 8).all())
    assert bool((moved[:, 3] >= 0).all() & (moved[:, 3] < 12).all())
    flat = grid.unshuffle_indices(indices[:, [0, 2, 3]], MOVED, 8, 12)
    assert torch.equal(flat, moved[:, [0, 2, 3]])


def test_sparse_tensor_of_spconv(grid):
    spconv = pytest.importorskip('spconv.pytorch')
    indices, features = sparse_case()
    tensor = spconv.SparseConvTensor(features, indices, [5, 8, 12], 4)
    tensor.indice_dict['subm1'] = object()
    old_indices, old_features = indices.clone(), features.clone()
    moved = grid.unshuffle(tensor, MOVED)
    assert moved is not tensor and isinstance(moved, spconv.SparseConvTensor)
    dense = tensor.dense().flatten(1, 2)
    assert torch.equal(moved.dense().flatten(1, 2), grid.unshuffle_dense(dense, MOVED))
    assert torch.equal(moved.features, old_features)
    # nothing of the given tensor changed, and cached index pairs do not outlive the move
    assert torch.equal(tensor.indices, old_indices) and 'subm1' in tensor.indice_dict
    assert not moved.indice_dict


def test_sparse_convolution_after_unshuffling_reads_the_new_neighbours(grid):
    """A stale index cache would give the neighbourhoods of the shuffled scene."""
    spconv = pytest.importorskip('spconv.pytorch')
    torch.manual_seed(0)
    first = spconv.SubMConv3d(6, 4, 3, padding=1, bias=False, indice_key='same')
    second = spconv.SubMConv3d(4, 3, 3, padding=1, bias=False, indice_key='same')
    indices, features = sparse_case()
    with torch.no_grad():
        middle = first(spconv.SparseConvTensor(features, indices, [5, 8, 12], 4))
        moved = grid.unshuffle(middle, MOVED)
        fresh = spconv.SparseConvTensor(moved.features, moved.indices, [5, 8, 12], 4)
        torch.testing.assert_close(second(moved).dense(), second(fresh).dense())


def test_containers_and_unknown_outputs(grid):
    dense = torch.randn(4, 2, 4, 4)
    expected = grid.unshuffle_dense(dense, MOVED)
    assert torch.equal(grid.unshuffle((dense,), MOVED)[0], expected)
    nested = grid.unshuffle([dict(a=dense), (dense, dense)], MOVED)
    assert torch.equal(nested[0]['a'], expected) and torch.equal(nested[1][1], expected)
    with pytest.raises(TypeError, match='unshuffle_at'):
        grid.unshuffle('features', MOVED)


# ------------------------------------------------------------------ draws and errors


def test_all_permutations_are_equally_likely(grid):
    sigma = grid.draw(torch.rand(24000, 4, generator=torch.Generator().manual_seed(0)))
    code = (sigma * torch.tensor([64, 16, 4, 1])).sum(1)
    _, counts = code.unique(return_counts=True)
    assert len(counts) == 24
    assert int(counts.min()) > 850 and int(counts.max()) < 1150


@pytest.mark.parametrize(('rows', 'columns'), [(5, 8), (8, 7)])
def test_odd_maps_are_an_error_that_names_the_sizes(grid, rows, columns):
    dense = torch.zeros(4, 1, rows, columns)
    voxels = dict(coors=torch.zeros(1, 4).long(), voxels=torch.zeros(1, 1, 4))
    for call in (
        lambda: grid.unshuffle_dense(dense, MOVED),
        lambda: grid.shuffle_dense(dense, MOVED),
        lambda: grid.unshuffle_indices(torch.zeros(1, 4).long(), MOVED, rows, columns),
        lambda: grid.shuffle_voxels(voxels, MOVED, (columns, rows)),
    ):
        with pytest.raises(UserError, match=f'{rows} x {columns}.*shuffle.grid'):
            call()


def test_an_empty_grid_is_refused():
    with pytest.raises(UserError, match='at least 1 x 1'):
        PatchGrid(KITTI, (0, 2))


# ------------------------------------------------------------------ laws of networks


def shuffled_run(network, dense, grid, sigma):
    """Unshuffled answer of a network to a shuffled map."""
    return grid.unshuffle_dense(network(grid.shuffle_dense(dense, sigma)), sigma)


def test_pointwise_networks_do_not_notice_the_shuffle(grid):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    dense = torch.randn(24, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(shuffled_run(network, dense, grid, EVERY), network(dense))


def test_only_cells_near_a_seam_notice_the_shuffle(grid):
    """Three 3 x 3 convolutions see 3 cells to each side: farther cells are equal, nearer not."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=1) for _ in range(3))).eval()
    dense = torch.randn(24, 2, 24, 32)
    with torch.no_grad():
        gap = (shuffled_run(network, dense, grid, EVERY) - network(dense)).abs().amax((0, 1))
    distance = [
        torch.minimum(index, half - 1 - index)
        for half in (12, 16)
        for index in [torch.arange(half).repeat(2)]
    ]
    # distance to the border of the own patch: seams and the border of the map are alike
    near = torch.minimum(distance[0][:, None], distance[1][None])
    assert float(gap[near >= 3].max()) < 1e-5
    assert float(gap[near < 1].median()) > 1e-2


def test_strided_networks_and_the_receptive_field(grid):
    """Stride 2 twice: the map shrinks by 4 and the law holds on the small map."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 2, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 2, stride=2), nn.ReLU()
    ).eval()
    dense = torch.randn(24, 1, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(shuffled_run(network, dense, grid, EVERY), network(dense))


class TwoPart(nn.Module):
    """A detector-like module with named parts, one of which answers with a tuple."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(2, 3, 1)
        self.pts_neck = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.pts_neck(self.backbone(x))


def test_hook_unshuffles_one_output_and_leaves_nothing_behind(grid):
    torch.manual_seed(0)
    network, dense = TwoPart().eval(), torch.randn(4, 2, 8, 8)
    with torch.no_grad():
        plain = network(dense)
        shuffled = grid.shuffle_dense(dense, MOVED)
        with unshuffled_at(network, 'backbone', grid, MOVED):
            torch.testing.assert_close(network(shuffled), plain)
        late = grid.unshuffle_dense(network(shuffled), MOVED)
        with unshuffled_at(network, 'neck', grid, MOVED):
            torch.testing.assert_close(network(shuffled), late)
        assert (late - plain).abs().max() > 1e-2
        assert torch.equal(network(dense), plain)
        with (
            pytest.raises(RuntimeError, match='boom'),
            unshuffled_at(network, 'backbone', grid, MOVED),
        ):
            raise RuntimeError('boom')
        assert torch.equal(network(dense), plain)


def test_hook_names_the_modules_there_are(grid):
    with (
        pytest.raises(UserError, match=r"unshuffle_at='head'.*backbone, pts_neck"),
        unshuffled_at(TwoPart(), 'head', grid, MOVED),
    ):
        pass
