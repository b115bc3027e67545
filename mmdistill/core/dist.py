"""The few collectives that methods need, on top of mmengine; all work without a group."""

from typing import Any

import torch
from mmengine.dist import broadcast, broadcast_object_list, get_rank, get_world_size
from mmengine.dist import gather_object as mmengine_gather_object
from torch import nn


def gather_objects(value: Any) -> list[Any] | None:
    """Values of all ranks, in rank order, on rank 0; None elsewhere."""
    if get_world_size() == 1:
        return [value]
    return mmengine_gather_object(value, dst=0)


def broadcast_object(value: Any, src: int = 0) -> Any:
    """The value of rank ``src`` on all ranks."""
    if get_world_size() == 1:
        return value
    box = [value if get_rank() == src else None]
    broadcast_object_list(box, src)
    return box[0]


@torch.no_grad()
def broadcast_buffers(module: nn.Module, src: int = 0) -> None:
    """Gives all ranks the buffers of rank ``src``; their shapes must agree."""
    if get_world_size() > 1:
        for buffer in module.buffers():
            broadcast(buffer, src)
