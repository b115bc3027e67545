"""Evaluation mode and batch statistics of a network for the length of a block."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a block; afterwards every submodule has its own mode again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """All batch norms of a network."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def batch_statistics(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Batch norms use the statistics of the batch and keep their running ones (peers' habit).

    Args:
        norms: each is in its own mode again afterwards.
    """
    before = [(norm, norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, training, track in before:
            norm.training, norm.track_running_stats = training, track
