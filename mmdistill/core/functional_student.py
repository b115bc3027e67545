"""A network at other parameters, or without effect on its running statistics."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


class _Caller(nn.Module):
    """Makes any function of a network one that ``functional_call`` can call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable, *args: Any) -> Any:
        """Calls the function."""
        return function(self.network, *args)


class NetworkAt:
    """Functions of a network, evaluated at parameters that are not its own.

    Nothing is copied into the network and nothing has to be put back, also when an error leaves
    the call. Autocast keeps its half precision copies by tensor, so it sees the right ones.

    Args:
        network: with trained parameters.
        params: tensors instead of them, in the order of ``network.parameters()``, those that
            are trained only; None: its own.
        keep_buffers: running statistics are copied first and the copies move.

    Attributes:
        leaves: what to take gradients by.
        home: the parameters are the network's own.
    """

    def __init__(
        self,
        network: nn.Module,
        params: Sequence[Tensor] | None = None,
        keep_buffers: bool = False,
    ) -> None:
        trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
        self.home = params is None
        self.leaves: list[Tensor] = list(trained.values())
        self._tensors: dict[str, Tensor] = {}
        if params is not None:
            self.leaves = [each.detach().requires_grad_() for each in params]
            named = zip(trained, self.leaves, strict=True)
            self._tensors.update({f'network.{name}': each for name, each in named})
        if keep_buffers:
            copies = {f'network.{name}': each.clone() for name, each in network.named_buffers()}
            self._tensors.update(copies)
        self._caller = _Caller(network)

    def __call__(self, function: Callable, *args: Any) -> Any:
        """``function(network, *args)`` at the parameters."""
        if not self._tensors:
            return function(self._caller.network, *args)
        return functional_call(self._caller, self._tensors, (function, *args))
