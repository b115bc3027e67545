"""Training of experts: every epoch is a function of (seed, expert, epoch) and what came before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator, preserve_rng, seed_cpu, stable_seed
from mmkd.experts import gsam
from mmkd.experts.flat_network import FlatNetwork
from mmkd.registry import MODELS, TASK_UTILS


@dataclass(frozen=True)
class ExpertRecipe:
    """How experts are trained (FTD, arXiv:2211.11004; DATM's buffers have the same).

    Attributes:
        network: config.
        epochs: E.
        batch_size: of real images; the last batch of an epoch may be smaller.
        lr: constant.
        momentum: of SGD.
        weight_decay: of SGD.
        rho: radius of the perturbation; 0: plain SGD.
        alpha: share of GSAM's orthogonal part; 0: SAM.
        adaptive: the perturbation is scaled by the parameters.
        augment: config of a :class:`mmkd.augment.dsa.DSA`, or None.
        seed: of initial values, order and augmentation.
    """

    network: Mapping[str, Any]
    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    rho: float = 0.0
    alpha: float = 0.0
    adaptive: bool = True
    augment: Mapping[str, Any] | None = None
    seed: int = 0

    def about(self, data: str) -> dict[str, Any]:
        """What trajectories depend on; ``data`` is the digest of the images."""
        training = {k: v for k, v in asdict(self).items() if k not in ('network', 'seed')}
        return dict(
            network=plain(self.network), data=data, training=plain(training), seed=self.seed
        )


def plain(config: Any) -> Any:
    """A config as JSON has it: plain mappings and lists."""
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, Sequence) and not isinstance(config, str):
        return [plain(value) for value in config]
    return config


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the global generators, which dropout draws from, and leaves them as they were."""
    devices = [device] if device.type == 'cuda' else []
    with preserve_rng(), torch.random.fork_rng(devices):
        seed_cpu(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


class ExpertTrainer:
    """Trains one expert, or several of a network without running statistics at once.

    Args:
        recipe: how.
        images: as the network sees them, ``(N, C, H, W)``.
        labels: classes ``(N,)``.
        device: where experts are trained.
    """

    def __init__(
        self,
        recipe: ExpertRecipe,
        images: Tensor,
        labels: Tensor,
        device: torch.device | str = 'cpu',
    ) -> None:
        self.recipe, self.device = recipe, torch.device(device)
        self.images, self.labels = images.to(device), labels.to(device)
        self.augment = None if recipe.augment is None else TASK_UTILS.build(dict(recipe.augment))
        with preserve_rng():
            self.network = FlatNetwork(MODELS.build(dict(recipe.network)).to(device))

    def initial(self, expert: int) -> tuple[Tensor, Tensor]:
        """Parameters and running statistics of an expert before its training."""
        with preserve_rng():
            seed_cpu(stable_seed(self.recipe.seed, expert))
            made = FlatNetwork(MODELS.build(dict(self.recipe.network)))
        return made.theta().to(self.device), made.buffers().to(self.device)

    def batches(self, expert: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images and labels of an epoch, in its order."""
        draw = key_generator(self.recipe.seed, expert, epoch)
        order = torch.randperm(len(self.labels), generator=draw).to(self.device)
        for rows in order.split(self.recipe.batch_size):
            images = self.images[rows]
            if self.augment is not None:
                record = self.augment.draw(len(rows), images.shape[-2:], draw).to(self.device)
                images = self.augment(images, record)
            yield images, self.labels[rows]

    def epoch(
        self,
        expert: int,
        epoch: int,
        theta: Tensor,
        buffers: Tensor,
        velocity: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One epoch.

        Args:
            expert: number.
            epoch: number, from 0.
            theta: parameters ``(P,)``.
            buffers: running statistics ``(Q,)``, moved in place.
            velocity: of the momentum ``(P,)``; None at first.

        Returns:
            Parameters, running statistics and velocity afterwards.
        """
        with _seeded(stable_seed(self.recipe.seed, expert, epoch), self.device):
            for images, labels in self.batches(expert, epoch):

                def loss(
                    at: Tensor, first: bool, images: Tensor = images, labels: Tensor = labels
                ) -> Tensor:
                    moving = buffers if first else buffers.clone()
                    return F.cross_entropy(self.network.logits(at, images, moving), labels)

                theta, _, velocity = self._step(loss, theta, velocity)
        return theta, buffers, velocity

    def check_together(self) -> None:
        """Refuses networks whose experts have to be trained one by one.

        Raises:
            UserError: the network has running statistics, or draws random numbers.
        """
        if self.network.buffer_size:
            what = 'running statistics'
        elif self.network.draws_numbers:
            what = 'dropout'
        else:
            return
        raise UserError(
            f"experts with {what} cannot be trained together: mode='loop' trains them one by one"
        )

    def epoch_together(
        self,
        experts: Sequence[int],
        epoch: int,
        thetas: Tensor,
        velocities: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One epoch of several experts at once (``torch.func.vmap``).

        Args:
            experts: K numbers.
            epoch: number, from 0.
            thetas: parameters ``(K, P)``.
            velocities: alike, or None.

        Raises:
            UserError: see :meth:`check_together`.
        """
        self.check_together()

        def loss(at: Tensor, images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(self.network.logits(at, images), labels)

        def step(theta: Tensor, velocity: Tensor | None, images: Tensor, labels: Tensor) -> tuple:
            found = self._step(lambda at, first: loss(at, images, labels), theta, velocity)
            return found[0], found[2]

        streams = [self.batches(expert, epoch) for expert in experts]
        for many in zip(*streams, strict=True):
            images, labels = (torch.stack(each) for each in zip(*many, strict=True))
            given = (0, None if velocities is None else 0, 0, 0)
            outs = (0, 0 if self.recipe.momentum else None)
            thetas, velocities = torch.func.vmap(step, given, outs)(
                thetas, velocities, images, labels
            )
        return thetas, velocities

    def _step(self, loss: Any, theta: Tensor, velocity: Tensor | None) -> tuple:
        """One step of the recipe."""
        recipe = self.recipe
        return gsam.step(
            loss,
            theta,
            recipe.lr,
            rho=recipe.rho,
            alpha=recipe.alpha,
            adaptive=recipe.adaptive,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            velocity=velocity,
        )

    @torch.no_grad()
    def accuracy(
        self, theta: Tensor, buffers: Tensor, images: Tensor, labels: Tensor, batch: int = 1000
    ) -> float:
        """Share of images that are classified correctly, in per cent."""
        right = 0
        for some, given in zip(images.split(batch), labels.split(batch), strict=True):
            logits = self.network.logits(theta, some.to(self.device), buffers, training=False)
            right += (logits.argmax(-1) == given.to(self.device)).sum()
        return 100 * float(right) / len(labels)
