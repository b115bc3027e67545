"""Bytes of tensors that are alive, counted where no allocator counts them."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the memory of tensors made while it is open, as long as they live.

    Views share memory with their base and cost nothing. Scratch memory inside a kernel is not
    seen. Tensors of autograd count, since a backward pass is made of operations too.

    Attributes:
        held: bytes that are alive now.
        peak: most bytes that were alive at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Callable,
        types: tuple,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs an operation; its inputs are old, what else comes out is new."""
        for each in tree_leaves((args, kwargs)):
            self._meet(each, new=False)
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            self._meet(each, new=True)
        self.peak = max(self.peak, self.held)
        return found

    def _meet(self, value: Any, new: bool) -> None:
        """Counts the memory of a tensor, unless it is known or was there before."""
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            return
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes() if new else 0
        self.held += self._known[key]
        weakref.finalize(storage, self._leave, key).atexit = False

    def _leave(self, key: int) -> None:
        """The memory is free again."""
        self.held -= self._known.pop(key)


def peak_bytes(function: Callable[[], Any], device: torch.device) -> int:
    """Most bytes that a function needs at a time beside what is there when it starts.

    Args:
        function: to be called once.
        device: where it works; on a GPU the allocator is asked, whose peak is reset.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with LiveMemory() as memory:
        function()
    return memory.peak
