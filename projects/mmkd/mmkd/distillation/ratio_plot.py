"""Pictures of learned ratios."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmdistill.core.errors import UserError


def four_groups(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Masks of samples: teacher right or wrong, and student and teacher near or far (median).

    Args:
        found: ``teacher_right`` and ``distance``, ``(N,)`` each.
    """
    right = found['teacher_right'].astype(bool)
    far = found['distance'] > np.median(found['distance'])
    return {
        f'teacher {"right" if r else "wrong"}, {"far" if f else "near"}': (right == r) & (far == f)
        for r in (True, False)
        for f in (True, False)
    }


def read_records(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """Records of ratios by iteration, in order.

    Args:
        folder: with files ``iter_N.npz``.

    Raises:
        UserError: there are none.
    """
    paths = {int(each.stem.removeprefix('iter_')): each for each in folder.glob('iter_*.npz')}
    if not paths:
        raise UserError(f'{folder}: there is no iter_N.npz; RatioRecordHook writes them')
    return {number: dict(np.load(paths[number])) for number in sorted(paths)}


def draw_ratios(folder: Path, out: Path) -> None:
    """Draws how ratios are spread over time, their means by group, and the last ones by distance.

    Args:
        folder: see :func:`read_records`.
        out: picture to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_records(folder)
    steps, last = list(records), records[max(records)]
    figure = Figure(figsize=(15, 4.5), layout='constrained')
    FigureCanvasAgg(figure)
    spread, means, scatter = figure.subplots(1, 3)
    bins = np.linspace(0, 1, 51)
    shares = [
        np.histogram(each['ratio'], bins)[0] / len(each['ratio']) for each in records.values()
    ]
    image = spread.imshow(
        np.array(shares).T, origin='lower', aspect='auto', extent=(-0.5, len(steps) - 0.5, 0, 1)
    )
    marks = np.unique(np.linspace(0, len(steps) - 1, min(6, len(steps))).round().astype(int))
    spread.set_xticks(marks, [str(steps[each]) for each in marks])
    figure.colorbar(image, ax=spread, label='share of samples')
    spread.set(title='spread of ratios', xlabel='iteration', ylabel='share of distillation')
    for name in four_groups(last):
        values = [each['ratio'][four_groups(each)[name]] for each in records.values()]
        means.plot(steps, [each.mean() if len(each) else np.nan for each in values], label=name)
    means.set(title='mean ratio by group', xlabel='iteration', ylim=(0, 1))
    means.legend(fontsize=8)
    for right, colour in ((True, 'tab:blue'), (False, 'tab:red')):
        chosen = last['teacher_right'].astype(bool) == right
        label = f'teacher {"right" if right else "wrong"}'
        scatter.scatter(
            last['distance'][chosen], last['ratio'][chosen], s=5, alpha=0.5, c=colour, label=label
        )
    scatter.set(title=f'iteration {steps[-1]}', xlabel='|student - teacher|', ylim=(0, 1))
    scatter.legend(fontsize=8)
    figure.savefig(out, dpi=110)
