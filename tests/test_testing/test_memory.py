"""Live memory: what is made counts while it lives, once, and nothing that was there before."""

import gc

import pytest
import torch
from torch import nn

from mmdistill.testing import LiveMemory, peak_bytes

CPU = torch.device('cpu')


def test_memory_counts_while_it_lives():
    with LiveMemory() as memory:
        a = torch.ones(100)
        assert memory.held == 400
        b = a + 1
        assert (memory.held, memory.peak) == (800, 800)
        del a
        assert (memory.held, memory.peak) == (400, 800)
        b.add_(1)
        assert memory.held == 400
    del b
    assert memory.held == 0


def test_views_and_what_was_there_cost_nothing():
    before = torch.ones(100)
    with LiveMemory() as memory:
        views = [before.view(10, 10), before[5:], before.t(), before.detach()]
        assert memory.held == 0
        copy = before.clone()
        views += copy.split(10)
        assert memory.held == 400
        del copy
        assert memory.held == 400, 'a view keeps its memory'
        views.clear()
        assert memory.held == 0


def test_lists_of_results_count_each():
    with LiveMemory() as memory:
        found = torch._foreach_add([torch.ones(10), torch.ones(20)], 1)
        assert memory.held == 4 * 30 and memory.peak == 4 * 60
        torch._foreach_mul_(found, 2)
        assert memory.peak == 4 * 60


def test_an_address_that_is_used_again_counts_again():
    with LiveMemory() as memory:
        for _ in range(50):
            torch.ones(1000)
        assert (memory.held, memory.peak) == (0, 4000)


def test_a_backward_pass_frees_what_the_forward_pass_kept():
    layers = nn.Sequential(*(nn.Sigmoid() for _ in range(5)))
    x = torch.ones(100, requires_grad=True)
    with LiveMemory() as memory:
        total = layers(x).sum()
        kept = memory.held
        assert kept == 5 * 400 + 4, 'a sigmoid keeps its result'
        total.backward()
        del total
        gc.collect()
        assert memory.held == 400, 'the gradient'
    assert x.grad.shape == (100,)


@pytest.mark.parametrize('again', [1, 3])
def test_a_graph_kept_for_more_backward_passes_does_not_pile_up(again):
    x = torch.ones(100, requires_grad=True)

    def work():
        total = (x.sigmoid() * 2).sum()
        for _ in range(again):
            torch.autograd.grad(total, x, retain_graph=True)

    assert peak_bytes(work, CPU) <= 4 * 100 * 5


def test_peak_of_a_function():
    a = torch.ones(1000)
    assert peak_bytes(lambda: (a * 2).add_(1).sum(), CPU) == 4004
    assert peak_bytes(lambda: a.mul_(2), CPU) == 0
