"""The few collectives that methods need, on top of mmengine; all work without a group."""

from collections.abc import Iterable
from typing import Any

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    broadcast,
    broadcast_object_list,
    get_rank,
    get_world_size,
)
from mmengine.dist import gather_object as mmengine_gather_object
from torch import Tensor, nn


class OtherRankError(RuntimeError):
    """Another rank failed in a step that all ranks take together; its log has the details."""


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


def raise_together(error: Exception | None, what: str) -> None:
    """Lets all ranks stop when one cannot go on, instead of leaving the others waiting.

    Every rank has to call it.

    Args:
        error: what went wrong on this rank, or None.
        what: the step, for the message on the other ranks.

    Raises:
        Exception: ``error`` itself where it happened.
        OtherRankError: on the ranks where nothing went wrong, when something did elsewhere.
    """
    if get_world_size() > 1:
        told = None if error is None else f'{type(error).__name__}: {error}'
        failed = [(rank, text) for rank, text in enumerate(all_gather_object(told)) if text]
        if failed and error is None:
            rank, text = failed[0]
            raise OtherRankError(f'{what} failed on rank {rank}: {text}')
    if error is not None:
        raise error


def on_all_ranks(flag: Tensor) -> Tensor:
    """Scalar bool tensor: the flag is set on every rank. No host synchronisation on a GPU."""
    if get_world_size() == 1:
        return flag
    votes = flag.to(torch.int32).reshape(1)
    all_reduce(votes, op='min')
    return votes[0].bool()


@torch.no_grad()
def broadcast_tensors(tensors: Iterable[Tensor], src: int = 0) -> None:
    """Overwrites tensors by those of rank ``src``, all of a device in one message.

    Args:
        tensors: of equal shapes and types on all ranks, changed in place.
        src: the rank whose values count.
    """
    if get_world_size() == 1:
        return
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            by_device.setdefault(tensor.device, []).append(tensor)
    for group in by_device.values():
        parts = [_as_bytes(each) for each in group]
        message = torch.cat(parts)
        broadcast(message, src)
        for each, part in zip(group, message.split([len(p) for p in parts]), strict=True):
            each.copy_(part.clone().view(each.dtype).view(each.shape))


def _as_bytes(tensor: Tensor) -> Tensor:
    """The bytes of a tensor in one row."""
    flat = tensor.detach().reshape(-1)
    if flat.stride(0) != 1:
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)


def broadcast_buffers(module: nn.Module, src: int = 0) -> None:
    """Gives all ranks the buffers of rank ``src``; their shapes must agree."""
    broadcast_tensors(module.buffers(), src)
