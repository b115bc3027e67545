"""Boxes of a batch of scenes as padded tensors, so that every later step is one batched call."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from mmdistill.core.errors import UserError


def fit_boxes(boxes: Tensor, numbers: int, origin: str) -> Tensor:
    """(..., numbers) boxes; further numbers are cut off.

    Args:
        boxes: (..., D) boxes.
        numbers: of a box that the detector learns, 7 or 9 (with the velocity).
        origin: where the boxes come from, for the error.

    Raises:
        UserError: a box has fewer numbers.
    """
    if boxes.shape[-1] < numbers:
        raise UserError(
            f'{origin}: boxes of {boxes.shape[-1]} numbers, but the detector learns {numbers}: '
            'read the velocities (with_velocity=True of the dataset) or set '
            f'bbox_coder.code_size={boxes.shape[-1]} and leave vel out of the head'
        )
    return boxes[..., :numbers]


@dataclass(frozen=True)
class BoxBatch:
    """Padded boxes.

    Attributes:
        boxes: (B, N, 7 + V) [x, y, z_bottom, dx, dy, dz, yaw] in metres and radians, then what
            else the detector learns, such as the velocity (vx, vy) in m/s.
        labels: (B, N) class indices, -1 in padding.
        weights: (B, N) soft weights in (0, 1], 0 in padding (HSSDA, ambiguous level).
        valid: (B, N) bool.
    """

    boxes: Tensor
    labels: Tensor
    weights: Tensor
    valid: Tensor

    @classmethod
    def from_lists(
        cls,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        weights: Sequence[Tensor] | None = None,
    ) -> 'BoxBatch':
        """Pads per-sample lists of (N_i, 7 + V) boxes, (N_i,) labels and (N_i,) weights."""
        if weights is None:
            weights = [each.new_ones(len(each)) for each in boxes]
        pad = torch.nn.utils.rnn.pad_sequence
        counts = torch.tensor([len(each) for each in boxes], device=boxes[0].device)
        width = max(len(each) for each in boxes)
        return cls(
            boxes=pad(list(boxes), batch_first=True),
            labels=pad([each.long() for each in labels], batch_first=True, padding_value=-1),
            weights=pad(list(weights), batch_first=True),
            valid=torch.arange(width, device=counts.device)[None] < counts[:, None],
        )

    @classmethod
    def empty(cls, batch: int, like: Tensor) -> 'BoxBatch':
        """A batch without boxes, of as many numbers as those of ``like`` (..., 7 + V)."""
        return cls(
            boxes=like.new_zeros(batch, 0, like.shape[-1]),
            labels=like.new_zeros(batch, 0, dtype=torch.long),
            weights=like.new_zeros(batch, 0),
            valid=like.new_zeros(batch, 0, dtype=torch.bool),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, mask: Tensor) -> 'BoxBatch':
        """The same padding with fewer valid boxes; dropped boxes become padding."""
        valid = self.valid & mask
        return replace(
            self,
            valid=valid,
            labels=self.labels.masked_fill(~valid, -1),
            weights=self.weights * valid,
        )

    def with_boxes(self, boxes: Tensor) -> 'BoxBatch':
        """The same boxes in other coordinates."""
        return replace(self, boxes=boxes)

    def with_weights(self, weights: Tensor) -> 'BoxBatch':
        """The same boxes with other soft weights."""
        return replace(self, weights=weights * self.valid)

    def select(self, rows: Tensor) -> 'BoxBatch':
        """Some samples (an index or mask over the batch)."""
        return BoxBatch(*(getattr(self, field.name)[rows] for field in fields(self)))

    def scatter(self, rows: Tensor, batch: int) -> 'BoxBatch':
        """The opposite of :meth:`select`: samples not in ``rows`` get no boxes.

        Args:
            rows: (len(self),) indices into a batch of ``batch`` samples.
            batch: size of the larger batch.
        """
        grown = []
        for field in fields(self):
            value = getattr(self, field.name)
            fill = -1 if field.name == 'labels' else 0
            large = value.new_full((batch, *value.shape[1:]), fill)
            large[rows] = value
            grown.append(large)
        return BoxBatch(*grown)

    def __add__(self, other: 'BoxBatch') -> 'BoxBatch':
        """The boxes of both, sample by sample."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return BoxBatch(*(torch.cat(pair, 1) for pair in pairs))

    def lists(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Per sample (N_i, 7 + V) boxes, (N_i,) labels and (N_i,) weights without padding."""
        return [
            (boxes[valid], labels[valid], weights[valid])
            for boxes, labels, weights, valid in zip(
                self.boxes, self.labels, self.weights, self.valid, strict=True
            )
        ]


@dataclass(frozen=True)
class PointBatch:
    """Points of a batch of scenes in one tensor.

    Attributes:
        points: (P, 3 + F) xyz in metres and further features.
        sample: (P,) index of the scene each point belongs to, ascending.
        batch: number of scenes.
    """

    points: Tensor
    sample: Tensor
    batch: int

    @classmethod
    def from_list(cls, points: Sequence[Tensor]) -> 'PointBatch':
        """Joins per-scene (P_i, 3 + F) points."""
        counts = torch.tensor([len(each) for each in points])
        sample = torch.repeat_interleave(torch.arange(len(points)), counts)
        return cls(torch.cat(list(points)), sample.to(points[0].device), len(points))

    def lists(self) -> list[Tensor]:
        """Per-scene (P_i, 3 + F) points."""
        counts = torch.bincount(self.sample, minlength=self.batch)
        return list(self.points.split(counts.tolist()))

    def to_device(self, device: torch.device | str) -> 'PointBatch':
        """The same points on another device."""
        return replace(self, points=self.points.to(device), sample=self.sample.to(device))

    def keep(self, mask: Tensor) -> 'PointBatch':
        """The points where ``mask`` (P,) holds."""
        return replace(self, points=self.points[mask], sample=self.sample[mask])

    def select(self, rows: Tensor) -> 'PointBatch':
        """Some scenes, in the given order of ``rows`` (an index tensor)."""
        every = self.lists()
        return PointBatch.from_list([every[row] for row in rows.tolist()])

    def __add__(self, other: 'PointBatch') -> 'PointBatch':
        """The points of both, scene by scene (those of ``self`` first)."""
        sample = torch.cat([self.sample, other.sample])
        order = sample.argsort(stable=True)
        points = torch.cat([self.points, other.points])
        return PointBatch(points[order], sample[order], self.batch)
