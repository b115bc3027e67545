"""Pictures of segmentation: images, labels in the data set's colours, maps of numbers.

Drawn on figures of their own: no pyplot state, no display needed.
"""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmdistill.core.errors import UserError

INK = '#222222'
OUTSIDE = (236, 236, 236)
"""Colour of pixels without a class."""


@dataclass(frozen=True)
class Palette:
    """Names and colours of classes.

    Attributes:
        names: of the classes.
        colours: (R, G, B) in 0 to 255, one per class.
        outside: what pixels without a class are called in the legend.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    outside: str = 'ignored'

    def __post_init__(self) -> None:
        """Checks the lengths.

        Raises:
            UserError: they differ.
        """
        if len(self.names) != len(self.colours):
            raise UserError(
                f'a palette needs a colour per class, got {len(self.colours)} for '
                f'{len(self.names)} classes'
            )

    @classmethod
    def of(cls, metainfo: Mapping[str, Any]) -> 'Palette':
        """Of a data set of mmseg; where it has no colours, hues that are far apart.

        Raises:
            UserError: the data set has no classes, or another number of colours.
        """
        names = tuple(metainfo.get('classes') or ())
        if not names:
            raise UserError("the data set's metainfo has no classes: nothing can be named")
        colours = metainfo.get('palette') or hues(len(names))
        return cls(names, tuple(tuple(int(v) for v in colour) for colour in colours))

    def paint(self, labels: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 from (H, W) labels; what is no class has the colour of outside."""
        table = np.array([*self.colours, OUTSIDE], np.uint8)
        return table[self._index(labels)]

    def present(self, labels: np.ndarray) -> list[int]:
        """Sorted classes that occur; their number stands for pixels without a class."""
        return np.unique(self._index(labels)).tolist()

    def entry(self, index: int) -> tuple[str, tuple[int, int, int]]:
        """Name and colour in the legend, of a number that :meth:`present` gives."""
        if index == len(self.names):
            return self.outside, OUTSIDE
        return self.names[index], self.colours[index]

    def _index(self, labels: np.ndarray) -> np.ndarray:
        """Labels with one number for all that is no class."""
        labels, count = np.asarray(labels).astype(np.int64), len(self.names)
        return np.where((labels >= 0) & (labels < count), labels, count)


AGREEMENT = Palette(('right', 'wrong'), ((26, 152, 80), (215, 38, 61)), 'no truth')
"""Colours of :func:`agreement`."""


def hues(count: int) -> list[tuple[int, int, int]]:
    """Colours around the circle, neighbours of different brightness."""
    found = []
    for index in range(count):
        value = (0.95, 0.7, 0.5)[index % 3]
        rgb = colorsys.hsv_to_rgb(index / count, 0.75, value)
        found.append(tuple(round(255 * part) for part in rgb))
    return found


def agreement(labels: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """(H, W): 0 where a label is right, 1 where it is wrong, 2 where there is no truth."""
    return np.where(truth >= num_classes, 2, (labels != truth).astype(np.int64))


@dataclass(frozen=True)
class SegPanel:
    """One picture: an image, labels or numbers.

    Attributes:
        title: above it.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) integers, drawn instead of the image.
        values: (H, W) numbers from 0 on, drawn instead of the image, with a scale.
        top: end of that scale; None: the highest of 1 and the values.
        outline: (H, W) bool, a region whose border is drawn.
        shown: (H, W) bool, pixels that are drawn; the others are grey.
        note: below it.
        palette: of the labels; None: the figure's.
    """

    title: str
    image: np.ndarray | None = None
    labels: np.ndarray | None = None
    values: np.ndarray | None = None
    top: float | None = None
    outline: np.ndarray | None = None
    shown: np.ndarray | None = None
    note: str = ''
    palette: Palette | None = None

    def __post_init__(self) -> None:
        """Checks what there is to draw.

        Raises:
            UserError: nothing, too much, or parts of different sizes.
        """
        given = [each for each in (self.image, self.labels, self.values) if each is not None]
        if len(given) != 1:
            raise UserError(f'panel {self.title!r}: give one of image, labels and values')
        size = given[0].shape[:2]
        for name in ('outline', 'shown'):
            part = getattr(self, name)
            if part is not None and part.shape != size:
                raise UserError(f'panel {self.title!r}: {name} is {part.shape}, not {size}')

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        given = (self.image, self.labels, self.values)
        return next(each.shape[:2] for each in given if each is not None)


def draw_seg(axes: Axes, panel: SegPanel, palette: Palette) -> None:
    """Draws one picture.

    Args:
        axes: where.
        panel: what.
        palette: of labels without a palette of their own.
    """
    if panel.values is not None:
        values = np.asarray(panel.values, float)
        top = max(1.0, float(values.max())) if panel.top is None else panel.top
        drawn = axes.imshow(values, cmap='viridis', vmin=0, vmax=top, interpolation='nearest')
        bar = axes.inset_axes([0.0, -0.075, 1.0, 0.035])
        axes.figure.colorbar(drawn, cax=bar, orientation='horizontal', ticks=[0, top])
        bar.set_xticks([0, top], ['0', f'{top:.3g}'])
        bar.tick_params(labelsize=6, length=2, pad=1, colors=INK)
        for label, side in zip(bar.get_xticklabels(), ('left', 'right'), strict=True):
            label.set_horizontalalignment(side)  # nothing sticks out, so all panels stay as wide
    else:
        pixels = panel.image
        if panel.labels is not None:
            pixels = (panel.palette or palette).paint(panel.labels)
        if panel.shown is not None:
            pixels = np.where(panel.shown[..., None], pixels, np.uint8(225))
        axes.imshow(pixels, interpolation='nearest')
    outline = panel.outline
    if outline is not None and outline.any() and not outline.all():
        for width, colour in ((2.2, 'black'), (1.0, 'white')):
            axes.contour(outline, levels=[0.5], colors=colour, linewidths=width)
    axes.set_title(panel.title, fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set(color='#bbbbbb', linewidth=0.5)
    if panel.note:
        axes.set_xlabel(panel.note, fontsize=7, color=INK, labelpad=3)


def save_segs(
    path: str | Path, rows: Sequence[Sequence[SegPanel]], palette: Palette, title: str = ''
) -> None:
    """Writes rows of pictures with one legend of the classes in them; makes the folder.

    Args:
        path: PNG file.
        rows: of pictures; shorter ones end with empty places.
        palette: of the classes.
        title: above all.

    Raises:
        UserError: no panel.
    """
    panels = [panel for row in rows for panel in row]
    if not panels:
        raise UserError(f'{path}: there is nothing to draw')
    across, wide = max(len(row) for row in rows), 2.4
    heights = [max((p.size[0] / p.size[1] for p in row), default=1.0) for row in rows]
    legend = _legend(panels, palette)
    lines = -(-len(legend) // max(1, int(across * wide / 1.15)))
    columns = -(-len(legend) // max(1, lines))
    tall = sum(wide * height + 0.5 for height in heights) + 0.35 * bool(title) + 0.2 * lines
    figure = Figure(figsize=(wide * across, tall), dpi=130, layout='constrained')
    places = figure.subplots(
        len(rows), across, squeeze=False, gridspec_kw=dict(height_ratios=heights)
    )
    for axes_row, row in zip(places, rows, strict=True):
        for axes, panel in zip(axes_row, row, strict=False):
            draw_seg(axes, panel, palette)
        for axes in axes_row[len(row) :]:
            axes.set_axis_off()
    if legend:
        figure.legend(
            handles=legend,
            loc='outside lower center',
            ncols=columns,
            fontsize=7,
            frameon=False,
            handlelength=1.2,
            columnspacing=1.2,
        )
    if title:
        figure.suptitle(title, fontsize=9, color=INK)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path)


def _legend(panels: Sequence[SegPanel], palette: Palette) -> list[Patch]:
    """Patches of the classes that are drawn, palette by palette."""
    used: dict[int, tuple[Palette, set[int]]] = {}
    for panel in panels:
        if panel.labels is not None:
            own = panel.palette or palette
            shown = slice(None) if panel.shown is None else panel.shown
            used.setdefault(id(own), (own, set()))[1].update(own.present(panel.labels[shown]))
    entries = dict(own.entry(index) for own, found in used.values() for index in sorted(found))
    return [
        Patch(facecolor=np.divide(colour, 255), edgecolor='#888888', linewidth=0.4, label=name)
        for name, colour in entries.items()
    ]
