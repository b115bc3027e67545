"""A network as a function of one vector of parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmdistill.core.errors import UserError
from mmdistill.core.functional_student import places

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class FlatNetwork:
    """Logits of images at any parameters ``(P,)``; the network itself is never changed.

    The order of the numbers is that of ``network.parameters()``, which official replay buffers
    have too. Running statistics are a vector of their own.

    Args:
        network: called with ``pixel_values``, its answer has ``logits``; all parameters are
            trained, of one dtype, on one device.

    Attributes:
        size: P.
        buffer_size: Q, floating-point numbers of all buffers; 0 for networks without
            running statistics.

    Raises:
        UserError: a network without parameters, with parameters that are not trained, or with batch
            norm whose statistics are plain means.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.names, params = [], []
        for name, each in network.named_parameters():
            if not each.requires_grad:
                raise UserError(f'parameter {name} is not trained: a trajectory has all of them')
            self.names.append(name)
            params.append(each)
        for name, each in network.named_modules():
            if isinstance(each, BATCH_NORM) and each.momentum is None:
                raise UserError(f'{name}: batch norm needs a momentum, its counter is not kept')
        if not params:
            raise UserError(f'{type(network).__name__} has no parameters to train')
        self.shapes = [each.shape for each in params]
        self._counts = [each.numel() for each in params]
        self.size = sum(self._counts)
        number = {id(each): n for n, each in enumerate(params)}
        self._params = {name: number[id(each)] for name, each in places(network).items()}
        self.buffer_names = list(self._buffers)
        self.buffer_size = sum(each.numel() for each in self._buffers.values())

    @property
    def _buffers(self) -> dict[str, Tensor]:
        """Running statistics by place; looked up, because ``network.to`` makes new ones."""
        found = places(self.network, 'buffers')
        return {name: each for name, each in found.items() if each.is_floating_point()}

    @property
    def mixes_samples(self) -> bool:
        """Whether logits of a sample depend on the rest of its batch."""
        return any(isinstance(each, BATCH_NORM) for each in self.network.modules())

    @property
    def draws_numbers(self) -> bool:
        """Whether two passes in training see other random numbers."""
        kind = nn.modules.dropout._DropoutNd
        return any(isinstance(each, kind) and each.p > 0 for each in self.network.modules())

    def theta(self) -> Tensor:
        """The network's own parameters ``(P,)``, a copy."""
        return torch.cat([each.detach().reshape(-1) for each in self.network.parameters()])

    def buffers(self) -> Tensor:
        """The network's own running statistics ``(Q,)``, a copy."""
        flat = [each.detach().reshape(-1) for each in self._buffers.values()]
        return torch.cat(flat) if flat else torch.empty(0)

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of a vector of parameters by name, one name per parameter."""
        return dict(zip(self.names, self._shaped(theta), strict=True))

    def _shaped(self, theta: Tensor) -> list[Tensor]:
        """Views of the parameters."""
        parts = theta.split(self._counts)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _moving(self, buffers: Tensor) -> dict[str, Tensor]:
        """Views of the running statistics by place."""
        parts = buffers.split([each.numel() for each in self._buffers.values()])
        return {
            name: part.view(own.shape)
            for (name, own), part in zip(self._buffers.items(), parts, strict=True)
        }

    def _tensors(self, theta: Tensor, buffers: Tensor | None) -> Mapping[str, Tensor]:
        """What stands in for the network's tensors."""
        shaped = self._shaped(theta)
        found = {name: shaped[number] for name, number in self._params.items()}
        if self.buffer_names:
            found.update(self._moving(self.buffers() if buffers is None else buffers))
            # counters of batches are moved in place too
            for name, each in places(self.network, 'buffers').items():
                if name not in found:
                    found[name] = each.clone()
        return found

    def logits(
        self,
        theta: Tensor,
        images: Tensor,
        buffers: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Logits of images.

        Args:
            theta: parameters ``(P,)``.
            images: ``(B, C, H, W)``.
            buffers: running statistics ``(Q,)``, moved in place in training; None: a copy of the
                network's own, which is forgotten.
            training: batch statistics and dropout; else evaluation.

        Returns:
            ``(B, classes)``.
        """
        if self.network.training != training:
            self.network.train(training)
        tensors = self._tensors(theta, buffers)
        return functional_call(
            self.network, tensors, (), dict(pixel_values=images), tie_weights=False
        ).logits

    def load(self, theta: Tensor, buffers: Tensor | None = None) -> nn.Module:
        """Puts values into the network itself and returns it."""
        with torch.no_grad():
            for each, values in zip(self.network.parameters(), self._shaped(theta), strict=True):
                each.copy_(values)
            if buffers is not None and self.buffer_names:
                own = self._buffers
                for name, values in self._moving(buffers).items():
                    own[name].copy_(values)
        return self.network
