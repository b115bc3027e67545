"""A teacher that is wrong about some inputs on purpose, to see who notices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmkd.models.timm_classifier import Classified
from mmkd.registry import MODELS


@MODELS.register_module()
class MistakenNetwork(nn.Module):
    """Wrong about a share of all inputs, and sure of it.

    Which inputs and which classes is a function of the input: it answers alike each time.

    Args:
        network: config or built; answers otherwise.
        share: of inputs that it is wrong about, in [0, 1].
        excess: by how much the wrong logit exceeds the largest one.
        seed: of the choice.

    Raises:
        UserError: ``share`` is no share.
    """

    def __init__(
        self,
        network: Mapping[str, Any] | nn.Module,
        share: float,
        excess: float = 3.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise UserError(f'share of MistakenNetwork must be in [0, 1], got {share}')
        self.network = network if isinstance(network, nn.Module) else MODELS.build(network)
        self.share, self.excess, self.seed = share, excess, seed

    def chance(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Two numbers in [0, 1) per input, which look random.

        Args:
            values: ``(B, ...)``.
        """
        flat = values.detach().double().flatten(1)
        draw = key_generator(self.seed, flat.shape[1])
        weights = torch.rand(flat.shape[1], 2, generator=draw, dtype=torch.double)
        found = (1e4 * (flat @ weights.to(flat))).sin().mul(1e4).frac().abs()
        return found[:, 0], found[:, 1]

    def forward(self, **inputs: Tensor) -> Classified:
        """Logits ``(B, C)``."""
        logits = self.network(**inputs).logits
        whether, which = self.chance(next(v for v in inputs.values() if v.is_floating_point()))
        best, classes = logits.max(-1), logits.shape[-1]
        other = (best.indices + 1 + (which * (classes - 1)).long().clamp(max=classes - 2)) % classes
        wrong = logits.scatter(-1, other.unsqueeze(-1), (best.values + self.excess).unsqueeze(-1))
        return Classified(torch.where((whether < self.share).unsqueeze(-1), wrong, logits))
