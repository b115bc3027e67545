"""Feature distance of thing classes (DAFormer, arXiv:2111.14887, Eq. 8 to 10).

A student that learns from synthetic images forgets what ImageNet taught it about things. Where
the source label shows a thing, its features are held near those of the frozen ImageNet network:

    L_FD = sum_p m(p) || f(p) - f_ImageNet(p) ||_2 / sum_p m(p)

``m`` marks the positions whose cell of labels is filled by one thing class to at least a share.
"""

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.registry import MODELS


def downsample_labels(
    labels: Tensor,
    size: tuple[int, int],
    num_classes: int,
    min_share: float = 0.75,
    ignore_index: int = 255,
) -> Tensor:
    """The most frequent label of each cell, or the ignored one where it does not fill the cell.

    Args:
        labels: (B, H, W) or (B, 1, H, W) long in [0, num_classes) or ``ignore_index``.
        size: (h, w) of the features. The cells have ``H // h`` times ``W // w`` pixels; pixels
            that fill no cell at the lower and right border are left out.
        num_classes: number of classes C.
        min_share: least share of the cell's pixels.
        ignore_index: the ignored label.

    Returns:
        (B, h, w) long. Of equally frequent labels the smallest wins, the ignored one last.

    Raises:
        UserError: labels that cannot be cut into as many cells.
    """
    labels = labels.squeeze(1) if labels.dim() == 4 else labels
    (batch, height, width), (rows, columns) = labels.shape, size
    high, wide = height // rows, width // columns
    if 0 in (high, wide) or (height // high, width // wide) != (rows, columns):
        raise UserError(
            f'labels of {height} x {width} pixels do not fall into {rows} x {columns} cells of '
            'features: choose a crop size that the stride of the backbone divides'
        )
    labels = torch.where(labels == ignore_index, num_classes, labels)
    cells = labels[:, : rows * high, : columns * wide].unflatten(2, (columns, wide))
    cells = cells.unflatten(1, (rows, high)).transpose(2, 3).reshape(batch * rows * columns, -1)
    cell = torch.arange(len(cells), device=labels.device)[:, None]
    bins = (cell * (num_classes + 1) + cells).flatten()
    counts = torch.zeros(len(cells) * (num_classes + 1), dtype=torch.int32, device=labels.device)
    counts = counts.scatter_add_(0, bins, counts.new_ones(()).expand_as(bins))
    counts = counts.view(len(cells), num_classes + 1)
    most = counts.amax(1, keepdim=True)
    label = torch.arange(num_classes + 1, device=labels.device)
    winner = torch.where(counts == most, label, num_classes).amin(1)
    ignored = (winner == num_classes) | (most.squeeze(1) < min_share * high * wide)
    return torch.where(ignored, ignore_index, winner).view(batch, rows, columns)


def feature_distance(features: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Mean Euclidean distance of the masked positions; 0 with gradient 0 where there are none.

    Args:
        features: (B, C, h, w), half precision is compared in float32.
        reference: likewise; gets no gradient.
        mask: (B, h, w) bool.

    Returns:
        Scalar.
    """
    dtype = torch.promote_types(features.dtype, torch.float32)
    gap = features.to(dtype) - reference.detach().to(dtype)
    square = torch.where(mask, gap.square().sum(1), 0)
    apart = square > 0  # the root has no derivative at 0, there the gradient is 0
    distance = torch.where(apart, square, 1).sqrt() * apart
    return distance.sum() / mask.sum().clamp(min=1)


@MODELS.register_module()
class FeatureDistance(nn.Module):
    """The loss above, on one level of features.

    Args:
        num_classes: number of classes.
        thing_classes: classes whose positions count; the default are the things of Cityscapes
            with traffic lights and signs, as in the published code.
        min_share: least share of a cell that one class must fill.
        loss_weight: factor of the loss.
        level: which of several levels of features counts.
        ignore_index: the ignored label.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        num_classes: int = 19,
        thing_classes: tuple[int, ...] = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18),
        min_share: float = 0.75,
        loss_weight: float = 0.005,
        level: int = -1,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        wrong = [c for c in thing_classes if not 0 <= c < num_classes]
        if wrong:
            raise UserError(
                f'thing_classes of FeatureDistance must be below num_classes={num_classes}, '
                f'got {wrong}'
            )
        if not 0 < min_share <= 1:
            raise UserError(f'min_share of FeatureDistance must lie in (0, 1], got {min_share}')
        self.num_classes = num_classes
        self.min_share = min_share
        self.loss_weight = loss_weight
        self.level = level
        self.ignore_index = ignore_index
        things = torch.tensor(tuple(thing_classes), dtype=torch.long)
        self.register_buffer('things', things, persistent=False)

    def mask(self, labels: Tensor, size: tuple[int, int]) -> Tensor:
        """(h, w) positions of things: (B, h, w) bool from (B, H, W) labels."""
        small = downsample_labels(labels, size, self.num_classes, self.min_share, self.ignore_index)
        return (small[..., None] == self.things).any(-1)

    def forward(
        self,
        features: list[Tensor] | tuple[Tensor, ...],
        reference: list[Tensor] | tuple[Tensor, ...],
        labels: Tensor,
    ) -> Tensor:
        """The weighted loss.

        Args:
            features: levels of the student's backbone on the source images.
            reference: levels of the ImageNet backbone on the same images.
            labels: (B, H, W) or (B, 1, H, W) source labels.

        Returns:
            Scalar.
        """
        mine, theirs = features[self.level], reference[self.level]
        return self.loss_weight * feature_distance(mine, theirs, self.mask(labels, mine.shape[-2:]))
