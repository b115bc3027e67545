"""A frozen network whose parameters are views of one tensor per type."""

import torch
from torch import Tensor, nn


class FlatParameters:
    """Keeps the parameters of a network in one piece of memory per type and device.

    Saving a thousand small tensors and putting them back costs two thousand calls; of flat memory
    it costs two. Views survive ``load_state_dict``; a copy of the module, or its way to another
    device or type, ends them, so :meth:`build` looks again and is cheap when nothing happened.

    Args:
        network: its parameters change place, not value. None may be trained by an optimizer
            that keeps addresses.

    Attributes:
        flats: the tensors that hold everything.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.flats: list[Tensor] = []
        self._addresses: list[int] = []
        self._saved: list[Tensor] = []

    @torch.no_grad()
    def build(self) -> list[nn.Parameter]:
        """Makes the parameters views if they are not, and returns them."""
        params = list(self.network.parameters())
        if self.flats and [each.data_ptr() for each in params] == self._addresses:
            return params
        groups: dict[tuple, list[nn.Parameter]] = {}
        for each in params:
            groups.setdefault((each.device, each.dtype), []).append(each)
        self.flats, self._saved = [], []
        for group in groups.values():
            flat = torch.cat([each.detach().reshape(-1) for each in group])
            for each, part in zip(group, flat.split([p.numel() for p in group]), strict=True):
                each.data = part.view(each.shape)
            self.flats.append(flat)
        self._addresses = [each.data_ptr() for each in params]
        return params

    @torch.no_grad()
    def save(self) -> None:
        """Keeps a copy of all values, in memory that is taken once and used by every save."""
        self.build()
        self._saved = self._saved or [torch.empty_like(each) for each in self.flats]
        torch._foreach_copy_(self._saved, self.flats)

    @torch.no_grad()
    def restore(self) -> None:
        """Takes over the values of the last :meth:`save`, in place.

        Raises:
            RuntimeError: nothing was saved, or the network has moved since.
        """
        self.build()
        if not self._saved:
            raise RuntimeError('nothing was saved since the network lies where it lies')
        torch._foreach_copy_(self.flats, self._saved)
