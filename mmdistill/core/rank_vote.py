"""A yes of any rank becomes a yes of all ranks, on the CPU."""

import torch
import torch.distributed as torch_dist
from mmengine.dist import get_dist_info


class RankVote:
    """Agrees on flags over all ranks without touching a GPU.

    All ranks must call it equally often and in the same order. Under NCCL a second group
    (gloo) is made, so the flags never wait for the GPU; one call moves a few bytes.
    """

    def __init__(self) -> None:
        self._group = None
        self._many = get_dist_info()[1] > 1
        if self._many and torch_dist.get_backend() != 'gloo':
            self._group = torch_dist.new_group(backend='gloo')

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Tells for each flag whether any rank has set it.

        Args:
            *flags: This rank's flags.

        Returns:
            As many flags, equal on all ranks.
        """
        if not self._many:
            return tuple(map(bool, flags))
        votes = torch.tensor(flags, dtype=torch.uint8)
        torch_dist.all_reduce(votes, op=torch_dist.ReduceOp.MAX, group=self._group)
        return tuple(bool(vote) for vote in votes)

    def smallest(self, value: int) -> int:
        """Finds the smallest of the ranks' values.

        Args:
            value: This rank's value.

        Returns:
            The same number on all ranks.
        """
        if not self._many:
            return int(value)
        least = torch.tensor(value, dtype=torch.int64)
        torch_dist.all_reduce(least, op=torch_dist.ReduceOp.MIN, group=self._group)
        return int(least)

    def wait(self) -> None:
        """Returns when every rank has arrived."""
        self.any(False)
