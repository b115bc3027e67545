"""Charts of curves and of means over seeds, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, FAINT = '#222222', '#d9d9d9'
BLUE, GREY = '#2f6fde', '#9aa5b1'

Curve = tuple[Sequence[float], Sequence[float]]


def save_curves(
    path: str | Path,
    charts: Mapping[str, Mapping[str, Curve]],
    xlabel: str = 'iteration',
    stamp: str = '',
) -> None:
    """Writes line charts in rows of three; charts without any data are left out.

    Args:
        path: PNG file.
        charts: by title: curves by name, each x and y.
        xlabel: below every chart.
        stamp: text kept in the file, to tell what it was made of.

    Raises:
        ValueError: there is no curve at all.
    """
    charts = {
        title: {name: xy for name, xy in curves.items() if len(xy[0])}
        for title, curves in charts.items()
    }
    charts = {title: curves for title, curves in charts.items() if curves}
    if not charts:
        raise ValueError(f'{path}: there is no curve to draw')
    columns = min(3, len(charts))
    rows = -(-len(charts) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * rows), dpi=110, layout='constrained')
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, curves) in zip(all_axes, charts.items(), strict=False):
        for name, (x, y) in curves.items():
            axes.plot(x, y, label=name, linewidth=1.4, marker='.', markersize=3)
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlabel(xlabel, fontsize=8, color=INK)
        axes.legend(fontsize=7, frameon=False)
        _plain(axes)
    for axes in all_axes[len(charts) :]:
        axes.set_visible(False)
    _save(figure, path, stamp)


def save_bars(
    path: str | Path,
    title: str,
    bars: Sequence[tuple[str, float, float, Sequence[float]]],
    marked: str = '',
    stamp: str = '',
) -> None:
    """Writes horizontal bars with an error line and a dot for each seed.

    Args:
        path: PNG file.
        title: above it.
        bars: label, mean, standard deviation and the single values, top to bottom.
        marked: label of the bar in colour.
        stamp: text kept in the file, to tell what it was made of.
    """
    figure = Figure(figsize=(6.4, 0.6 + 0.42 * len(bars)), dpi=110, layout='constrained')
    axes = figure.subplots()
    for index, (label, mean, std, values) in enumerate(bars):
        colour = BLUE if label == marked else GREY
        axes.barh(index, mean, xerr=std, color=colour, height=0.6, ecolor=INK, capsize=2)
        axes.scatter(values, [index] * len(values), s=9, color=INK, zorder=3)
        axes.annotate(
            f'{mean:.1f}',
            (0, index),
            xytext=(4, 0),
            textcoords='offset points',
            va='center',
            fontsize=8,
            color='white' if label == marked else INK,
        )
    axes.set_yticks(range(len(bars)), [bar[0] for bar in bars])
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9, color=INK)
    _plain(axes)
    axes.grid(axis='y', visible=False)
    _save(figure, path, stamp)


def _plain(axes: Axes) -> None:
    """Light grid, no box."""
    axes.set_axisbelow(True)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[['top', 'right']].set_visible(False)


def _save(figure: Figure, path: str | Path, stamp: str = '') -> None:
    """Writes the figure; its folder is made when missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    # no release of matplotlib in the file: the same numbers give the same bytes
    figure.savefig(path, metadata={'Software': None, 'Comment': stamp})
