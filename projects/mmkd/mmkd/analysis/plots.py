"""Pictures of surfaces and spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmdistill.core.errors import UserError
from mmkd.analysis.surface import Surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BOX = dict(boxstyle='round,pad=0.15', facecolor='white', alpha=0.7, linewidth=0)


def surface_figure(surfaces: Mapping[str, Surface], log: bool = False) -> Figure:
    """One panel per surface with the same colours, contour lines and the value in the middle.

    Args:
        surfaces: by label.
        log: colours by the logarithm.

    Raises:
        UserError: no finite loss, or one of 0 or below to take the logarithm of.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    values = np.stack([each.losses.numpy() for each in surfaces.values()])
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UserError('no loss on the surface is finite: there is nothing to draw')
    low, high = float(finite.min()), float(finite.max())
    if log and low <= 0:
        raise UserError(f'a loss of {low:g} has no logarithm: leave out --log')
    norm = (LogNorm if log else Normalize)(low, high)
    levels = (np.geomspace if log else np.linspace)(low, high, 14)[1:-1]
    figure = Figure(figsize=(4.2 * len(surfaces) + 1, 4), layout='constrained')
    panels = figure.subplots(1, len(surfaces), squeeze=False)[0]
    for panel, (label, each) in zip(panels, surfaces.items(), strict=True):
        steps, losses = each.steps.numpy(), np.ma.masked_invalid(each.losses.numpy().T)
        drawn = panel.pcolormesh(steps, steps, losses, norm=norm, cmap='viridis', shading='nearest')
        if losses.count() and losses.max() > losses.min():
            inside = levels[(levels > losses.min()) & (levels < losses.max())]
            if inside.size:
                panel.contour(steps, steps, losses, inside, colors='white', linewidths=0.6)
        panel.plot(0, 0, 'x', color='red')
        panel.annotate(
            f'{each.centre:.4g}', (0, 0), (5, 5), textcoords='offset points', color='red', bbox=_BOX
        )
        panel.set(title=label, xlabel='first direction', ylabel='second direction', aspect='equal')
    figure.colorbar(drawn, ax=list(panels), label='loss')
    return figure


def spectrum_figure(spectra: Mapping[str, Sequence[float]], bins: int = 40) -> Figure:
    """Histograms over each other, with common bins.

    Args:
        spectra: eigenvalues by label; what is not finite is left out.
        bins: how many.

    Raises:
        UserError: no eigenvalue is finite.
    """
    from matplotlib.figure import Figure

    kept = {label: np.asarray(found)[np.isfinite(found)] for label, found in spectra.items()}
    everything = np.concatenate(list(kept.values()))
    if not everything.size:
        raise UserError('no eigenvalue is finite: there is nothing to draw')
    edges = np.histogram_bin_edges(everything, bins)
    figure = Figure(figsize=(6, 4), layout='constrained')
    panel = figure.subplots()
    for label, found in kept.items():
        panel.hist(found, edges, alpha=0.5, label=f'{label} ({len(found)})')
    panel.axvline(0, color='black', linewidth=0.6)
    panel.set(xlabel='largest eigenvalue in absolute value, by batch', ylabel='batches')
    panel.yaxis.get_major_locator().set_params(integer=True)
    panel.legend()
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)
