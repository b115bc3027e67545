"""Dynamic dual thresholds of HSSDA (CVPR 2023, arXiv:2304.01464): per class and score."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError, did_you_mean
from mmdistill.core.filters.two_means import two_means
from mmdistill.registry import MODELS

HIGH_AT = ('center', 'boundary')
DEFAULT_INIT = dict(cls=0.99, objectness=0.95, view_iou=0.93)


def floor_decimals(value: float, decimals: int | None) -> float:
    """Cuts off all but some decimals (0.999 -> 0.99); None changes nothing.

    Numbers within 1e-7 below a multiple count as that multiple, so that scores of 0.9 in
    float32, which are 0.89999998, keep 0.9.
    """
    if decimals is None:
        return value
    return math.floor((value + 1e-7) * 10**decimals) / 10**decimals


@MODELS.register_module()
class DualThresholdFilter(nn.Module):
    """A high and a low threshold per score and class, fitted by 2-means of trusted scores.

    Buffers ``high`` and ``low`` (S, C) survive restarts and are equal on all ranks after a
    refresh.

    Args:
        class_names: class names in label order (C), or their number.
        scores: score names (S), the order of the columns of ``scores`` below.
        init: thresholds, high and low alike, before the first fit and of pools that are too
            small; official code: cls 0.99, objectness 0.95, view_iou 0.93.
        min_pool: least number of scores to fit a class (official code: 3).
        decimals: decimals that fitted thresholds keep, the rest is cut off (official code: 2);
            None keeps all.
        high_at: ``'center'``: the high threshold is the centre of the upper cluster (the paper),
            which half of the good predictions do not reach; ``'boundary'``: it is the border of
            the clusters, half way between their centres (ours, for trainings with few rounds).

    Raises:
        UserError: a score without an initial threshold, a threshold of an unknown score, or
            another place of the high threshold.
    """

    def __init__(
        self,
        class_names: Sequence[str] | int,
        scores: Sequence[str] = ('cls', 'view_iou'),
        init: Mapping[str, float] | None = None,
        min_pool: int = 3,
        decimals: int | None = 2,
        high_at: str = 'center',
    ) -> None:
        super().__init__()
        if high_at not in HIGH_AT:
            raise UserError(f'high_at must be one of {HIGH_AT}, got {high_at!r}')
        for name in init or {}:
            if name not in scores:
                raise UserError(
                    f'init names the score {name!r}{did_you_mean(name, scores)}; '
                    f'the scores are {list(scores)}'
                )
        init = {**DEFAULT_INIT, **(init or {})}
        missing = [name for name in scores if name not in init]
        if missing:
            raise UserError(f'init has no threshold for the scores {missing}')
        if isinstance(class_names, int):
            class_names = [str(label) for label in range(class_names)]
        self.class_names, self.score_names = list(class_names), list(scores)
        self.min_pool, self.decimals, self.high_at = min_pool, decimals, high_at
        start = torch.tensor([[float(init[name])] * len(self.class_names) for name in scores])
        self.register_buffer('high', start.clone())
        self.register_buffer('low', start.clone())
        self._init = start

    @torch.no_grad()
    def fit(self, pools: Mapping[tuple[str, int], Tensor]) -> None:
        """Refits all thresholds; classes whose pool is too small return to ``init``.

        Args:
            pools: (n,) scores of trusted predictions by (score name, class index).

        Raises:
            UserError: a pool of an unknown score or class, or one that is not finite.
        """
        for score, label in pools:
            if score not in self.score_names or not 0 <= label < len(self.class_names):
                raise UserError(
                    f'pool of score {score!r} and class {label}; the scores are '
                    f'{self.score_names}, the classes 0 to {len(self.class_names) - 1}'
                )
        high, low = self._init.clone(), self._init.clone()
        for row, name in enumerate(self.score_names):
            for column in range(len(self.class_names)):
                pool = pools.get((name, column))
                if pool is None or len(pool) < self.min_pool:
                    continue
                try:
                    small, large = two_means(pool)
                except ValueError as error:
                    where = f'scores {name!r} of class {self.class_names[column]!r}'
                    raise UserError(f'{where}: {error}') from error
                if self.high_at == 'boundary':
                    large = (small + large) / 2
                high[row, column] = floor_decimals(large, self.decimals)
                low[row, column] = floor_decimals(small, self.decimals)
        self.high.copy_(high)
        self.low.copy_(low)

    def levels(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Level of predictions.

        Args:
            scores: (N, S).
            labels: (N,) class indices, 0 to C - 1; the caller clamps -1 (no class) away, which
                would take the last class's thresholds.

        Returns:
            (N,) long: 2 where all scores exceed the high thresholds, 1 where all exceed the
            low ones, else 0.
        """
        above_high = (scores > self.high.T[labels]).all(1)
        above_low = (scores > self.low.T[labels]).all(1)
        return above_high.long() + (above_high | above_low).long()

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(N,) bool: at least ambiguous."""
        return self.levels(scores, labels) >= 1
