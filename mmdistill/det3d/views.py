"""Views of a LiDAR scene: one similarity per sample, applied to points and boxes in a batch.

A view is ``p -> s R F p`` with a reflection ``F`` (y -> -y), a rotation ``R`` about z and
a scale ``s``: the augmentation chain of KITTI detectors (flip, rotation, scaling) written as
one map, so that its inverse is exact and pseudo labels travel between views by algebra
instead of by replaying recorded transforms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdistill.core.errors import UserError

TWO_PI = 2 * torch.pi


@dataclass(frozen=True)
class ViewRange:
    """How a view is drawn.

    Attributes:
        flip_prob: probability of the reflection y -> -y (mmdet3d's horizontal flip).
        vertical_flip_prob: probability of the reflection x -> -x (its vertical flip), drawn
            independently. Both are for scenes that surround the sensor, as of nuScenes and Waymo.
        rotation: lowest and highest angle about z in radians.
        scale: lowest and highest scale.

    Raises:
        UserError: a number out of range.
    """

    flip_prob: float = 0.0
    rotation: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    vertical_flip_prob: float = 0.0

    def __post_init__(self) -> None:
        for name in ('flip_prob', 'vertical_flip_prob'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'{name} must lie in [0, 1], got {getattr(self, name)}')
        for name in ('rotation', 'scale'):
            pair = getattr(self, name)
            if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and pair[0] <= pair[1]):
                raise UserError(f'{name} must be an increasing pair, got {pair}')
        if self.scale[0] <= 0:
            raise UserError(f'scale must be positive, got {self.scale}')

    def draw(self, uniform: Tensor) -> 'Similarity':
        """Turns uniform numbers into one view per sample.

        Args:
            uniform: (B, 3) numbers in [0, 1): both flips, angle, scale.
        """
        low, high = self.rotation
        smallest, largest = self.scale
        coin, first = uniform[:, 0], self.flip_prob
        flip = coin < first
        # what is left of the first coin, spread over [0, 1) again, is a second one
        rest = torch.where(flip, coin / max(first, 1e-9), (coin - first) / max(1 - first, 1e-9))
        vertical = rest < self.vertical_flip_prob
        # x -> -x is y -> -y and half a turn
        return Similarity(
            flip=flip ^ vertical,
            angle=low + (high - low) * uniform[:, 1] + torch.pi * vertical,
            scale=smallest + (largest - smallest) * uniform[:, 2],
        )


@dataclass(frozen=True)
class Similarity:
    """A batch of maps ``p -> s R(angle) F(flip) p`` about the sensor.

    Attributes:
        flip: (B,) bool, reflection y -> -y applied first.
        angle: (B,) rotation about z in radians, applied second.
        scale: (B,) scale, applied last.
    """

    flip: Tensor
    angle: Tensor
    scale: Tensor

    @classmethod
    def identity(cls, batch: int, device: torch.device | str = 'cpu') -> 'Similarity':
        """The view that changes nothing."""
        zeros = torch.zeros(batch, device=device)
        return cls(flip=zeros.bool(), angle=zeros, scale=zeros + 1)

    def to(self, device: torch.device | str) -> 'Similarity':
        """The same views on another device."""
        return Similarity(self.flip.to(device), self.angle.to(device), self.scale.to(device))

    def matrices(self) -> Tensor:
        """(B, 2, 2) linear part in the plane, scale included."""
        cos, sin = self.angle.cos() * self.scale, self.angle.sin() * self.scale
        mirror = 1 - 2 * self.flip.to(cos.dtype)
        return torch.stack([cos, -sin * mirror, sin, cos * mirror], -1).view(-1, 2, 2)

    def inverse(self) -> 'Similarity':
        """The maps that undo these: ``(s R F)^-1 = s^-1 F R^-1 = s^-1 R(+-angle) F``."""
        return Similarity(
            flip=self.flip,
            angle=torch.where(self.flip, self.angle, -self.angle),
            scale=1 / self.scale,
        )

    def points(self, points: Tensor, sample: Tensor) -> Tensor:
        """Maps points.

        Args:
            points: (P, 3 + F) xyz and further features in metres.
            sample: (P,) index of the sample each point belongs to.

        Returns:
            (P, 3 + F) mapped points; further features are unchanged.
        """
        linear = self.matrices().to(points.dtype)[sample]
        xy = _times(linear, points[:, :2])
        z = points[:, 2:3] * self.scale.to(points.dtype)[sample, None]
        return torch.cat([xy, z, points[:, 3:]], 1)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Maps boxes, yaw wrapped to [-pi, pi).

        Args:
            boxes: (B, N, 7 + V) [x, y, z, dx, dy, dz, yaw, vx, vy, ...]; a velocity, when
                present, follows the linear part, and numbers behind it are unchanged.
        """
        linear = self.matrices().to(boxes.dtype)
        scale = self.scale.to(boxes.dtype)[:, None, None]
        xy = _times(linear[:, None], boxes[..., :2])
        mirror = 1 - 2 * self.flip.to(boxes.dtype)
        yaw = boxes[..., 6] * mirror[:, None] + self.angle.to(boxes.dtype)[:, None]
        parts = [xy, boxes[..., 2:6] * scale, wrap_angle(yaw)[..., None]]
        further = boxes[..., 7:]
        if further.shape[-1] >= 2:
            parts.append(_times(linear[:, None], further[..., :2]))
            further = further[..., 2:]
        return torch.cat([*parts, further], -1)


def _times(linear: Tensor, xy: Tensor) -> Tensor:
    """(..., 2) products of (..., 2, 2) and (..., 2), written out: autocast rounds matmuls."""
    return linear[..., 0] * xy[..., :1] + linear[..., 1] * xy[..., 1:]


def wrap_angle(angle: Tensor) -> Tensor:
    """Angles in radians wrapped to [-pi, pi)."""
    return torch.remainder(angle + torch.pi, TWO_PI) - torch.pi
