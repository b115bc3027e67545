"""What a semi-supervised 3D model teaches itself about unlabelled frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import semi_scenes
import torch

from mmdistill.core.errors import UserError
from mmdistill.det3d.bev_plot import Layer, Panel
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.box_points import points_in_batch_boxes
from mmdistill.det3d.cloud_plot import save_cloud
from mmdistill.det3d.semi_detector import SceneBatch, SemiDet3D

NAMES = {
    'ground truth': 'hidden ground truth',
    'high': 'high: hard label',
    'ambiguous': 'ambiguous: soft label with its weight',
    'low': 'low: points inside are removed',
}
"""What the legend calls the levels."""


@dataclass(frozen=True)
class TaughtScene:
    """What is held true about one unlabelled frame, in the coordinates of its file.

    Attributes:
        frame: id.
        points: (P, 3 + F).
        truth: (M, 7) hidden boxes, None where unknown.
        levels: by name, those that the method has: (n, 7) boxes and (n,) weights.
        removed: (P,) bool points that the student does not see; None if the method deletes none.
    """

    frame: int
    points: np.ndarray
    truth: np.ndarray | None
    levels: dict[str, tuple[np.ndarray, np.ndarray]]
    removed: np.ndarray | None

    @property
    def caption(self) -> str:
        """Frame id and numbers."""
        parts = [f'{len(boxes)} {name}' for name, (boxes, _) in self.levels.items()]
        known = (
            'hidden truth unknown' if self.truth is None else f'{len(self.truth)} hidden objects'
        )
        text = f'frame {self.frame:06d}, unlabelled: {known}; {", ".join(parts)}'
        if self.removed is None:
            return text
        return f'{text}; {self.removed.sum()} of {len(self.points)} points removed'

    def panel(self) -> Panel:
        """All of it, the hidden truth on top."""
        layers = [self.layer(name) for name in ('low', 'ambiguous', 'high') if name in self.levels]
        if self.truth is not None:
            layers.append(Layer('ground truth', self.truth))
        return Panel(self.caption, self.points, layers, self.removed)

    def layer(self, name: str) -> Layer:
        """Boxes of a level, soft ones with their weights."""
        boxes, weights = self.levels[name]
        notes = [f'{weight:.2f}' for weight in weights] if name == 'ambiguous' else []
        return Layer(name, boxes, notes=notes)


def choose(dataset: Any, wanted: Sequence[int], count: int) -> list[int]:
    """Rows of the wanted unlabelled frames, or of ``count`` of them spread over the data set.

    Raises:
        UserError: a wanted frame is labelled or not in the data set.
    """
    for frame in wanted:
        if frame in dataset.labeled_ids:
            raise UserError(f'frame {frame:06d} is labelled: nothing is taught about it')
    return semi_scenes.choose(dataset, wanted, count)


@torch.no_grad()
def take_scenes(
    model: SemiDet3D, dataset: Any, rows: Sequence[int], iteration: int = 0
) -> list[TaughtScene]:
    """Pseudo labels of one batch, by the code that training runs.

    Weights are those at the end of a ramp: the buffer ``unsup_weight`` becomes 1.

    Args:
        model: of :func:`semi_scenes.build`.
        dataset: its frames.
        rows: of unlabelled frames, one batch.
        iteration: number of the step; draws differ between iterations.
    """
    model.unsup_weight.fill_(1)
    scenes = semi_scenes.read(model, dataset, rows, iteration)
    boxes, low = model.pseudo_labels(scenes)
    levels = {
        name: [(found[:, :7].numpy(), weights.numpy()) for found, _, weights in each.lists()]
        for name, each in semi_scenes.by_level(model, scenes, boxes, low).items()
    }
    removed = [None] * len(rows) if low is None else _removed(scenes, low)
    return [
        TaughtScene(
            frame=frame,
            points=cloud.numpy(),
            truth=semi_scenes.hidden_truth(sample),
            levels={name: found[row] for name, found in levels.items()},
            removed=removed[row],
        )
        for row, (frame, cloud, sample) in enumerate(
            zip(scenes.frames, scenes.points.lists(), scenes.samples, strict=True)
        )
    ]


def _removed(scenes: SceneBatch, low: BoxBatch) -> list[np.ndarray]:
    """Per scene, (P,) bool: the points inside a box of the low level."""
    cloud = scenes.points
    if low.boxes.shape[1] == 0:
        inside = torch.zeros(len(cloud.points), dtype=torch.bool)
    else:
        boxes = low.boxes[..., :7]
        inside = points_in_batch_boxes(cloud.points, cloud.sample, boxes, low.valid).any(1)
    counts = torch.bincount(cloud.sample, minlength=cloud.batch)
    return [each.numpy() for each in inside.split(counts.tolist())]


def draw(model: SemiDet3D, dataset: Any, rows: Sequence[int], out: Path, step: int) -> None:
    """Writes and names one PNG per frame."""
    for start in range(0, len(rows), 4):
        for scene in take_scenes(model, dataset, rows[start : start + 4], step):
            path = out / f'pseudo_{scene.frame:06d}.png'
            save_cloud(path, scene.panel(), model.point_cloud_range, NAMES)
            print(path)
