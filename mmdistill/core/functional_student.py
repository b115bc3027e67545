"""A network at other parameters, or without effect on its running statistics."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def places(network: nn.Module, kind: str = 'parameters') -> dict[str, Tensor]:
    """Parameters or buffers by every name that a place in the network has, one name per place.

    A parameter that two modules share has two places; a module with two names is one place.
    ``functional_call`` must get all places and ``tie_weights=False``: where it ties them itself, it
    leaves its tensors behind in modules with two names.

    Args:
        network: any module.
        kind: ``'parameters'`` or ``'buffers'``.
    """
    return {
        f'{prefix}.{name}'.lstrip('.'): each
        for prefix, module in network.named_modules()
        for name, each in getattr(module, f'_{kind}').items()
        if each is not None
    }


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
        self.home = params is None
        self.leaves: list[Tensor] = [each for each in network.parameters() if each.requires_grad]
        self._tensors: dict[str, Tensor] = {}
        if params is not None:
            own = self.leaves
            self.leaves = [each.detach().requires_grad_() for each in params]
            moved = {id(a): b for a, b in zip(own, self.leaves, strict=True)}
            for name, each in places(network).items():
                if id(each) in moved:
                    self._tensors[f'network.{name}'] = moved[id(each)]
        if keep_buffers:
            for name, each in places(network, 'buffers').items():
                self._tensors[f'network.{name}'] = each.clone()
        self._caller = _Caller(network)

    def __call__(self, function: Callable, *args: Any) -> Any:
        """``function(network, *args)`` at the parameters."""
        if not self._tensors:
            return function(self._caller.network, *args)
        return functional_call(self._caller, self._tensors, (function, *args), tie_weights=False)
