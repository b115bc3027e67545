"""Pictures of LiDAR scenes from above, boxes coloured by their level.

Drawn on figures of their own: no pyplot state, no display needed. ``x`` (forward) points up,
``y`` (left) points left, as the driver sees the scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmdistill.core.errors import UserError

LEVEL_COLOURS: Mapping[str, str] = {
    'ground truth': '#2f6fde',
    'high': '#1a9850',
    'ambiguous': '#f28e1c',
    'low': '#d7263d',
}
"""Colour by level; ground truth is drawn dashed."""
INK, FAINT = '#222222', '#d9d9d9'


@dataclass(frozen=True)
class Layer:
    """Boxes of one kind.

    Attributes:
        name: in the legend; names of :data:`LEVEL_COLOURS` have their colours.
        boxes: (N, 7) [x, y, z, dx, dy, dz, yaw] in the LiDAR frame.
        colour: of other names.
        notes: a short text for each box, or none.
    """

    name: str
    boxes: np.ndarray
    colour: str = INK
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Checks the shape.

        Raises:
            UserError: boxes of another shape, or texts for another number of boxes.
        """
        boxes = np.asarray(self.boxes)
        if boxes.ndim != 2 or boxes.shape[1] < 7:
            raise UserError(f'layer {self.name!r}: boxes must be (N, 7), got {boxes.shape}')
        if self.notes and len(self.notes) != len(boxes):
            raise UserError(f'layer {self.name!r}: {len(self.notes)} texts, {len(boxes)} boxes')


@dataclass(frozen=True)
class Panel:
    """One scene.

    Attributes:
        title: above it.
        points: (P, 3 or more) x, y, z in metres.
        layers: boxes, the last on top.
        removed: (P,) bool, points that are deleted: they have the colour of the level ``low``.
    """

    title: str
    points: np.ndarray
    layers: Sequence[Layer] = field(default_factory=tuple)
    removed: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks the number of marks.

        Raises:
            UserError: marks of another number of points.
        """
        if self.removed is not None and len(self.removed) != len(self.points):
            raise UserError(
                f'panel {self.title!r}: {len(self.removed)} marks, {len(self.points)} points'
            )

    def inside(self, point_cloud_range: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Points that lie in a range seen from above: the (n, 3) kept and (m, 3) removed ones."""
        x0, y0, _, x1, y1, _ = point_cloud_range
        points = np.asarray(self.points)[:, :3]
        shown = (points[:, :2] >= (x0, y0)).all(1) & (points[:, :2] <= (x1, y1)).all(1)
        removed = np.zeros(len(points), bool) if self.removed is None else self.removed
        return points[shown & ~removed], points[shown & removed]


def outlines(boxes: np.ndarray) -> np.ndarray:
    """Closed footprints with a stroke from the centre to the front.

    Args:
        boxes: (N, 7).

    Returns:
        (N, 7, 2) x, y of: the four corners, the first again, the middle of the front edge, the
        centre. The box's front lies in the direction of its yaw.
    """
    boxes = np.asarray(boxes, dtype=float)
    signs = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1], [1, -1], [1, 0], [0, 0]]) / 2
    local = signs * boxes[:, None, 3:5]
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    return boxes[:, None, :2] + np.einsum('nij,nkj->nki', turn, local)


def draw_bev(axes: Axes, panel: Panel, point_cloud_range: Sequence[float]) -> None:
    """Draws one scene.

    Args:
        axes: to draw on.
        panel: what to draw.
        point_cloud_range: [x0, y0, z0, x1, y1, z1] in metres, the part that is shown.
    """
    x0, y0, z0, x1, y1, z1 = point_cloud_range
    points, removed = panel.inside(point_cloud_range)
    height = np.clip(points[:, 2], z0, z1)
    axes.scatter(
        points[:, 1],
        points[:, 0],
        c=height,
        cmap='Greys',
        # the lightest third of the map would vanish on white
        vmin=z0 - 0.8 * (z1 - z0),
        vmax=z1,
        s=0.6,
        linewidths=0,
        rasterized=True,
    )
    if len(removed):
        colour = LEVEL_COLOURS['low']
        axes.scatter(removed[:, 1], removed[:, 0], c=colour, s=1.5, linewidths=0, rasterized=True)
    for layer in panel.layers:
        _draw_layer(axes, layer)
    axes.set_xlim(y1, y0)
    axes.set_ylim(x0, x1)
    axes.set_aspect('equal')
    axes.set_title(panel.title, fontsize=9, color=INK)
    axes.tick_params(labelsize=7, colors=INK, length=2)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _draw_layer(axes: Axes, layer: Layer) -> None:
    """The footprints of one layer."""
    if len(layer.boxes) == 0:
        return
    lines = outlines(layer.boxes)[..., ::-1]
    truth = layer.name == 'ground truth'
    axes.add_collection(
        LineCollection(
            list(lines),
            colors=LEVEL_COLOURS.get(layer.name, layer.colour),
            linewidths=1.0 if truth else 1.4,
            linestyles='--' if truth else '-',
        )
    )
    for note, line in zip(layer.notes, lines, strict=False):
        axes.annotate(
            note,
            (line[:, 0].min(), line[:, 1].mean()),
            xytext=(2, 0),
            textcoords='offset points',
            va='center',
            fontsize=5,
            clip_on=True,
            color=LEVEL_COLOURS.get(layer.name, layer.colour),
        )


def save_bev(
    path: str | Path,
    panels: Sequence[Panel],
    point_cloud_range: Sequence[float],
    title: str = '',
) -> None:
    """Writes scenes side by side with one legend.

    Args:
        path: PNG file.
        panels: at least one.
        point_cloud_range: [x0, y0, z0, x1, y1, z1] in metres.
        title: above all.

    Raises:
        UserError: no panel.
    """
    if not panels:
        raise UserError(f'{path}: there is nothing to draw')
    x0, y0, _, x1, y1, _ = point_cloud_range
    width = 4.2
    height = width * (x1 - x0) / (y1 - y0)
    figure = Figure(figsize=(width * len(panels), height + 0.9), dpi=110, layout='constrained')
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        draw_bev(axes, panel, point_cloud_range)
    if handles := legend_handles([layer for panel in panels for layer in panel.layers]):
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=len(handles),
            fontsize=8,
            frameon=False,
        )
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    save_figure(figure, path)


def legend_handles(layers: Sequence[Layer]) -> list[Line2D]:
    """One line for each name among some layers."""
    return [
        Line2D(
            [],
            [],
            color=LEVEL_COLOURS.get(name, layer.colour),
            linestyle='--' if name == 'ground truth' else '-',
            label=name,
        )
        for name, layer in {layer.name: layer for layer in layers}.items()
    ]


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes the figure; its folder is made when missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path)
