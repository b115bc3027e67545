"""What looking ahead costs beside the passes of the network: virtual step, averages, copies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from benchmark.methods.fst_published_speed import average_, copies, put_back_
from benchmark.timing import Operation

KEEP = 0.999
OURS, PUBLISHED = 'virtual step into the teacher', 'recorded, stepped, averaged, put back'


class Bookkeeping:
    """Student and teacher without a network around them.

    Args:
        shapes: of the parameters.
        device: to measure on.
    """

    def __init__(self, shapes: Sequence[Sequence[int]], device: torch.device) -> None:
        from mmdistill.core.follower import Follower
        from mmdistill.core.virtual_step import VirtualOptimizer

        numbers = torch.Generator().manual_seed(0)

        def network() -> nn.ParameterList:
            made = [torch.randn(*shape, generator=numbers).to(device) for shape in shapes]
            return nn.ParameterList(made)

        self.student, self.teacher = network(), network()
        self.grads = [each.detach() for each in network()]
        self.params = list(self.student)
        # few parameters are in a group of their own, as a head with another learning rate
        groups = [dict(params=self.params[:-4]), dict(params=self.params[-4:], lr=0.01)]
        self.optimizer = torch.optim.AdamW(groups, lr=0.001, weight_decay=0.01)
        self.real_step()
        self.follower = Follower(self.teacher, self.student)
        self.follower.look_again()
        self.virtual = VirtualOptimizer(self.optimizer, self.params)

    def real_step(self) -> None:
        """A step of the optimizer."""
        for param, grad in zip(self.params, self.grads, strict=True):
            param.grad = grad
        self.optimizer.step()

    def ours(self) -> None:
        """The teacher averages the virtual student, if the gradient is finite."""
        from mmdistill.core.gradients import all_finite

        finite = all_finite(self.grads)
        self.follower.follow(self.virtual.stream(self.grads, finite), KEEP, finite)

    def published(self) -> None:
        """The same teacher by a real step."""
        before = copies(self.params)
        self.real_step()
        average_(list(self.teacher), self.params, KEEP)
        put_back_(self.params, before)

    def save_and_restore(self) -> None:
        """The teacher forgets what it has not learned yet."""
        self.follower.flat.save()
        self.follower.flat.restore()

    def operations(self) -> dict[str, Operation]:
        """All timed operations."""
        teacher = list(self.teacher)
        return {
            OURS: Operation(self.ours),
            PUBLISHED: Operation(self.published),
            'EMA': Operation(lambda: self.follower.follow_student(KEEP)),
            'EMA, tensor by tensor': Operation(lambda: average_(teacher, self.params, KEEP)),
            'teacher saved and restored': Operation(self.save_and_restore),
            'teacher saved and restored, tensor by tensor': Operation(
                lambda: put_back_(teacher, copies(teacher))
            ),
        }
