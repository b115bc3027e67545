"""Views of a person crop: one affine map of input pixels per sample, in a batch.

Students see a harder view than teachers (arXiv:2011.12498). The ranges below are those of the
published code of that paper; what TRS (arXiv:2501.09565) uses is not known, so they are our
completion.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.pose.heatmaps import HeatmapGrid


@dataclass(frozen=True)
class Affine:
    """A batch of maps ``p -> linear p + shift`` of points (x to the right, y down).

    Whether left and right joints change places is no extra state: they do where the linear part
    is a reflection. All products are written out, so autocast does not round them.

    Attributes:
        linear: (B, 2, 2).
        shift: (B, 2) in pixels.
    """

    linear: Tensor
    shift: Tensor

    @classmethod
    def identity(
        cls,
        batch: int,
        device: torch.device | str = 'cpu',
        dtype: torch.dtype = torch.float32,
    ) -> 'Affine':
        """The view that changes nothing."""
        linear = torch.eye(2, device=device, dtype=dtype).repeat(batch, 1, 1)
        return cls(linear, linear.new_zeros(batch, 2))

    @classmethod
    def about(cls, linear: Tensor, center: tuple[float, float]) -> 'Affine':
        """(B, 2, 2) linear parts that leave the point ``center`` where it is."""
        x, y = center
        moved = torch.stack([linear[:, i, 0] * x + linear[:, i, 1] * y for i in (0, 1)], -1)
        return cls(linear, torch.stack([x - moved[:, 0], y - moved[:, 1]], -1))

    @classmethod
    def from_crops(
        cls,
        center: Tensor,
        size: Tensor,
        rotation: Tensor,
        flipped: Tensor,
        image_width: Tensor,
        grid: HeatmapGrid,
    ) -> 'Affine':
        """The maps from an image to crops of it, as mmpose's pipeline makes them.

        ``W_aff F``: the image is flipped (x -> image_width - 1 - x), then ``TopdownAffine`` cuts
        the box. Two crops of one image are joined by ``hard @ easy.inverse()``.

        Args:
            center: (B, 2) ``bbox_center`` in pixels, in the flipped image where it is flipped.
            size: (B, 2) ``bbox_scale`` in pixels, already with the input's aspect ratio.
            rotation: (B,) ``bbox_rotation`` in degrees. mmpose turns by its opposite for MSRA.
            flipped: (B,) bool.
            image_width: (B,) in pixels.
            grid: its convention says whether ``use_udp`` was on.
        """
        width, height = grid.input_size
        udp = grid.convention == 'udp'
        angle = rotation.to(center.dtype).deg2rad() * (1 if udp else -1)
        along_x = (width - 1 if udp else width) / size[:, 0]
        along_y = (height - 1) / size[:, 1] if udp else along_x
        cos, sin = angle.cos(), angle.sin()
        linear = torch.stack([cos * along_x, -sin * along_x, sin * along_y, cos * along_y], -1)
        linear = linear.view(-1, 2, 2)
        target = grid.center
        moved = _apply(linear, center)
        crop = cls(linear, torch.stack([target[i] - moved[:, i] for i in (0, 1)], -1))
        one = torch.ones_like(angle)
        mirror = torch.where(flipped, -one, one)
        zero = torch.zeros_like(angle)
        flip = cls(
            torch.stack([mirror, zero, zero, one], -1).view(-1, 2, 2),
            torch.stack([torch.where(flipped, image_width - 1, zero), zero], -1),
        )
        return crop @ flip

    def __len__(self) -> int:
        return len(self.linear)

    def __matmul__(self, first: 'Affine') -> 'Affine':
        """``(self @ first)(p) = self(first(p))``."""
        linear = (self.linear[:, :, :, None] * first.linear[:, None]).sum(2)
        return Affine(linear, _apply(self.linear, first.shift) + self.shift)

    @property
    def determinant(self) -> Tensor:
        """(B,) factor by which areas grow, negative for reflections."""
        (a, b), (c, d) = (row.unbind(-1) for row in self.linear.unbind(1))
        return a * d - b * c

    @property
    def mirrored(self) -> Tensor:
        """(B,) bool: left and right change places."""
        return self.determinant < 0

    def inverse(self) -> 'Affine':
        """The maps that undo these (in closed form: no wait for the device)."""
        (a, b), (c, d) = (row.unbind(-1) for row in self.linear.unbind(1))
        linear = torch.stack([d, -b, -c, a], -1).view(-1, 2, 2) / self.determinant[:, None, None]
        return Affine(linear, -_apply(linear, self.shift))

    def points(self, points: Tensor) -> Tensor:
        """Maps (B, K, 2) points, their order unchanged."""
        linear, shift = self.linear.to(points.dtype), self.shift.to(points.dtype)
        return _apply(linear[:, None], points) + shift[:, None]

    def swap(self, values: Tensor, flip_indices: Tensor) -> Tensor:
        """Exchanges left and right joints in mirrored samples.

        Args:
            values: (B, K, ...) one entry per joint.
            flip_indices: (K,) joint that each one becomes in a mirror, see
                :func:`check_flip_indices`.
        """
        straight = torch.arange(len(flip_indices), device=flip_indices.device)
        index = torch.where(self.mirrored[:, None], flip_indices, straight)
        rows = torch.arange(len(values), device=values.device)[:, None]
        return values[rows, index]

    def joints(self, points: Tensor, flip_indices: Tensor) -> Tensor:
        """Maps (B, K, 2) joints; left and right change places in mirrored samples."""
        return self.swap(self.points(points), flip_indices)

    def on_heatmap(self, grid: HeatmapGrid) -> 'Affine':
        """The same maps in heatmap pixels: ``S A S^-1`` with ``S x = scale x + offset``."""
        (sx, sy), (ox, oy) = grid.scale, grid.offset
        (a, b), (c, d) = (row.unbind(-1) for row in self.linear.unbind(1))
        b, c = b * (sx / sy), c * (sy / sx)
        x = self.shift[:, 0] * sx + ox - a * ox - b * oy
        y = self.shift[:, 1] * sy + oy - c * ox - d * oy
        return Affine(torch.stack([a, b, c, d], -1).view(-1, 2, 2), torch.stack([x, y], -1))


def _apply(linear: Tensor, points: Tensor) -> Tensor:
    """(..., 2, 2) times (..., 2) without a matrix product."""
    return (linear * points[..., None, :]).sum(-1)


def check_flip_indices(flip_indices: list[int], device: torch.device | str = 'cpu') -> Tensor:
    """(K,) tensor of the joints that change places in a mirror.

    Raises:
        UserError: not a pairing of the joints.
    """
    joints = list(range(len(flip_indices)))
    if sorted(flip_indices) != joints or [flip_indices[i] for i in flip_indices] != joints:
        raise UserError(f'flip_indices must pair the joints 0..K-1, got {list(flip_indices)}')
    return torch.tensor(flip_indices, device=device)


@dataclass(frozen=True)
class ViewRange:
    """How a view is drawn: reflection, then rotation and scale, all about the centre, then shift.

    The defaults are DualPose's hard view: rotation N(0, 30) clipped to 60 degrees in 80 % of the
    samples, box scale N(1, 0.25) clipped to [0.75, 1.25], no flip and no shift.

    Attributes:
        rotation_std: standard deviation of the angle in degrees.
        rotation_max: the angle is clipped to +-``rotation_max`` degrees.
        rotation_prob: probability of a rotation.
        box_scale_std: standard deviation of the factor of the box, around 1.
        box_scale: lowest and highest factor of the box; the person grows by its inverse.
        shift: largest shift along each axis as a share of the input's size.
        flip_prob: probability of the reflection of left and right.
        normalized_rotation: rotate in coordinates that make the crop a square, as the published
            code does. On crops that are no squares this shears (1.28 : 0.78 at 60 degrees on
            192 x 256 pixels); only for comparisons.

    Raises:
        UserError: a number out of range.
    """

    rotation_std: float = 30.0
    rotation_max: float = 60.0
    rotation_prob: float = 0.8
    box_scale_std: float = 0.25
    box_scale: tuple[float, float] = (0.75, 1.25)
    shift: float = 0.0
    flip_prob: float = 0.0
    normalized_rotation: bool = False

    NUMBERS = 6

    def __post_init__(self) -> None:
        for name in ('rotation_prob', 'flip_prob'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'{name} must lie in [0, 1], got {getattr(self, name)}')
        for name in ('rotation_std', 'rotation_max', 'box_scale_std', 'shift'):
            if not 0 <= getattr(self, name) < float('inf'):
                raise UserError(f'{name} must be at least 0, got {getattr(self, name)}')
        pair = self.box_scale
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and 0 < pair[0] <= pair[1]):
            raise UserError(f'box_scale must be an increasing positive pair, got {pair}')

    def draw(self, uniform: Tensor, grid: HeatmapGrid) -> Affine:
        """Turns uniform numbers into one view per sample, in input pixels.

        Args:
            uniform: (B, 6) numbers in [0, 1): flip, whether to rotate, angle, box scale, shift
                along x, shift along y.
            grid: size and centre of the input.
        """
        flip, rotate, turn, size, right, down = uniform.unbind(1)
        angle = (normal(turn) * self.rotation_std).clamp(-self.rotation_max, self.rotation_max)
        angle = torch.where(rotate < self.rotation_prob, angle, 0 * angle).deg2rad()
        grow = 1 / (1 + normal(size) * self.box_scale_std).clamp(*self.box_scale)
        cos, sin = angle.cos() * grow, angle.sin() * grow
        width, height = grid.input_size
        aspect = width / height if self.normalized_rotation else 1.0
        mirror = torch.where(flip < self.flip_prob, -1.0, 1.0).to(cos.dtype)
        linear = torch.stack([cos * mirror, -sin * aspect, sin * mirror / aspect, cos], -1)
        view = Affine.about(linear.view(-1, 2, 2), grid.center)
        far = 2 * self.shift
        step = torch.stack([(right - 0.5) * (far * width), (down - 0.5) * (far * height)], -1)
        return Affine(view.linear, view.shift + step)


def normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones in [0, 1): ``sqrt(2) erfinv(2 u - 1)``."""
    tiny = torch.finfo(uniform.dtype).eps
    return torch.erfinv((2 * uniform - 1).clamp(tiny - 1, 1 - tiny)) * 2**0.5
