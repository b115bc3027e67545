"""The loss at places that count, against the loss of all logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.language.lm_loss import (
    NoResponseTokens,
    kept_losses,
    next_labels,
    response_tokens,
    step_scale,
    token_losses,
)

LABELS = torch.tensor([[-100, -100, 4, 5, -100], [-100, 1, 2, -100, 3]])


class CountingHead(nn.Linear):
    """A head that notes how many places it sees at a time."""

    seen: list

    def forward(self, hidden):
        self.seen.append(len(hidden))
        return super().forward(hidden)


def made(dtype=torch.float64):
    """Hidden states and a head."""
    torch.manual_seed(0)
    head = CountingHead(6, 7).to(dtype)
    head.seen = []
    return torch.randn(2, 5, 6, dtype=dtype, requires_grad=True), head


def test_next_labels():
    wanted = [[-100, 4, 5, -100, -100], [1, 2, -100, 3, -100]]
    assert next_labels(LABELS).tolist() == wanted
    assert response_tokens(LABELS) == 5


def test_no_place_is_asked_for_another_document():
    docs = torch.tensor([[0, 0, 1, 1, -1], [0, 0, 0, 1, 1]])
    wanted = [[-100, -100, 5, -100, -100], [1, 2, -100, 3, -100]]
    assert next_labels(LABELS, docs).tolist() == wanted
    assert response_tokens(LABELS, docs) == 4


@pytest.mark.parametrize('chunk', [None, 1, 2, 5, 50])
def test_kept_places_give_the_loss_of_all_logits(chunk):
    hidden, head = made()
    logits = nn.functional.linear(hidden, head.weight, head.bias)[:, :-1]
    wanted = F.cross_entropy(logits.flatten(0, 1), LABELS[:, 1:].flatten(), reduction='sum')
    inputs = (hidden, *head.parameters())
    grads = torch.autograd.grad(wanted, inputs)
    found = kept_losses(hidden, next_labels(LABELS), head, chunk)
    assert len(found) == 5
    torch.testing.assert_close(found.sum(), wanted, rtol=1e-12, atol=0)
    for a, b in zip(torch.autograd.grad(found.sum(), inputs), grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_head_sees_kept_places_in_chunks_and_again():
    hidden, head = made()
    kept_losses(hidden, next_labels(LABELS), head)
    assert head.seen == [5]
    head.seen = []
    loss = kept_losses(hidden, next_labels(LABELS), head, 2).sum()
    assert head.seen == [2, 2, 1]
    loss.backward()
    assert sorted(head.seen) == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize('chunk', [None, 2])
def test_nothing_kept_is_a_zero_that_belongs_to_the_graph(chunk):
    hidden, head = made()
    loss = kept_losses(hidden, torch.full((2, 5), -100), head, chunk).sum()
    assert loss == 0
    for grad in torch.autograd.grad(loss, (hidden, *head.parameters())):
        assert (grad == 0).all()


def test_losses_of_half_types_are_wide():
    logits = (torch.randn(50, 9, generator=torch.Generator().manual_seed(0)) * 4).bfloat16()
    targets = torch.arange(50) % 9
    found = token_losses(logits, targets)
    wanted = F.cross_entropy(logits.double(), targets, reduction='none')
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    assert token_losses(logits.double(), targets).dtype == torch.float64


def test_step_scale():
    assert step_scale(40, world_size=2, accumulate=4) == 0.2
    with pytest.raises(NoResponseTokens, match='no token of this step has a label'):
        step_scale(0)
    assert issubclass(NoResponseTokens, UserError)


def test_chunk_below_one():
    hidden, head = made()
    with pytest.raises(UserError, match='chunk must be at least 1 token, got 0'):
        kept_losses(hidden, next_labels(LABELS), head, 0)
