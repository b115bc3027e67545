"""Pictures of pose crops: images, heatmaps over them, joints with their confidences.

Drawn on figures of their own: no pyplot state, no display needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmdistill.core.errors import UserError

COLOURS: Mapping[str, str] = {
    'hidden truth': '#2f6fde',
    'teacher': '#1a9850',
    'reviewer': '#f28e1c',
    'student': '#d7263d',
}
MARKERS: Mapping[str, str] = {'hidden truth': 's', 'teacher': 'o', 'reviewer': '^', 'student': 'x'}
INK = '#222222'


@dataclass(frozen=True)
class Joints:
    """Joints of one origin.

    Attributes:
        name: in the legend; names of :data:`COLOURS` have their colours.
        places: (K, 2) x, y in pixels of the image.
        confidences: (K,) written beside the joints, or None.
        shown: (K,) bool, which are drawn; all when left out.
    """

    name: str
    places: np.ndarray
    confidences: np.ndarray | None = None
    shown: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks the shapes.

        Raises:
            UserError: they do not fit together.
        """
        places = np.asarray(self.places)
        if places.ndim != 2 or places.shape[1] != 2:
            raise UserError(f'joints {self.name!r}: places must be (K, 2), got {places.shape}')
        for name in ('confidences', 'shown'):
            value = getattr(self, name)
            if value is not None and np.shape(value) != places.shape[:1]:
                raise UserError(f'joints {self.name!r}: {len(places)} places, {name} differ')


@dataclass(frozen=True)
class PosePanel:
    """One crop.

    Attributes:
        title: above it.
        image: (H, W, 3) uint8 RGB.
        heatmap: (h, w) laid over the image, or None.
        joints: the last on top.
    """

    title: str
    image: np.ndarray
    heatmap: np.ndarray | None = None
    joints: Sequence[Joints] = field(default_factory=tuple)


def draw_pose(axes: Axes, panel: PosePanel) -> None:
    """Draws one crop."""
    height, width = panel.image.shape[:2]
    axes.imshow(panel.image)
    if panel.heatmap is not None:
        strength = np.clip(panel.heatmap, 0, 1)
        # pixel centres of a heatmap lie at multiples of its stride (MSRA's convention)
        across, down = width / strength.shape[1], height / strength.shape[0]
        extent = (-across / 2, width - across / 2, height - down / 2, -down / 2)
        axes.imshow(
            strength, cmap='inferno', vmin=0, vmax=1, alpha=0.25 + 0.5 * strength, extent=extent
        )
    for each in panel.joints:
        _draw_joints(axes, each)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_title(panel.title, fontsize=8, color=INK)
    axes.set_axis_off()


def _draw_joints(axes: Axes, joints: Joints) -> None:
    """Markers, and small numbers beside them."""
    places = np.asarray(joints.places, dtype=float)
    shown = np.ones(len(places), bool) if joints.shown is None else np.asarray(joints.shown, bool)
    colour, marker = COLOURS.get(joints.name, INK), MARKERS.get(joints.name, 'o')
    hollow = {} if marker == 'x' else {'facecolors': 'none'}
    points = places[shown]
    axes.scatter(*points.T, s=22, marker=marker, color=colour, linewidths=1.2, **hollow)
    if joints.confidences is None:
        return
    for (x, y), confidence in zip(points, np.asarray(joints.confidences)[shown], strict=True):
        axes.annotate(
            f'{confidence:.2f}',
            (x, y),
            xytext=(3, 2),
            textcoords='offset points',
            fontsize=4.5,
            color='white',
            annotation_clip=True,
        )


def save_poses(path: str | Path, panels: Sequence[PosePanel], title: str = '') -> None:
    """Writes crops side by side with one legend; the folder is made when missing.

    Args:
        path: PNG file.
        panels: at least one.
        title: above all.

    Raises:
        UserError: no panel.
    """
    if not panels:
        raise UserError(f'{path}: there is nothing to draw')
    tallest = max(panel.image.shape[0] / panel.image.shape[1] for panel in panels)
    figure = Figure(figsize=(2.4 * len(panels), 2.4 * tallest + 0.8), dpi=130, layout='constrained')
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw_pose(axes, panel)
    names = dict.fromkeys(joints.name for panel in panels for joints in panel.joints)
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS.get(name, INK),
            marker=MARKERS.get(name, 'o'),
            fillstyle='none',
            linestyle='',
            label=name,
        )
        for name in names
    ]
    if handles:
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=len(handles),
            fontsize=7,
            frameon=False,
        )
    if title:
        figure.suptitle(title, fontsize=9, color=INK)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path)
