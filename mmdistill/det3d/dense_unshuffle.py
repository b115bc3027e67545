"""Whether dense maps can be cut into patches: asked before training, by a run without numbers."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.det3d.shuffle_aug import PatchGrid, submodule_at
from mmdistill.det3d.sparse_unshuffle import stride_of

DENSE_PARTS = ('backbone', 'neck')


def check_dense_levels(
    detector: nn.Module, module_name: str, grid: PatchGrid, cells: Sequence[int]
) -> None:
    """Refuses a place of the unshuffle where some level of the dense part cannot be cut.

    Copies of the parts up to that place run on the meta device, which computes shapes only.
    Places outside the dense part pass.

    Args:
        detector: the host's detector.
        module_name: ``shuffle.unshuffle_at``.
        grid: the patches.
        cells: voxels (pillars) of the range along x and y.

    Raises:
        UserError: such a level; the message names it, its size and what to change.
    """
    if module_name not in DENSE_PARTS:
        return
    stride = stride_of(submodule_at(detector, 'middle_encoder'))
    first = next(
        each for each in submodule_at(detector, 'backbone').modules() if isinstance(each, nn.Conv2d)
    )
    shape = (1, first.in_channels, cells[1] // stride, cells[0] // stride)
    features = torch.empty(shape, device='meta')
    for name in DENSE_PARTS[: DENSE_PARTS.index(module_name) + 1]:
        part = copy.deepcopy(submodule_at(detector, name)).to('meta').eval()
        try:
            features = part(features)
        except RuntimeError as error:
            raise UserError(
                f'{name} cannot join its levels on a map of {shape[2]} x {shape[3]} (y, x) cells: '
                'choose a point_cloud_range and voxel_size whose map can be halved at every level'
            ) from error
    for what, level in _named(features, f'output of {module_name}'):
        rows, columns = level.shape[2:]
        grid.cells_per_patch(columns, rows, what)
        broken_x = grid.nx > 1 and cells[0] % columns
        if broken_x or (grid.ny > 1 and cells[1] % rows):
            raise UserError(
                f'{what} of {rows} x {columns} (y, x) cells has no whole number of the '
                f'{cells[1]} x {cells[0]} voxels in a cell, so patches end within cells: choose a '
                'point_cloud_range and voxel_size whose map can be halved at every level'
            )


def _named(features: Tensor | list | tuple, what: str) -> Iterator[tuple[str, Tensor]]:
    """Maps with the names that unshuffling gives them."""
    if isinstance(features, Tensor):
        yield what, features
    else:
        yield from ((f'{what}, level {level}', each) for level, each in enumerate(features))
