"""Images that are kept in memory: normalised, and moved and flipped at random in a training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset


class MemoryImages(Dataset):
    """Images of equal size and their classes.

    A sample is ``dict(inputs=dict(pixel_values), labels)``: ``(C, H, W)`` float, normalised, and
    the class.

    Args:
        images: ``(N, C, H, W)``, bytes or float.
        labels: N classes.
        classes: their names.
        mean: of every channel, in the unit of the images.
        std: alike.
        pad: pixels by which an image may be moved in every direction; 0: not at all.
        flip: flips half of the images.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Sequence[int],
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        pad: int = 0,
        flip: bool = False,
    ) -> None:
        self.images, self.labels, self.pad, self.flip = images, list(labels), pad, flip
        self.metainfo = dict(classes=tuple(classes))
        self.mean, self.std = (
            torch.tensor(each, dtype=torch.float32).view(-1, 1, 1) for each in (mean, std)
        )

    @property
    def changes_samples(self) -> bool:
        """Whether an image is another one each time."""
        return bool(self.pad or self.flip)

    def unchanged(self) -> MemoryImages:
        """The same images, in the same memory, neither moved nor flipped."""
        same = copy.copy(self)
        same.pad, same.flip = 0, False
        return same

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        image = (self.images[index] - self.mean) / self.std
        if self.pad:
            height, width = image.shape[-2:]
            wide = torch.nn.functional.pad(image, [self.pad] * 4)
            top, left = torch.randint(2 * self.pad + 1, (2,)).tolist()
            image = wide[:, top : top + height, left : left + width]
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return dict(inputs=dict(pixel_values=image.contiguous()), labels=self.labels[index])
