"""Average precisions of a KITTI evaluation: as arrays, as named numbers and as a table."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

METRICS: Mapping[str, str] = {'bbox': '2D', 'bev': 'BEV', '3d': '3D', 'aos': 'AOS'}
"""Metric -> its name in results."""
DIFFICULTIES = ('easy', 'moderate', 'hard')
STRICTNESS = ('strict', 'loose')
RECALLS = (11, 40)


@dataclass(frozen=True)
class KittiResult:
    """The outcome of an evaluation.

    Attributes:
        classes: Names of the C classes.
        metrics: The M metrics, of ``bbox``, ``bev``, ``3d`` and ``aos``.
        precision: ``(M, C, 3, 2, 41)`` precision (``aos``: orientation similarity) in [0, 1] by
            metric, class, difficulty, overlap (strict, loose) and recall 0, 1/40 .. 1; the best
            one at this or a higher recall; nan without ground truth.
        num_gt: ``(C, 3)`` number of objects that count, by class and difficulty.
        overlaps: Class -> ((strict bbox, bev, 3d), (loose bbox, bev, 3d)).
    """

    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    precision: np.ndarray
    num_gt: np.ndarray
    overlaps: Mapping[str, tuple]

    def ap(self, metric: str, recalls: int = 40) -> np.ndarray:
        """Average precision.

        Args:
            metric: One of ``self.metrics``.
            recalls: 40 (recall 1/40 .. 1) or 11 (recall 0, 1/10 .. 1).

        Returns:
            ``(C, 3, 2)`` percentages by class, difficulty, overlap.

        Raises:
            ValueError: If ``recalls`` is neither 11 nor 40 or the metric was not evaluated.
        """
        if recalls not in RECALLS or metric not in self.metrics:
            raise ValueError(
                f'recalls must be one of {RECALLS}, got {recalls}; metric one of {self.metrics}, '
                f'got {metric!r}'
            )
        curve = self.precision[self.metrics.index(metric)]
        points = curve[..., 1:] if recalls == 40 else curve[..., ::4]
        return points.sum(-1) / recalls * 100

    def mean_ap(self, metric: str, recalls: int = 40) -> np.ndarray:
        """Mean over the classes that have ground truth.

        Args:
            metric: One of ``self.metrics``.
            recalls: 40 or 11.

        Returns:
            ``(3, 2)`` percentages by difficulty and overlap; nan if no class has ground truth.

        Raises:
            ValueError: As :meth:`ap`.
        """
        ap = self.ap(metric, recalls)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', RuntimeWarning)  # the mean of nothing is nan
            return np.nanmean(ap, axis=0)

    def without_gt(self) -> list[str]:
        """Classes and difficulties that have no object to find, as ``Car (easy, hard)``."""
        lacking = []
        for name, counts in zip(self.classes, self.num_gt, strict=True):
            levels = [d for d, count in zip(DIFFICULTIES, counts, strict=True) if count == 0]
            if levels:
                lacking.append(f'{name} ({", ".join(levels)})')
        return lacking

    def few_gt(self) -> list[str]:
        """Classes with fewer than 40 objects to find, as ``Car (easy 5, moderate 12)``.

        Each recall point of the protocol takes one more hit, so N < 40 objects fill only N of
        them and even a perfect detector stays near N / 40.
        """
        few = []
        for name, counts in zip(self.classes, self.num_gt, strict=True):
            levels = zip(DIFFICULTIES, counts, strict=True)
            low = [f'{difficulty} {count}' for difficulty, count in levels if 0 < count < 40]
            if low:
                few.append(f'{name} ({", ".join(low)})')
        return few

    def scalars(self) -> dict[str, float]:
        """All numbers by name, percentages.

        Returns:
            ``{class}_{2D|BEV|3D|AOS}_AP{11|40}_{difficulty}_{strict|loose}`` and the means over
            the classes at the strict overlaps, ``mAP{11|40}_{2D|BEV|3D|AOS}_{difficulty}``.
        """
        numbers: dict[str, float] = {}
        for recalls in RECALLS:
            for metric in self.metrics:
                label, ap = METRICS[metric], self.ap(metric, recalls)
                for (c, d, k), value in np.ndenumerate(ap):
                    key = f'{self.classes[c]}_{label}_AP{recalls}_{DIFFICULTIES[d]}_{STRICTNESS[k]}'
                    numbers[key] = float(value)
                for d, value in enumerate(self.mean_ap(metric, recalls)[:, 0]):
                    numbers[f'mAP{recalls}_{label}_{DIFFICULTIES[d]}'] = float(value)
        return numbers

    def table(self, recalls: int = 40) -> str:
        """A text table, one line per class and overlap.

        Args:
            recalls: 40 or 11.

        Returns:
            Lines with easy / moderate / hard percentages for each metric.

        Raises:
            ValueError: As :meth:`ap`.
        """
        aps = {metric: self.ap(metric, recalls) for metric in self.metrics}
        means = {metric: self.mean_ap(metric, recalls) for metric in self.metrics}
        rows = [[f'AP{recalls}', 'IoU', *(METRICS[metric] for metric in self.metrics), 'objects']]
        for c, name in enumerate(self.classes):
            for k in range(2):
                limits = ' '.join(f'{limit:g}' for limit in self.overlaps[name][k])
                cells = [_levels(aps[metric][c, :, k]) for metric in self.metrics]
                rows.append([name, limits, *cells, '/'.join(map(str, self.num_gt[c]))])
        for k in range(2):
            cells = [_levels(means[metric][:, k]) for metric in self.metrics]
            rows.append(['mean', STRICTNESS[k], *cells, ''])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ['  '.join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return '\n'.join((lines[0], '-' * sum(widths, 2 * len(widths) - 2), *lines[1:]))


def _levels(values: np.ndarray) -> str:
    """Three percentages in columns."""
    return ' '.join(f'{value:6.2f}' for value in values)
