"""What one rank has that the model's state dict of rank 0 does not: to be saved per rank."""

from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from mmdistill.core.checkpoint_content import plain_model
from mmdistill.core.dist import gather_objects
from mmdistill.core.rng import rng_state


def _persistent_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Buffers that are in the state dict, by name."""
    buffers = dict(model.named_buffers())
    return {name: buffers[name] for name in model.state_dict() if name in buffers}


def _is_accumulating(optim_wrapper: Any) -> bool:
    """Tells whether gradients of earlier iterations wait for the next optimizer step."""
    if isinstance(optim_wrapper, OptimWrapperDict):  # an OptimWrapper too, without its counters
        return any(_is_accumulating(wrapper) for wrapper in optim_wrapper.values())
    return isinstance(optim_wrapper, OptimWrapper) and not optim_wrapper.should_update()


def gather_rank_states(runner, generators: dict | None = None) -> list[dict[str, Any]] | None:
    """Collects the ranks' states on rank 0; every rank has to call it.

    A state holds ``rng``; ``buffers`` where they differ from rank 0 (BatchNorm statistics
    under DDP without SyncBN); ``grads`` while gradients are being accumulated.

    Args:
        runner: The runner.
        generators: State of this rank's generators to save in place of the present one.

    Returns:
        One state per rank on rank 0, made of CPU tensors and plain data; None elsewhere.
    """
    model = plain_model(runner.model)
    state: dict[str, Any] = dict(rng=rng_state() if generators is None else generators)
    state['buffers'] = {}
    if runner.world_size > 1:
        state['buffers'] = {k: v.detach().cpu() for k, v in _persistent_buffers(model).items()}
    state['grads'] = {}
    if _is_accumulating(runner.optim_wrapper):
        state['grads'] = {
            name: param.grad.detach().cpu()
            for name, param in model.named_parameters()
            if param.grad is not None
        }
    states = gather_objects(state)
    if states is None:
        return None
    first = states[0]['buffers']
    for other in states[1:]:
        other['buffers'] = {
            name: value for name, value in other['buffers'].items() if not _same(value, first[name])
        }
    states[0]['buffers'] = {}
    return states


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bitwise equality, in which NaN equals NaN."""
    return a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


@torch.no_grad()
def restore_model_part(runner, state: dict[str, Any]) -> None:
    """Puts this rank's buffers and accumulated gradients back.

    Args:
        runner: The runner, its model loaded already.
        state: This rank's entry of :func:`gather_rank_states`.
    """
    model = plain_model(runner.model)
    buffers, params = dict(model.named_buffers()), dict(model.named_parameters())
    for name, value in state['buffers'].items():
        buffers[name].copy_(value)
    for name, value in state['grads'].items():
        params[name].grad = value.to(params[name].device)
