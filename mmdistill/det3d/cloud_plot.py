"""Pictures of LiDAR scenes from above and in perspective, points coloured by height.

A pinhole camera behind the sensor looks ahead and down; boxes are wire frames with a tinted front.
No 3D axes of matplotlib, which neither keep proportions nor sort by distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmdistill.det3d.bev_plot import (
    FAINT,
    INK,
    LEVEL_COLOURS,
    Layer,
    Panel,
    draw_bev,
    legend_handles,
    save_figure,
)
from mmdistill.det3d.perspective import FRONT, Camera, corners, focus, wires

HEIGHTS = LinearSegmentedColormap.from_list('heights', ['#c3c9d2', '#9c8fc4', '#6b3f9c', '#2e0f4d'])
"""Colours that no level has."""
WIDE = 1.4
"""Width over height of the perspective picture."""


def _within(layer: Layer, point_cloud_range: Sequence[float]) -> Layer:
    """Boxes whose centres lie in the range seen from above."""
    boxes, limits = np.asarray(layer.boxes), np.asarray(point_cloud_range)
    inside = ((boxes[:, :2] >= limits[:2]) & (boxes[:, :2] <= limits[3:5])).all(1)
    notes = [layer.notes[index] for index in np.flatnonzero(inside)] if layer.notes else ()
    return replace(layer, boxes=boxes[inside], notes=notes)


def draw_perspective(
    axes: Axes, panel: Panel, point_cloud_range: Sequence[float]
) -> ScalarMappable:
    """Draws one scene.

    Args:
        axes: to draw on.
        panel: what to draw.
        point_cloud_range: [x0, y0, z0, x1, y1, z1] in metres; points outside are not drawn.

    Returns:
        The colours of the heights.
    """
    kept, removed = panel.inside(point_cloud_range)
    points = np.concatenate([kept, removed])
    layers = [_within(each, point_cloud_range) for each in panel.layers]
    boxes = np.concatenate([np.empty((0, 7)), *(each.boxes[:, :7] for each in layers)])
    lower, upper = focus(points, boxes, point_cloud_range)
    camera = Camera.behind(lower, upper)
    heights = ScalarMappable(Normalize(lower[2] - 0.3, upper[2]), HEIGHTS)
    _draw_rings(axes, camera, point_cloud_range, lower[2])
    _draw_points(axes, camera, kept, heights.to_rgba(kept[:, 2]), 1.0)
    _draw_points(axes, camera, removed, LEVEL_COLOURS['low'], 1.8)
    for layer in layers:
        _draw_boxes(axes, camera, layer)
    area = np.stack(np.meshgrid(*zip(lower, upper, strict=True)), -1)
    seen = [camera.project(each)[0].reshape(-1, 2) for each in (points, corners(boxes), area)]
    _set_limits(axes, *seen)
    axes.set_aspect('equal')
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(panel.title, fontsize=9, color=INK)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    return heights


def _set_limits(axes: Axes, points: np.ndarray, boxes: np.ndarray, area: np.ndarray) -> None:
    """Shows nearly all points and every corner of a box; without any of them the whole area."""
    points = points[np.isfinite(points).all(1)]
    if len(points):
        points = np.quantile(points, [0.01, 0.99], axis=0)
    seen = np.concatenate([points, boxes])
    if not np.isfinite(seen).any():
        seen = area
    lower, upper = np.nanmin(seen, 0), np.nanmax(seen, 0)
    height = 1.08 * max(upper[1] - lower[1], (upper[0] - lower[0]) / WIDE)
    reach = np.array([WIDE, 1.0]) * height / 2
    (left, bottom), (right, top) = (lower + upper) / 2 - reach, (lower + upper) / 2 + reach
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _draw_points(
    axes: Axes, camera: Camera, points: np.ndarray, colours: np.ndarray | str, size: float
) -> None:
    """Points, near ones larger and on top."""
    seen, depth = camera.project(points)
    order = np.argsort(-depth)[: np.isfinite(depth).sum()]  # the others come last
    if not isinstance(colours, str):
        colours = colours[order]
    sizes = size * (camera.distance / depth[order]) ** 2
    axes.scatter(*seen[order].T, c=colours, s=sizes, linewidths=0, rasterized=True)


def _draw_rings(
    axes: Axes, camera: Camera, point_cloud_range: Sequence[float], ground: float
) -> None:
    """Circles on the ground around the sensor, every 10 m."""
    x0, y0, _, x1, y1, _ = point_cloud_range
    angle = np.linspace(-np.pi, np.pi, 361)
    for radius in range(10, int(np.hypot(max(x1, -x0), max(y1, -y0))), 10):
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        places = np.stack([x, y, np.full_like(x, ground)], -1)
        places[(x < x0) | (x > x1) | (y < y0) | (y > y1)] = np.nan
        axes.plot(*camera.project(places)[0].T, color=FAINT, linewidth=0.6, zorder=0)
        ahead = camera.project(np.array([radius, 0.0, ground]))[0]
        if radius <= x1 and np.isfinite(ahead).all():
            axes.annotate(f'{radius} m', ahead, fontsize=6, color='#8a8a8a', zorder=0, clip_on=True)


def _draw_boxes(axes: Axes, camera: Camera, layer: Layer) -> None:
    """Wire frames, tinted fronts and notes of one layer; boxes beside the camera are left out."""
    if len(layer.boxes) == 0:
        return
    colour = LEVEL_COLOURS.get(layer.name, layer.colour)
    truth = layer.name == 'ground truth'
    lines = camera.project(wires(layer.boxes))[0]
    fronts = camera.project(corners(layer.boxes)[:, FRONT])[0]
    shown = np.isfinite(lines).all((1, 2, 3))
    style = {'linewidths': 1.0 if truth else 1.3, 'linestyles': '--' if truth else '-'}
    axes.add_collection(
        LineCollection(list(lines[shown].reshape(-1, 2, 2)), colors=colour, **style)
    )
    if not truth:
        axes.add_collection(PolyCollection(list(fronts[shown]), facecolors=colour, alpha=0.3))
    for index in np.flatnonzero(shown) if layer.notes else ():
        strokes = lines[index].reshape(-1, 2)
        place = strokes[:, 0].mean(), strokes[:, 1].max()
        axes.annotate(
            layer.notes[index],
            place,
            xytext=(0, 2),
            textcoords='offset points',
            ha='center',
            fontsize=6,
            color=colour,
            clip_on=True,
        )


def save_cloud(
    path: str | Path,
    panel: Panel,
    point_cloud_range: Sequence[float],
    names: Mapping[str, str],
) -> None:
    """Writes a scene from above and in perspective with one legend.

    Args:
        path: PNG file.
        panel: what to draw; its title stands above all.
        point_cloud_range: [x0, y0, z0, x1, y1, z1] in metres.
        names: of layers in the legend, where it has another text than their own.
    """
    x0, y0, _, x1, y1, _ = point_cloud_range
    height = 6.0
    width = height * (y1 - y0) / (x1 - x0)
    wide = WIDE * height
    figure = Figure(figsize=(width + wide + 1.1, height + 1.1), dpi=120, layout='compressed')
    above, ahead = figure.subplots(1, 2, width_ratios=[width, wide])
    draw_bev(above, replace(panel, title='from above'), point_cloud_range)
    heights = draw_perspective(ahead, replace(panel, title='from behind'), point_cloud_range)
    bar = figure.colorbar(heights, ax=ahead, shrink=0.5, aspect=30, pad=0.01)
    bar.set_label('height of points in m', fontsize=7, color=INK)
    bar.ax.tick_params(labelsize=6, colors=INK)
    bar.outline.set_visible(False)
    handles = legend_handles(panel.layers)
    for handle in handles:
        handle.set_label(names.get(handle.get_label(), handle.get_label()))
    if panel.removed is not None:
        handles.append(
            Line2D([], [], color=LEVEL_COLOURS['low'], linestyle='', marker='.',
                   label='removed points')
        )  # fmt: skip
    figure.legend(
        handles=handles, loc='outside lower center', ncols=len(handles), fontsize=8, frameon=False
    )
    figure.suptitle(panel.title, fontsize=10, color=INK)
    save_figure(figure, path)
