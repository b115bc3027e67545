"""Means over seeds, and tables for the screen and for documents."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence


def summarise(rows: Sequence[Mapping]) -> list[dict]:
    """Mean and standard deviation of every metric of every label over the seeds.

    Args:
        rows: ``label`` and ``metrics`` each; a metric that is None or NaN in a row (a class
            without objects) counts for the other seeds only.

    Returns:
        ``label``, ``metric``, ``mean``, ``std`` (of the sample; 0 for one seed) and ``seeds``.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for metric, value in row['metrics'].items():
            if value is not None and math.isfinite(value):
                values.setdefault((row['label'], metric), []).append(value)
    return [
        {
            'label': label,
            'metric': metric,
            'mean': statistics.fmean(found),
            'std': statistics.stdev(found) if len(found) > 1 else 0.0,
            'seeds': len(found),
        }
        for (label, metric), found in values.items()
    ]


def comparison(
    summary: Sequence[Mapping], columns: Mapping[str, str], head: str = ''
) -> list[list[str]]:
    """Cells of a table, one row per label: ``mean +- std`` of some metrics.

    Args:
        summary: of :func:`summarise`.
        columns: metric by heading.
        head: heading of the labels.
    """
    found = {(each['label'], each['metric']): each for each in summary}
    labels = list(dict.fromkeys(each['label'] for each in summary))
    cells = [[head, *columns]]
    for label in labels:
        line = [label]
        for metric in columns.values():
            each = found.get((label, metric))
            if each is None:
                line.append('')
            elif each['seeds'] > 1:
                line.append(f'{each["mean"]:.1f} ± {each["std"]:.1f}')
            else:
                line.append(f'{each["mean"]:.1f}')
        cells.append(line)
    return cells


def text_table(cells: Sequence[Sequence[str]]) -> str:
    """Cells as aligned text; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        first = line[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append('  '.join([first, *rest]).rstrip())
    lines.insert(1, '-' * (sum(widths) + 2 * len(widths) - 2))
    return '\n'.join(lines)


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table; the first row is the heading."""
    head, *body = cells
    lines = [head, ['---', *['---:'] * (len(head) - 1)], *body]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
