"""Layers that bring the student's features to the teacher's width; they are trained along."""

from __future__ import annotations

from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.registry import MODELS


@MODELS.register_module()
class ConvConnector(nn.Module):
    """A 1x1 convolution, ``(B, in_channels, h, w)`` to ``(B, out_channels, h, w)``.

    Args:
        in_channels: of the student.
        out_channels: of the teacher.
        norm: batch normalisation after it.

    Raises:
        UserError: features of another shape.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """The features, as wide as the teacher's."""
        if features.dim() != 4 or features.shape[1] != self.conv.in_channels:
            raise UserError(
                f'ConvConnector(in_channels={self.conv.in_channels}) needs (B, '
                f'{self.conv.in_channels}, h, w), got {tuple(features.shape)}'
            )
        return self.norm(self.conv(features))


@MODELS.register_module()
class LinearConnector(nn.Module):
    """A linear layer, ``(B, ..., in_channels)`` to ``(B, ..., out_channels)``, for tokens as well.

    Args:
        in_channels: of the student.
        out_channels: of the teacher.

    Raises:
        UserError: features of another width.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """The features, as wide as the teacher's."""
        if features.shape[-1] != self.linear.in_features:
            raise UserError(
                f'LinearConnector(in_channels={self.linear.in_features}) needs (B, ..., '
                f'{self.linear.in_features}), got {tuple(features.shape)}'
            )
        return self.linear(features)
