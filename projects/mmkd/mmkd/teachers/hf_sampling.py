"""Sampling where each row of a batch has its own temperature, share and generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from mmkd.traces.schema import Sampling


@dataclass(frozen=True)
class Draw:
    """How the tokens of a row are drawn.

    Attributes:
        temperature: 0: the most probable token.
        top_p: share of probability that is drawn from.
        seed: of the row's own generator; None: a new one each time.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


def draw_of(sampling: Sampling, defaults: GenerationConfig) -> Draw:
    """What a sampling asks for; what it leaves open is as the model's own defaults have it.

    Args:
        sampling: of a question.
        defaults: of the model; greedy unless it says ``do_sample``.
    """
    drawn = bool(defaults.do_sample)
    own = Draw(
        (1.0 if defaults.temperature is None else defaults.temperature) if drawn else 0.0,
        (1.0 if defaults.top_p is None else defaults.top_p) if drawn else 1.0,
    )
    return Draw(
        own.temperature if sampling.temperature is None else sampling.temperature,
        own.top_p if sampling.top_p is None else sampling.top_p,
        sampling.seed,
    )


def within_share(logits: Tensor, top_p: float) -> Tensor:
    """Logits ``(V,)`` with -inf outside of the fewest tokens that have a share of probability."""
    order = logits.argsort(descending=True)
    shares = logits[order].softmax(-1)
    outside = shares.cumsum(-1) - shares >= top_p
    outside[0] = False
    return logits.index_fill(0, order[outside], -torch.inf)


class RowSampler(LogitsProcessor):
    """Makes the greatest score a draw from the softmax, by adding Gumbel noise.

    Greedy search over the result samples, and what a row draws depends on its own seed alone, not
    on the rows beside it.

    Args:
        draws: of the rows.
        vocab_size: tokens from here on are never chosen.
        device: of the scores.
    """

    def __init__(self, draws: Sequence[Draw], vocab_size: int, device: torch.device) -> None:
        self.draws, self.vocab_size = draws, vocab_size
        self.generators = [torch.Generator(device) for _ in draws]
        for draw, generator in zip(draws, self.generators, strict=True):
            if draw.seed is None:
                generator.seed()
            else:
                generator.manual_seed(draw.seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(B, V)`` for the next token."""
        scores = (
            scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores.clone()
        )
        scores[:, self.vocab_size :] = -torch.inf
        for row, (draw, generator) in enumerate(zip(self.draws, self.generators, strict=True)):
            if draw.temperature > 0:
                logits = within_share(scores[row] / draw.temperature, draw.top_p)
                noise = torch.empty_like(logits).exponential_(generator=generator).log()
                scores[row] = logits - noise
        return scores
