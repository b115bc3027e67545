"""Cross entropy of the next token, at the tokens that count alone.

Sums over tokens, not means: the mean of means over batches of unequal token counts has another
gradient than the mean over all tokens. Whoever knows the tokens of the whole step divides, see
:func:`step_scale`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmdistill.core.errors import UserError

IGNORED = -100

Head = Callable[[Tensor], Tensor]


class NoResponseTokens(UserError):
    """No token of a whole step counts, so that its loss is not defined."""


def next_labels(labels: Tensor, doc_ids: Tensor | None = None) -> Tensor:
    """The label of each place's next token.

    Args:
        labels: ``(B, L)``, -100 where a token does not count.
        doc_ids: ``(B, L)``; with it, no token is asked for the first one of another document.

    Returns:
        ``(B, L)``; the last column is -100.
    """
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    if doc_ids is None:
        return following
    same = F.pad(doc_ids[:, 1:] == doc_ids[:, :-1], (0, 1), value=False)
    return following.masked_fill(~same, IGNORED)


def response_tokens(labels: Tensor, doc_ids: Tensor | None = None) -> Tensor:
    """How many tokens count, an integer tensor of no dimensions; see :func:`next_labels`."""
    return (next_labels(labels, doc_ids) != IGNORED).sum()


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropies in nats, in float32 at least.

    Args:
        logits: ``(N, V)``.
        targets: ``(N,)`` classes.

    Returns:
        ``(N,)``.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide, targets, reduction='none')


def kept_losses(hidden: Tensor, targets: Tensor, head: Head, chunk: int | None = None) -> Tensor:
    """Cross entropies of the places that count; the head sees no other place.

    Args:
        hidden: ``(B, L, H)`` outputs of the last layer.
        targets: ``(B, L)`` of :func:`next_labels`.
        head: makes logits ``(n, V)`` of ``(n, H)``.
        chunk: logits of so many places exist at a time, and are made again for the gradient;
            None: all at once, and kept.

    Returns:
        ``(N,)`` in the order of rows; with N = 0 it still belongs to the graph, with a gradient
        of zero for everything.

    Raises:
        UserError: a chunk below 1.
    """
    if chunk is not None and chunk < 1:
        raise UserError(f'chunk must be at least 1 token, got {chunk}')
    kept = targets != IGNORED
    picked, wanted = hidden[kept], targets[kept]

    def losses(part: Tensor, classes: Tensor) -> Tensor:
        return token_losses(head(part), classes)

    if chunk is None or len(wanted) <= chunk:
        return losses(picked, wanted)
    parts = zip(picked.split(chunk), wanted.split(chunk), strict=True)
    return torch.cat([checkpoint(losses, *part, use_reentrant=False) for part in parts])


def step_scale(global_tokens: int, world_size: int = 1, accumulate: int = 1) -> float:
    """Factor of a batch's sum of losses that makes steps the mean over all their tokens.

    Ranks average their gradients and the optimizer wrapper divides each loss by the number of
    accumulated batches; the factor undoes both.

    Args:
        global_tokens: that count, in all batches of the step on all ranks.
        world_size: ranks.
        accumulate: batches of a rank per step.

    Raises:
        NoResponseTokens: there are none.
    """
    if global_tokens < 1:
        raise NoResponseTokens(
            'no token of this step has a label: every response is empty or cut off; '
            'drop rows without a response or raise max_length'
        )
    return world_size * accumulate / global_tokens
