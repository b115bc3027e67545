"""Outputs of named modules, picked up while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mmdistill.core.errors import UserError, did_you_mean


class FeatureRecorder:
    """Records what modules of a network return.

    Between recordings it knows the modules and nothing else: no hook, no tensor. Its network may
    run through ``torch.func.functional_call``. One that was compiled before may ignore hooks.

    Args:
        network: any module.
        layers: names of its modules as in ``named_modules()``.

    Raises:
        UserError: the network has no module of a name.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        modules = dict(network.named_modules(remove_duplicate=False))
        for name in layers:
            if name not in modules:
                raise UserError(_unknown(network, name, modules))
        self.modules = {name: modules[name] for name in layers}

    @contextmanager
    def recording(self) -> Iterator[dict[str, Tensor]]:
        """Records the passes inside the block; blocks may be nested, each fills its own dict.

        Yields:
            The tensors by the name of their module, with their graphs; of several the first, of a
            module that runs again the last. They are no copies: a next layer that works in place
            changes them.

        Raises:
            UserError: a module returned no tensor.
        """
        found: dict[str, Tensor] = {}
        handles = []
        try:
            for name, module in self.modules.items():
                handles.append(module.register_forward_hook(_keep(found, name)))
            yield found
        finally:
            for handle in handles:
                handle.remove()


def _keep(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    """A hook that notes the output of a module."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        found[name] = _first_tensor(output, name)

    return hook


def _first_tensor(output: Any, name: str) -> Tensor:
    """The tensor, or the first of several."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        for each in output:
            if isinstance(each, Tensor):
                return each
    raise UserError(f'module {name!r} returns a {type(output).__name__} without a tensor in it')


def _unknown(network: nn.Module, name: str, modules: Mapping[str, nn.Module]) -> str:
    """Says that there is no such module, and which there are."""
    inner = next((each for each in modules if '.' in each), None)
    return (
        f'{type(network).__name__} has no module {name!r}{did_you_mean(name, modules)}; it has '
        f'{", ".join(each for each, _ in network.named_children())}'
        + (f', and those within them such as {inner!r}' if inner else '')
    )
