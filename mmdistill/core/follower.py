"""A teacher that follows parameters as they come: a student's, or those of a virtual step."""

from collections.abc import Iterable

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn

from mmdistill.core.dist import broadcast_buffers
from mmdistill.core.ema import (
    PairedTensors,
    all_finite,
    apply_ema,
    finite_numbers,
    paired_tensors,
)
from mmdistill.core.flat import FlatParameters
from mmdistill.core.look_ahead import Chunk


class Follower:
    """Moves a frozen teacher, whose parameters lie in flat memory.

    Args:
        teacher: of the same structure as the student.
        student: says which parameters are trained; the others are never touched.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        self.teacher, self.student = teacher, student
        self.flat = FlatParameters(teacher)
        self._mine: list[Tensor] = []
        self._theirs: list[Tensor] = []

    def look_again(self) -> None:
        """Finds the parameters; cheap, to be called once per step."""
        self.flat.build()
        pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
        trained = [pair for pair in pairs if pair[1].requires_grad]
        self._mine, self._theirs = ([each[i] for each in trained] for i in (0, 1))

    @torch.no_grad()
    def follow(self, chunks: Iterable[Chunk], keep: float, finite: Tensor) -> None:
        """``teacher <- keep teacher + (1 - keep) chunks``, consuming the chunks.

        Args:
            chunks: of trained parameters.
            keep: fraction of the old teacher, in [0, 1].
            finite: scalar bool tensor; the teacher stays where it is False.
        """
        for indices, params in chunks:
            olds = [self._mine[index] for index in indices]
            apply_ema(PairedTensors(trained=(olds, list(params))), keep, finite)

    def follow_student(self, keep: float) -> Tensor:
        """The teacher averages the student itself; returns whether the student was finite."""
        params = [each.detach() for each in self._theirs]
        finite = finite_numbers([each for each in params if each.numel()])
        self.follow([(range(len(params)), params)], keep, finite)
        return finite

    @torch.no_grad()
    def statistics(self, policy: str, keep: float) -> None:
        """Buffers of the teacher, equal on all ranks; they stay if the student's are not finite.

        Args:
            policy: ``'copy'``, ``'ema'`` or ``'skip'``, see :func:`paired_tensors`.
            keep: fraction of the old ones that ``'ema'`` keeps.
        """
        if policy == 'skip':
            return
        pairs = paired_tensors(self.teacher, self.student, policy)
        own = {id(each) for each in self.teacher.buffers()}
        averaged = [pair for pair in zip(*pairs.steady, strict=True) if id(pair[0]) in own]
        steady = ([each[0] for each in averaged], [each[1] for each in averaged])
        pairs = PairedTensors(steady=steady, copied=pairs.copied)
        apply_ema(pairs, keep, all_finite(pairs))
        if get_world_size() > 1:
            broadcast_buffers(self.teacher)
