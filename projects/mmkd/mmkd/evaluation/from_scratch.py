"""Networks that are trained from scratch on a few images: what a distilled data set is worth.

The protocol is that of MTT and DATM (arXiv:2310.05773): SGD with momentum 0.9 and weight decay
5e-4, soft cross entropy with the learned labels, the learned step size, which falls to a tenth in
the middle, where the momentum starts anew. Accuracy is that of the last epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.rng import key_generator, preserve_rng, seed_cpu, stable_seed
from mmkd.matching.trajectory_matching import soft_cross_entropy
from mmkd.registry import MODELS


@dataclass(frozen=True)
class FromScratch:
    """How networks are trained.

    Attributes:
        epochs: E; E + 1 are trained, as published, E // 2 + 2 of them before the step size falls.
        batch_size: images per step.
        momentum: of SGD.
        weight_decay: of SGD.
        augment: a :class:`mmkd.augment.dsa.DSA`, or None.
        seed: of initial values, order and augmentation.
    """

    epochs: int = 1000
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: Any = None
    seed: int = 0

    def rates(self, lr: float, epochs: int | None = None) -> list[float]:
        """Step size of every epoch; ``epochs`` other than those of the protocol."""
        last = self.epochs if epochs is None else epochs
        return [lr if epoch < last // 2 + 2 else 0.1 * lr for epoch in range(last + 1)]

    def build(self, network: Mapping[str, Any], run: int, device: torch.device | str) -> nn.Module:
        """A fresh network; the same one for the same run, whatever was drawn before."""
        with preserve_rng():
            seed_cpu(stable_seed(self.seed, run))
            return MODELS.build(dict(network)).to(device)

    def train(
        self,
        network: Mapping[str, Any],
        images: Tensor,
        labels: Tensor,
        lr: float,
        run: int = 0,
        epochs: int | None = None,
    ) -> nn.Module:
        """Trains a network; images and labels stay as they are.

        Args:
            network: config.
            images: ``(S, C, H, W)``.
            labels: logits ``(S, classes)``.
            lr: step size.
            run: number of the network.
            epochs: other than ``self.epochs``.

        Returns:
            The network in evaluation mode.
        """
        images, labels = images.detach(), labels.detach()
        device = images.device
        model = self.build(network, run, device).train()
        draw = key_generator(self.seed, run, 1)
        optimizer, rate = None, None
        with torch.enable_grad():
            for wanted in self.rates(lr, epochs):
                if wanted != rate:
                    rate = wanted
                    optimizer = torch.optim.SGD(
                        model.parameters(), rate, self.momentum, weight_decay=self.weight_decay
                    )
                for rows in torch.randperm(len(images), generator=draw).split(self.batch_size):
                    seen = images[rows.to(device)]
                    if self.augment is not None:
                        record = self.augment.draw(len(rows), seen.shape[-2:], draw)
                        seen = self.augment(seen, record.to(device))
                    logits = model(pixel_values=seen).logits
                    loss = soft_cross_entropy(logits, labels[rows.to(device)])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        return model.eval()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, batch: int = 1000) -> float:
    """Share of images that are classified correctly, in per cent."""
    device = next(network.parameters()).device
    right = sum(
        (network(pixel_values=some.to(device)).logits.argmax(-1) == given.to(device)).sum()
        for some, given in zip(images.split(batch), labels.split(batch), strict=True)
    )
    return 100 * float(right) / len(labels)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over networks (of the sample; 0 for one)."""
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.std()) if len(values) > 1 else 0.0
