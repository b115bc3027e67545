"""Shuffle data augmentation of HSSDA (CVPR 2023, arXiv:2304.01464) and its inverse.

The range is cut into ``grid`` patches; a permutation moves patch ``i`` to the place of patch
``sigma[i]``. The scene is shuffled by index arithmetic on its voxels (no second voxelisation)
and unshuffled on dense maps or on the indices of sparse tensors. Boxes never move: the
detector sees a shuffled scene and answers for the real one.

For the 2 x 2 grid the patches are numbered as in the official code: 0 far right, 1 far left,
2 near left, 3 near right (x forward, y to the left), intervals half open.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError


class PatchGrid:
    """Patches of a point cloud range.

    Args:
        point_cloud_range: [x0, y0, z0, x1, y1, z1] in metres.
        grid: number of patches along x and y.

    Raises:
        UserError: an empty grid, or one that is no pair of whole numbers.
    """

    def __init__(self, point_cloud_range: list[float], grid: tuple[int, int] = (2, 2)) -> None:
        if len(grid) != 2 or not all(isinstance(each, int) and each >= 1 for each in grid):
            raise UserError(
                'shuffle.grid must be two whole numbers, patches along x and y, at least 1 x 1: '
                f'got {grid}'
            )
        self.nx, self.ny = grid
        x0, y0, _, x1, y1, _ = point_cloud_range
        self.origin = (x0, y0)
        self.size = ((x1 - x0) / self.nx, (y1 - y0) / self.ny)
        cells = [(ix, iy) for ix in range(self.nx) for iy in range(self.ny)]
        if (self.nx, self.ny) == (2, 2):
            cells = [(1, 0), (1, 1), (0, 1), (0, 0)]
        self.cells = torch.tensor(cells)
        number = torch.empty(self.nx, self.ny, dtype=torch.long)
        number[self.cells[:, 0], self.cells[:, 1]] = torch.arange(len(cells))
        self.number = number

    def __len__(self) -> int:
        return self.nx * self.ny

    def draw(self, uniform: Tensor) -> Tensor:
        """(B, patches) permutations from (B, patches) uniform numbers (all equally likely)."""
        return uniform.argsort(1)

    def identity(self, batch: int, device: torch.device | str = 'cpu') -> Tensor:
        """(B, patches) identity permutations."""
        return torch.arange(len(self), device=device).repeat(batch, 1)

    def patch_of_points(self, points: Tensor) -> Tensor:
        """(P,) patch of each point (P, 2+); points outside fall to the nearest patch."""
        ix = ((points[:, 0] - self.origin[0]) / self.size[0]).floor().long().clamp(0, self.nx - 1)
        iy = ((points[:, 1] - self.origin[1]) / self.size[1]).floor().long().clamp(0, self.ny - 1)
        return self.number.to(points.device)[ix, iy]

    def steps(self, sigma: Tensor) -> Tensor:
        """(B, patches, 2) patches by which each patch moves along x and y."""
        cells = self.cells.to(sigma.device)
        return cells[sigma] - cells[None]

    def shuffle_points(self, points: Tensor, sample: Tensor, sigma: Tensor) -> Tensor:
        """Moves points with their patch.

        Args:
            points: (P, 3 + F) in metres, inside the range.
            sample: (P,) sample index.
            sigma: (B, patches) permutations.
        """
        steps = self.steps(sigma)[sample, self.patch_of_points(points)]
        moved = points.clone()
        moved[:, :2] += steps.to(points.dtype) * points.new_tensor(self.size)
        return moved

    def shuffle_voxels(self, voxel_dict: dict[str, Tensor], sigma: Tensor, cells: Tensor) -> dict:
        """Shuffles a voxelised batch by index arithmetic (hssda: no second voxelisation).

        Args:
            voxel_dict: mmdet3d's ``voxels`` (V, points, 3 + F) or (P, 3 + F), ``coors``
                (V, 4) [sample, z, y, x], optionally ``num_points`` (V,), ``voxel_centers``.
            sigma: (B, patches) permutations.
            cells: (2,) or pair, number of voxels of the range along x and y.

        Raises:
            UserError: a patch is not a whole number of voxels.
        """
        width, height = self.cells_per_patch(int(cells[0]), int(cells[1]), 'voxel grid')
        coors = voxel_dict['coors']
        sample, y, x = coors[:, 0].long(), coors[:, 2].long(), coors[:, 3].long()
        inside = (coors[:, 1:] >= 0).all(1)
        patch = self.number.to(coors.device)[
            (x // width).clamp(0, self.nx - 1), (y // height).clamp(0, self.ny - 1)
        ]
        steps = self.steps(sigma)[sample, patch] * inside[:, None]
        moved = dict(voxel_dict)
        shift = torch.zeros_like(coors)
        shift[:, 2] = (steps[:, 1] * height).to(coors.dtype)
        shift[:, 3] = (steps[:, 0] * width).to(coors.dtype)
        moved['coors'] = coors + shift
        voxels = voxel_dict['voxels']
        metres = steps.to(voxels.dtype) * voxels.new_tensor(self.size)
        voxels = voxels.clone()
        if voxels.dim() == 3:
            slots = torch.arange(voxels.shape[1], device=voxels.device)
            filled = slots[None] < voxel_dict['num_points'][:, None]
            voxels[..., :2] += metres[:, None] * filled[..., None]
        else:
            voxels[:, :2] += metres
        moved['voxels'] = voxels
        if 'voxel_centers' in voxel_dict:
            centers = voxel_dict['voxel_centers'].clone()
            centers[:, :2] += metres
            moved['voxel_centers'] = centers
        return moved

    def cells_per_patch(self, width: int, height: int, what: str) -> tuple[int, int]:
        """Cells of one patch along x and y.

        Args:
            width: cells of the map along x.
            height: cells of the map along y.
            what: name of the map, for the error.

        Raises:
            UserError: the map cannot be cut into whole patches.
        """
        if width % self.nx or height % self.ny:
            raise UserError(
                f'{what} of {height} x {width} (y, x) cells cannot be cut into '
                f'{self.ny} x {self.nx} equal patches: choose a point_cloud_range, voxel_size and '
                'shuffle.unshuffle_at whose map sizes are multiples of shuffle.grid'
            )
        return width // self.nx, height // self.ny

    def _read_patches(self, dense: Tensor, sigma: Tensor) -> Tensor:
        """(B, C, H, W) map whose patch i is patch sigma[i] of the given one."""
        batch, channels, rows, columns = dense.shape
        width, height = self.cells_per_patch(columns, rows, 'feature map')
        cut = dense.view(batch, channels, self.ny, height, self.nx, width)
        cut = cut.permute(0, 4, 2, 1, 3, 5)
        source = self.cells.to(sigma.device)[sigma][:, self.number.to(sigma.device)]
        scene = torch.arange(batch, device=sigma.device)[:, None, None]
        moved = cut[scene, source[..., 0], source[..., 1]]
        return moved.permute(0, 3, 2, 4, 1, 5).reshape(dense.shape)

    def shuffle_dense(self, dense: Tensor, sigma: Tensor) -> Tensor:
        """Moves patch i of a (B, C, H, W) map to the place of patch sigma[i]."""
        return self.unshuffle_dense(dense, sigma.argsort(1))

    def unshuffle_dense(self, dense: Tensor, sigma: Tensor, what: str = 'feature map') -> Tensor:
        """Puts the patches of a shuffled (B, C, H, W) map back: patch i is read at sigma[i].

        Args:
            dense: the map.
            sigma: (B, patches) permutations that shuffled the scene.
            what: name of the map, for the error.
        """
        self.cells_per_patch(dense.shape[3], dense.shape[2], what)
        return _MovePatches.apply(dense, self, sigma.to(dense.device))

    def unshuffle_indices(self, indices: Tensor, sigma: Tensor, rows: int, columns: int) -> Tensor:
        """Unshuffles the indices of a sparse tensor; row order is kept.

        Args:
            indices: (V, 4) [sample, z, y, x] or (V, 3) [sample, y, x].
            sigma: (B, patches) permutations that shuffled the scene.
            rows: number of cells along y.
            columns: number of cells along x.
        """
        width, height = self.cells_per_patch(columns, rows, 'sparse tensor')
        back = sigma.argsort(1).to(indices.device)
        x, y = indices[:, -1].long() // width, indices[:, -2].long() // height
        patch = self.number.to(indices.device)[x, y]
        steps = self.steps(back)[indices[:, 0].long(), patch]
        shift = torch.zeros_like(indices)
        shift[:, -1] = (steps[:, 0] * width).to(indices.dtype)
        shift[:, -2] = (steps[:, 1] * height).to(indices.dtype)
        return indices + shift

    def unshuffle(self, features: Any, sigma: Tensor, what: str = 'feature map') -> Any:
        """Unshuffles whatever a module of a detector returns.

        Dense (B, C, H, W) tensors, sparse tensors of spconv or mmcv (anything with
        ``spatial_shape``: a new one is built, nothing is changed in place) and tuples, lists or
        dicts of these.

        Raises:
            TypeError: another kind of output.
        """
        if isinstance(features, Tensor):
            return self.unshuffle_dense(features, sigma, what)
        if hasattr(features, 'spatial_shape'):
            shape = features.spatial_shape
            rows, columns = shape[-2:]
            self.cells_per_patch(columns, rows, what)
            indices = self.unshuffle_indices(features.indices, sigma, rows, columns)
            return type(features)(features.features, indices, shape, features.batch_size)
        if isinstance(features, (tuple, list)):
            named = ((f'{what}, level {level}', each) for level, each in enumerate(features))
            return type(features)(self.unshuffle(each, sigma, name) for name, each in named)
        if isinstance(features, dict):
            return {
                key: self.unshuffle(each, sigma, f'{what}, {key}') for key, each in features.items()
            }
        raise TypeError(
            f'cannot unshuffle an output of type {type(features).__name__}: choose another '
            'module as shuffle.unshuffle_at'
        )


class _MovePatches(torch.autograd.Function):
    """A permutation of patches, whose gradient is the inverse one: nothing to accumulate."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, grid: PatchGrid, sigma: Tensor) -> Tensor:
        """Reads patch i at sigma[i]."""
        ctx.grid, ctx.sigma = grid, sigma
        return grid._read_patches(dense, sigma)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Sends the gradient of patch i to sigma[i]."""
        return _MovePatches.apply(gradient, ctx.grid, ctx.sigma.argsort(1)), None, None


def submodule_at(detector: nn.Module, module_name: str) -> nn.Module:
    """A submodule of a detector by its name, with or without the prefix ``pts_``.

    Raises:
        UserError: the detector has no such submodule.
    """
    module = getattr(detector, module_name, None) or getattr(detector, f'pts_{module_name}', None)
    if module is None:
        children = ', '.join(name for name, _ in detector.named_children())
        raise UserError(
            f'shuffle.unshuffle_at={module_name!r}: {type(detector).__name__} has no such '
            f'submodule; it has {children}'
        )
    return module


@contextmanager
def unshuffled_at(
    detector: nn.Module, module_name: str, grid: PatchGrid, sigma: Tensor
) -> Iterator[None]:
    """Unshuffles the output of one submodule while the context is open.

    Args:
        detector: the host's detector.
        module_name: name of the submodule, for instance ``middle_encoder`` (the official
            place), ``backbone`` or ``neck``; ``pts_`` names of multi-modal detectors are found.
        grid: the patches.
        sigma: (B, patches) permutations.

    Raises:
        UserError: the detector has no such submodule.
    """
    module = submodule_at(detector, module_name)
    what = f'output of {module_name}'
    handle = module.register_forward_hook(lambda *call: grid.unshuffle(call[-1], sigma, what))
    try:
        yield
    finally:
        handle.remove()
