"""Whether dense maps can be cut into patches: asked before training, by a run without numbers."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmdistill.det3d.shuffle_aug import PatchGrid, submodule_at


def check_pillar_levels(detector: nn.Module, module_name: str, grid: PatchGrid) -> None:
    """Refuses a place of the unshuffle where some level of a pillar detector cannot be cut.

    Copies of the parts up to that place run on the meta device, which computes shapes only. Other
    detectors pass; a level of theirs that cannot be cut is an error of the first training step.

    Args:
        detector: the host's detector.
        module_name: ``shuffle.unshuffle_at``.
        grid: the patches.

    Raises:
        UserError: such a level; the message names it, its size and what to change.
    """
    scatter = submodule_at(detector, 'middle_encoder')
    places = ('middle_encoder', 'backbone', 'neck')
    if not hasattr(scatter, 'ny') or module_name not in places:
        return
    features = torch.empty(1, scatter.in_channels, scatter.ny, scatter.nx, device='meta')
    for name in places[1 : places.index(module_name) + 1]:
        part = copy.deepcopy(submodule_at(detector, name)).to('meta').eval()
        features = part(features)
    for what, level in _named(features, f'output of {module_name}'):
        grid.cells_per_patch(level.shape[3], level.shape[2], what)


def _named(features: Tensor | list | tuple, what: str) -> Iterator[tuple[str, Tensor]]:
    """Maps with the names that unshuffling gives them."""
    if isinstance(features, Tensor):
        yield what, features
    else:
        yield from ((f'{what}, level {level}', each) for level, each in enumerate(features))
