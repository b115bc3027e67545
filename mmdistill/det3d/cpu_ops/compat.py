"""The one place where mmcv's and mmdet3d's operators learn to work on CPU tensors.

:func:`install_cpu_ops` replaces them, wherever mmcv and mmdet3d hold them by name, by functions
that look at the tensors: all on the CPU, ours run; anything else goes to the host's own operator.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from mmdistill.core.compat import Patch
from mmdistill.det3d.cpu_ops.ball_query import ball_query
from mmdistill.det3d.cpu_ops.box_membership import points_in_boxes_all, points_in_boxes_part
from mmdistill.det3d.cpu_ops.grouping import gather_points, grouping_operation
from mmdistill.det3d.cpu_ops.interpolation import three_interpolate, three_nn
from mmdistill.det3d.cpu_ops.rotated_iou import box_iou_rotated, boxes_iou3d, boxes_overlap_bev
from mmdistill.det3d.cpu_ops.rotated_nms import nms3d, nms3d_normal, nms_rotated
from mmdistill.det3d.cpu_ops.sampling import (
    furthest_point_sample,
    furthest_point_sample_with_dist,
)
from mmdistill.det3d.cpu_ops.scatter import dynamic_scatter
from mmdistill.det3d.cpu_ops.voxelize import voxelization

_HOSTS = ('mmcv', 'mmdet', 'mmdet3d')
_PREPROCESSING = 'mmdet3d.models.data_preprocessors'
_MISSING = 'mmcv 2.1.0 has no CPU version: '
_SLOW = 'mmcv 2.1.0 fills a dense grid per cloud on the CPU, most of a second on KITTI: '
_WRONG = 'the CPU version of mmcv 2.1.0 is wrong for boxes with collinear edges: '


@dataclass(frozen=True)
class Replacement:
    """An operator of a host and ours for CPU tensors.

    Args:
        home: module of the host that defines it.
        name: its name there.
        ours: function with the same arguments and results.
        defect: what is wrong with the host's on the CPU.
    """

    home: str
    name: str
    ours: Callable
    defect: str

    @property
    def what(self) -> str:
        """Full name of the host's operator."""
        return f'{self.home}.{self.name}'


def _replacements(homes: str, defect: str, *functions: Callable) -> tuple[Replacement, ...]:
    """Functions that replace operators of their own name in a module of ``mmcv.ops``."""
    home = f'mmcv.ops.{homes}'
    return tuple(Replacement(home, ours.__name__, ours, defect) for ours in functions)


REPLACEMENTS = (
    *_replacements(
        'furthest_point_sample', _MISSING, furthest_point_sample, furthest_point_sample_with_dist
    ),
    *_replacements('ball_query', _MISSING, ball_query),
    *_replacements('group_points', _MISSING, grouping_operation),
    *_replacements('gather_points', _MISSING, gather_points),
    *_replacements('three_nn', _MISSING, three_nn),
    *_replacements('three_interpolate', _MISSING, three_interpolate),
    *_replacements('points_in_boxes', _MISSING, points_in_boxes_all, points_in_boxes_part),
    *_replacements('iou3d', _MISSING, boxes_iou3d, boxes_overlap_bev, nms3d, nms3d_normal),
    *_replacements('box_iou_rotated', _WRONG, box_iou_rotated),
    *_replacements('nms', _WRONG, nms_rotated),
    *_replacements('scatter_points', _MISSING, dynamic_scatter),
    *_replacements('voxelize', _SLOW, voxelization),
    Replacement(f'{_PREPROCESSING}.voxelize', 'dynamic_scatter_3d', dynamic_scatter, _MISSING),
    Replacement(f'{_PREPROCESSING}.voxelize', 'voxelization', voxelization, _SLOW),
)

PATCHES = tuple(
    Patch(
        what=each.what,
        defect=each.defect + each.name,
        until='the first mmcv and mmdet3d whose own operator is right and quick on the CPU',
    )
    for each in REPLACEMENTS
)


def install_cpu_ops() -> bool:
    """Lets mmcv's and mmdet3d's operators take CPU tensors; a second call changes nothing.

    ``mmdistill.PVRCNN`` calls it when it is built; nothing else of the package does. Modules of
    the hosts that are imported later get the new operators from ``mmcv.ops``.

    Returns:
        True when an operator was replaced.
    """
    swaps = []
    for each in REPLACEMENTS:
        theirs = getattr(import_module(each.home), each.name)
        if not hasattr(theirs, 'host_op'):
            swaps.append((theirs, by_device(theirs, each.ours)))
    _swap(swaps)
    return bool(swaps)


def remove_cpu_ops() -> None:
    """Gives the hosts their own operators back."""
    now = [getattr(import_module(each.home), each.name) for each in REPLACEMENTS]
    _swap([(either, either.host_op) for either in now if hasattr(either, 'host_op')])


def by_device(theirs: Callable, ours: Callable) -> Callable:
    """One operator of two.

    Args:
        theirs: the host's, for calls with any tensor that is not on the CPU.
        ours: for all others.

    Returns:
        A function whose attribute ``host_op`` is ``theirs``.
    """

    @functools.wraps(ours)
    def either(*args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        on_cpu = all(value.device.type == 'cpu' for value in given if torch.is_tensor(value))
        return (ours if on_cpu else theirs)(*args, **kwargs)

    either.host_op = theirs
    return either


def _swap(swaps: Sequence[tuple[Callable, Callable]]) -> None:
    """Replaces functions wherever a loaded module of the hosts holds them."""
    new_of = {id(old): new for old, new in swaps}
    for module in _host_modules():
        for name, value in list(vars(module).items()):
            if id(value) in new_of:
                setattr(module, name, new_of[id(value)])


def _host_modules() -> Iterator[Any]:
    """All loaded modules of the hosts."""
    for name, module in list(sys.modules.items()):
        if module is not None and name.split('.')[0] in _HOSTS:
            yield module
