"""An iteration counts when the optimizer really stepped."""

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmdistill.core.step_watch import StepWatch


class ScaledOptimWrapper(OptimWrapper):
    """mmengine's AMP wrapper without its demand for a GPU."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=4.0)

    def backward(self, loss: Tensor, **options) -> None:
        self.loss_scaler.scale(loss).backward(**options)
        self._inner_count += 1

    def step(self, **options) -> None:
        self.loss_scaler.step(self.optimizer, **options)
        self.loss_scaler.update()


def wrapper(cls: type = OptimWrapper, counts: int = 1, fused: bool = False):
    """A wrapper around SGD of one linear layer, and the layer."""
    layer = nn.Linear(2, 1)
    kind = torch.optim.Adam if fused else torch.optim.SGD
    options = dict(fused=True) if fused else {}
    optimizer = kind(layer.parameters(), lr=0.1, **options)
    return cls(optimizer=optimizer, accumulative_counts=counts), layer


def watched(optim: OptimWrapper, layer: nn.Module, factors: list[float]) -> list[bool]:
    """Which of the iterations counted; each multiplies the loss by a factor."""
    watch, seen = StepWatch(), []
    watch.attach(optim)
    for factor in factors:
        optim.update_params(factor * layer(torch.ones(1, 2)).sum())
        seen.append(watch.take())
    watch.detach()
    return seen


def test_every_iteration_without_accumulation():
    assert watched(*wrapper(), [1.0] * 3) == [True] * 3


def test_only_full_cycles_and_the_end_with_accumulation():
    optim, layer = wrapper(counts=3)
    optim.initialize_count_status(layer, 0, 8)
    expected = [False, False, True, False, False, True, False, True]
    assert watched(optim, layer, [1.0] * 8) == expected


@pytest.mark.parametrize('fused', [False, True])
def test_step_that_the_loss_scaler_skips_does_not_count(fused: bool):
    optim, layer = wrapper(ScaledOptimWrapper, fused=fused)
    weights, moved, seen = [layer.weight.detach().clone()], [], []
    watch = StepWatch()
    watch.attach(optim)
    for factor in [1.0, float('inf'), 1.0]:
        optim.update_params(factor * layer(torch.ones(1, 2)).sum())
        seen.append(watch.take())
        weights.append(layer.weight.detach().clone())
        moved.append(not torch.equal(weights[-1], weights[-2]))
    assert seen == moved == [True, False, True]


def test_any_of_several_optimizers_counts():
    (first, layer), (second, _) = wrapper(), wrapper()
    watch = StepWatch()
    watch.attach(OptimWrapperDict(first=first, second=second))
    assert not watch.take()
    first.update_params(layer(torch.ones(1, 2)).sum())
    assert watch.take()
    assert not watch.take()


def test_step_called_by_hand_counts():
    optim, layer = wrapper(counts=4)
    watch = StepWatch()
    watch.attach(optim)
    optim.step()
    assert watch.take()


def test_attaching_again_counts_once_and_detaching_stops():
    optim, _ = wrapper()
    watch = StepWatch()
    watch.attach(optim)
    watch.attach(optim)
    optim.step()
    assert watch._steps == 1
    watch.detach()
    optim.step()
    assert not watch.take()


def test_optimizer_that_is_not_torchs_is_believed():
    class Foreign:
        optimizer, answer = object(), True

        def should_update(self) -> bool:
            return self.answer

    foreign, watch = Foreign(), StepWatch()
    watch.attach(foreign)
    assert watch.take()
    foreign.answer = False
    assert not watch.take()
