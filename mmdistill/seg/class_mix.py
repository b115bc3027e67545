"""ClassMix: half of the classes of one image are pasted on another one.

ClassMix (arXiv:2007.07936) draws half of the classes of an image; their pixels are the mask. DACS
(arXiv:2007.08702) pastes labelled source pixels on unlabelled target images in this way, and
DAFormer and FST took it over. With ``n`` classes, ``ceil(n / 2)`` are drawn, all sets alike.
"""

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.registry import TASK_UTILS

SCOPES = ('image', 'batch')


def present_classes(labels: Tensor, num_labels: int = 256) -> Tensor:
    """Which labels occur in each image.

    Args:
        labels: (B, H, W) or (B, 1, H, W) integers in [0, num_labels).
        num_labels: labels that may occur, the ignored one included.

    Returns:
        (B, num_labels) bool.
    """
    found = torch.zeros(len(labels), num_labels, dtype=torch.bool, device=labels.device)
    return found.scatter_(1, labels.flatten(1).long(), True)


def draw_half(present: Tensor, uniform: Tensor) -> Tensor:
    """Draws ``ceil(n / 2)`` of the ``n`` present classes of each row, all sets alike.

    Args:
        present: (B, N) bool.
        uniform: (B, N) numbers in [0, 1), one per class.

    Returns:
        (B, N) bool.
    """
    order = torch.where(present, uniform, 2).argsort(dim=1, stable=True)
    rank = order.argsort(dim=1)
    return present & (rank < (present.sum(1, keepdim=True) + 1) // 2)


def class_mask(labels: Tensor, chosen: Tensor) -> Tensor:
    """(B, 1, H, W) bool: pixels whose label is chosen, from a (B, N) bool table."""
    *_, height, width = labels.shape
    return chosen.gather(1, labels.flatten(1).long()).view(-1, 1, height, width)


def mix(mask: Tensor, source: Tensor | float, target: Tensor) -> Tensor:
    """``mask * source + (1 - mask) * target`` for images, labels or weights, bit for bit.

    Args:
        mask: (B, 1, H, W) bool.
        source: (B, C, H, W) or (B, H, W), or a number for all pixels (the weight 1 of labels).
        target: likewise, of the same shape.

    Returns:
        A new tensor like ``target``.

    Raises:
        UserError: source and target that differ in batch or image size.
    """
    if isinstance(source, Tensor) and source.shape != target.shape:
        raise UserError(
            f'mixing needs as many images of the same size on both sides, got source '
            f'{tuple(source.shape)} and target {tuple(target.shape)}: give both branches one '
            'batch size and one crop size'
        )
    if len(mask) != len(target) or mask.shape[-2:] != target.shape[-2:]:
        raise UserError(f'mask {tuple(mask.shape)} does not fit images {tuple(target.shape)}')
    return torch.where(mask if target.dim() == 4 else mask.squeeze(1), source, target)


@TASK_UTILS.register_module()
class ClassMix:
    """Draws the masks of ClassMix for a batch of source labels.

    Args:
        scope: ``image`` draws from the classes of each image (DACS), ``batch`` from those of the
            whole batch, for each image anew (published code of DAFormer and FST): an image may
            then get none or all of its classes.
        include_ignore: the ignored label counts as a class, as in the published code; else its
            pixels are never pasted.
        ignore_index: the ignored label.
        num_labels: labels that may occur, the ignored one included.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        scope: str = 'image',
        include_ignore: bool = True,
        ignore_index: int = 255,
        num_labels: int = 256,
    ) -> None:
        if scope not in SCOPES:
            raise UserError(f'scope of ClassMix must be one of {SCOPES}, got {scope!r}')
        if not 0 <= ignore_index < num_labels:
            raise UserError(
                f'ignore_index of ClassMix must lie in [0, num_labels), got {ignore_index} of '
                f'{num_labels}'
            )
        self.scope = scope
        self.include_ignore = include_ignore
        self.ignore_index = ignore_index
        self.num_labels = num_labels

    def numbers(
        self,
        batch: int,
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(B, num_labels) uniform numbers in [0, 1) for :meth:`draw`."""
        return torch.rand(batch, self.num_labels, device=device, generator=generator)

    def draw(self, labels: Tensor, uniform: Tensor) -> Tensor:
        """(B, num_labels) bool table of the chosen classes, see :meth:`__call__`."""
        present = present_classes(labels, self.num_labels)
        if self.scope == 'batch':
            present = present.any(0, keepdim=True).expand_as(present)
        if not self.include_ignore:
            label = torch.arange(self.num_labels, device=labels.device)
            present = present & (label != self.ignore_index)
        return draw_half(present, uniform)

    @torch.no_grad()
    def __call__(
        self,
        labels: Tensor,
        uniform: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Masks of the source pixels that :func:`mix` pastes.

        Args:
            labels: (B, H, W) or (B, 1, H, W) labels of the source.
            uniform: (B, num_labels) numbers in [0, 1); drawn when left out.
            generator: where they are drawn from, on the device of the labels.

        Returns:
            (B, 1, H, W) bool.
        """
        if uniform is None:
            uniform = self.numbers(len(labels), labels.device, generator)
        return class_mask(labels, self.draw(labels, uniform))
