"""Which networks can be unshuffled where: asked before training, not in its first step.

PV-RCNN pools features of keypoints from the map and every level of the sparse encoder. All of
them are unshuffled together at the encoder's output (hssda 1.9), the indices of the levels by
arithmetic; the points that keypoints are drawn from were never shuffled.
"""

from collections.abc import Sequence

from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.det3d.shuffle_aug import PatchGrid, submodule_at


def default_unshuffle(detector: nn.Module) -> str:
    """The submodule at whose output a detector is unshuffled unless the config names one.

    * ``'middle_encoder'`` after a sparse encoder: the official place, and the only one that
      PV-RCNN's keypoints allow (SECOND, PV-RCNN, CenterPoint on voxels);
    * ``'neck'`` after a scatter of pillars, which mixes nothing in space: unshuffled at once the
      shuffle would only change coordinates (PointPillars, CenterPoint on pillars; ours, hssda
      5.6). ``'backbone'`` where there is no neck.

    Args:
        detector: an mmdet3d detector with a middle encoder.
    """
    if hasattr(submodule_at(detector, 'middle_encoder'), 'sparse_shape'):
        return 'middle_encoder'
    necks = (getattr(detector, name, None) for name in ('neck', 'pts_neck'))
    return 'backbone' if all(neck is None for neck in necks) else 'neck'


def check_whole_voxels(point_cloud_range: Sequence[float], voxel_size: Sequence[float]) -> None:
    """Refuses a range with a part of a voxel at its end: patches in metres and in cells differ.

    Args:
        point_cloud_range: [x0, y0, z0, x1, y1, z1] in metres.
        voxel_size: along x, y and z in metres.

    Raises:
        UserError: along x or y; the message names the axis.
    """
    for axis, name in enumerate('xy'):
        extent = point_cloud_range[axis + 3] - point_cloud_range[axis]
        voxels = extent / voxel_size[axis]
        if abs(voxels - round(voxels)) > 1e-3:
            raise UserError(
                f'shuffle: {extent:g} m of point_cloud_range along {name} are {voxels:.2f} voxels '
                f'of {voxel_size[axis]:g} m; choose a point_cloud_range or voxel_size that makes '
                'them whole'
            )


def check_unshuffle(
    detector: nn.Module, module_name: str, grid: PatchGrid, cells: Sequence[int]
) -> None:
    """Refuses places of the unshuffle that the detector cannot work with.

    Args:
        detector: the host's detector.
        module_name: ``shuffle.unshuffle_at``.
        grid: the patches.
        cells: voxels of the range along x and y.

    Raises:
        UserError: no such submodule; an encoder made for another grid; a patch of a fraction of
            a cell at some level; features that a keypoint branch reads and that would stay
            shuffled.
    """
    submodule_at(detector, module_name)
    width, height = grid.cells_per_patch(*cells, 'voxel grid')
    encoder = submodule_at(detector, 'middle_encoder')
    stride = stride_of(encoder)
    if width % stride or height % stride:
        raise UserError(
            f'shuffle.grid: patches of {height} x {width} (y, x) voxels are no multiple of the '
            f'{stride} voxels of a cell at the last level of middle_encoder; choose a '
            f'point_cloud_range and voxel_size with multiples of {grid.ny * stride} x '
            f'{grid.nx * stride} voxels instead of {cells[1]} x {cells[0]}, or another shuffle.grid'
        )
    _check_shape(encoder, cells)
    points_encoder = getattr(detector, 'points_encoder', None)
    if points_encoder is None:
        return
    if module_name != 'middle_encoder':
        raise UserError(
            f'shuffle.unshuffle_at={module_name!r}: the keypoints of {type(detector).__name__} '
            "read the sparse encoder's levels, so it must be 'middle_encoder'"
        )
    if getattr(points_encoder, 'voxel_center_as_source', False):
        raise UserError(
            'points_encoder.voxel_center_as_source=True takes keypoints from shuffled voxels: '
            'set it to False, or shuffle=None'
        )


def stride_of(encoder: nn.Module) -> int:
    """Voxels along x and y of a cell of its output: stages after the first halve the map."""
    stages = getattr(encoder, 'encoder_channels', None)
    return 1 if stages is None else 2 ** (len(stages) - 1)


def _check_shape(encoder: nn.Module, cells: Sequence[int]) -> None:
    """Refuses an encoder whose map is not that of the voxels: patches would be cut elsewhere."""
    key, shape = 'output_shape', (getattr(encoder, 'ny', None), getattr(encoder, 'nx', None))
    if hasattr(encoder, 'sparse_shape'):
        key, shape = 'sparse_shape', tuple(encoder.sparse_shape[-2:])
    if None not in shape and shape != (cells[1], cells[0]):
        raise UserError(
            f'middle_encoder.{key} has {shape[0]} x {shape[1]} (y, x) cells, point_cloud_range and '
            f'voxel_size make {cells[1]} x {cells[0]} voxels: set {key} to these'
        )
