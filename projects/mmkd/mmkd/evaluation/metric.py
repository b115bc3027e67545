"""GLUE's metrics for mmengine's evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.evaluation import scores
from mmkd.registry import METRICS

CLASSES = dict(accuracy=scores.accuracy, f1=scores.f1, mcc=scores.matthews)
VALUES = dict(pearson=scores.pearson, spearman=scores.spearman)


@METRICS.register_module()
class ClassificationMetric(BaseMetric):
    """Accuracy, F1, Matthews, Pearson and Spearman correlation, in percent.

    Args:
        names: of :data:`CLASSES` or :data:`VALUES`; several are averaged as ``mean`` too,
            as GLUE does for MRPC, QQP and STS-B.
        collect_device: see mmengine.
        prefix: see mmengine.
    """

    def __init__(
        self,
        names: Sequence[str] = ('accuracy',),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        known = {**CLASSES, **VALUES}
        for name in names:
            if name not in known:
                near = did_you_mean(name, known)
                raise UserError(f'metric {name!r} is not known{near}; known: {sorted(known)}')
        if not names or (set(names) & set(CLASSES) and set(names) & set(VALUES)):
            raise UserError(f'names must be of classes or of values, got {list(names)}')
        self.names = tuple(names)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Notes labels and predictions.

        Args:
            data_batch: not used.
            data_samples: ``logits`` ``(C,)`` and ``label`` each.
        """
        for sample in data_samples:
            if sample['label'] is None:
                raise UserError('a metric needs labels: give the data set of val_dataloader label=')
            logits, label = sample['logits'].float().cpu(), float(sample['label'])
            found = float(logits.argmax()) if len(logits) > 1 else float(logits)
            self.results.append((label, found))

    def compute_metrics(self, results: list[tuple[float, float]]) -> dict[str, float]:
        """Scores in percent."""
        labels, found = np.array(results).T
        if set(self.names) & set(CLASSES):
            labels, found = labels.astype(int), found.astype(int)
        known = {**CLASSES, **VALUES}
        values = {name: 100 * known[name](labels, found) for name in self.names}
        if len(values) > 1:
            values['mean'] = float(np.mean(list(values.values())))
        return values
