"""A teacher that stays as it is: no gradients, no training mode, in no checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmkd.signals.observer import Recorder, Signals, observed_by


class FrozenTeacher:
    """Holds a network outside of the modules of whoever uses it.

    It is in no ``state_dict``, no optimizer and no gradient reduction, and ``train()``, ``half()``
    and ``to()`` of its owner pass it by. It follows the inputs to their device.

    Args:
        network: gives a result with ``logits``; frozen and put into evaluation mode.
        dtype: of its parameters, None keeps them; results come as float32.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype | None = None) -> None:
        self.network = network.requires_grad_(False).eval()
        if dtype is not None:
            self.network.to(dtype)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Any], kinds: Collection[str] = ()) -> Signals:
        """Logits and some kinds of signals of a batch.

        Args:
            inputs: of the network, by name.
            kinds: of signals, see :data:`mmkd.signals.observer.KINDS`; the network must have our
                attention (:func:`mmkd.signals.attention.install`) when there are any.
        """
        device = next(each.device for each in inputs.values() if isinstance(each, Tensor))
        if self.device != device:
            self.network.to(device)
        dtype = next(self.network.parameters()).dtype
        inputs = {
            name: each.to(dtype) if isinstance(each, Tensor) and each.is_floating_point() else each
            for name, each in inputs.items()
        }
        recorder = Recorder(kinds)
        with observed_by(recorder), torch.autocast(device.type, enabled=False):
            logits = self.network(**inputs).logits
        recorder.signals.logits = logits.float()
        return recorder.signals
