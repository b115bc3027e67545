"""Which networks can be unshuffled where: asked before training, not in its first step.

PV-RCNN pools features of keypoints from the map and every level of the sparse encoder. All of
them are unshuffled together at the encoder's output (hssda 1.9), the indices of the levels by
arithmetic; the points that keypoints are drawn from were never shuffled.
"""

from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.det3d.shuffle_aug import PatchGrid, submodule_at


def check_unshuffle(
    detector: nn.Module, module_name: str, grid: PatchGrid, cells: tuple[int, int]
) -> None:
    """Refuses places of the unshuffle that the detector cannot work with.

    Args:
        detector: the host's detector.
        module_name: ``shuffle.unshuffle_at``.
        grid: the patches.
        cells: voxels of the range along x and y.

    Raises:
        UserError: no such submodule; a patch of a fraction of a cell at some level; features
            that a keypoint branch reads and that would stay shuffled.
    """
    module = submodule_at(detector, module_name)
    width, height = grid.cells_per_patch(*cells, 'voxel grid')
    stride = _stride(module)
    if width % stride or height % stride:
        raise UserError(
            f'shuffle.grid: patches of {height} x {width} (y, x) voxels are no multiple of the '
            f'{stride} voxels of a cell at the last level of {module_name}; choose a '
            'point_cloud_range and voxel_size for which they are'
        )
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


def _stride(module: nn.Module) -> int:
    """Voxels along x and y of a cell at the last level: stages after the first halve the map."""
    stages = getattr(module, 'encoder_channels', None)
    return 1 if stages is None else 2 ** (len(stages) - 1)
