"""What a step of FST does, seen from outside: its passes and averages; and the formula."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fst_cases import wrapper_of
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmdistill.seg.fst import FST
from mmdistill.seg.seg_batch import SegBatch, look


def part(state: dict, *prefixes: str) -> dict:
    """Entries of a state whose names begin with one of the prefixes."""
    return {name: value for name, value in state.items() if name.startswith(prefixes)}


def parameters(state: dict) -> dict:
    """A state without running statistics."""
    ends = ('running_mean', 'running_var', 'num_batches_tracked')
    return {name: value for name, value in state.items() if not name.endswith(ends)}


def copied(network: nn.Module) -> dict[str, Tensor]:
    """Parameters by name."""
    return {name: each.detach().clone() for name, each in network.named_parameters()}


def joined(batches: list[dict]) -> dict:
    """Batches of the loader one after the other in one."""
    first, *rest = [copy.deepcopy(each) for each in batches]
    for each in rest:
        for key in ('inputs', 'data_samples'):
            for branch, values in each[key].items():
                first[key][branch] += values
    first['branch_index'] = {name: list(range(len(v))) for name, v in first['inputs'].items()}
    return first


def images_of(model: FST, data: dict) -> SegBatch:
    """Normalised images of a batch of the loader."""
    data = model.data_preprocessor(copy.deepcopy(data), True)
    return model.read_batch(data['inputs'], data['data_samples'])


def around_passes(model: FST, before: Callable | None = None, after: Callable | None = None):
    """Calls ``before(number)`` and ``after(number, grads, losses)`` at every pass of a step."""
    original = model._pass

    def watched(student: Any, batch: SegBatch, number: int, *args: Any, **more: Any) -> tuple:
        if before is not None:
            before(number)
        grads, losses = original(student, batch, number, *args, **more)
        if after is not None:
            after(number, grads, losses)
        return grads, losses

    model._pass = watched


def keeps_of(model: FST) -> list[float]:
    """A list that grows by the keep factor of every average of the teacher."""
    found, follower = [], model._follower
    original = follower.follow

    def noted(chunks: Any, keep: float, finite: Tensor) -> None:
        found.append(keep)
        original(chunks, keep, finite)

    follower.follow = noted
    return found


def forward_counts(**networks: nn.Module) -> Counter:
    """Counts forward passes of networks from now on."""
    counts = Counter()
    for name, network in networks.items():
        network.register_forward_pre_hook(lambda *_, name=name: counts.update([name]))
    return counts


class ScaledWrapper(OptimWrapper):
    """mmengine's mixed precision wrapper, which insists on a GPU, reduced to its loss scaler."""

    def __init__(self, optimizer: torch.optim.Optimizer, init_scale: float = 1024.0, **more: Any):
        super().__init__(optimizer, **more)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)

    def step(self, **kwargs: Any) -> None:
        """Unscales and clips, steps where all is finite, sets the next scale."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()


class HalfWrapper(OptimWrapper):
    """Forward passes in bfloat16."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Automatic casts on the CPU."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


def published_formula(
    model: FST, optim: OptimWrapper, kind: Callable | None, data: dict, depth: int
) -> dict[str, Tensor]:
    """One step of the policy ``ephemeral`` with clones, real steps and ``backward``.

    Args:
        model: changed as by its ``train_step``; the teacher's statistics stay.
        optim: of the student.
        kind: makes the optimizer of a clone, see ``wrapper_of``.
        data: of the loader.
        depth: virtual steps.

    Returns:
        Parameters of the future teacher.
    """
    batch = images_of(model, data)

    def grow(net: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        optimizer.zero_grad()
        view = model.student_view(batch, number)
        sup = model.sup_losses(look(net, batch.labeled), batch)
        model.parse_losses(sup)[0].backward()
        targets = model.pseudo_targets(batch)
        unsup = model.unsup_losses(look(net, view.images), batch, view, *targets)
        model.parse_losses(unsup)[0].backward()
        optimizer.step()

    count = int(model.steps_done)
    average(model.teacher, model.student, min(1 - 1 / (count + 1), model.keep))
    walker = copy.deepcopy(model)
    other = wrapper_of(walker, kind).optimizer
    other.load_state_dict(copy.deepcopy(optim.optimizer.state_dict()))
    for number in range(1, depth + 1):
        grow(walker.student, other, number)
    kept = [each.clone() for each in model.teacher.parameters()]
    factor = model.virtual_keep
    average(model.teacher, walker.student, model._keep() if factor is None else factor)
    future = copied(model.teacher)
    grow(model.student, optim.optimizer, 0)
    with torch.no_grad():
        for each, old in zip(model.teacher.parameters(), kept, strict=True):
            each.copy_(old)
    optim.optimizer.zero_grad()
    model.steps_done += 1
    return future


@torch.no_grad()
def average(teacher: nn.Module, student: nn.Module, keep: float) -> None:
    """``teacher <- keep teacher + (1 - keep) student``, parameter by parameter."""
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.copy_(torch.lerp(mine, theirs, 1 - keep))
