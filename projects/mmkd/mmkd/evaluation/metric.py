"""GLUE's metrics, and those of probabilities, for mmengine's evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.evaluation import scores
from mmkd.registry import METRICS

CLASSES = dict(accuracy=scores.accuracy, f1=scores.f1, mcc=scores.matthews)
VALUES = dict(pearson=scores.pearson, spearman=scores.spearman)
LOGITS = dict(auc=scores.auc, logloss=scores.logloss, top5=scores.top5)


@METRICS.register_module()
class ClassificationMetric(BaseMetric):
    """Scores in percent, and the log loss in nats.

    Args:
        names: of :data:`CLASSES` and :data:`LOGITS` (accuracy, F1, Matthews correlation, area under
            the ROC curve, log loss, top-5 accuracy), or of :data:`VALUES` (Pearson and Spearman
            correlation). Several of :data:`CLASSES` or :data:`VALUES` are averaged as ``mean`` too,
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
        known = {**CLASSES, **VALUES, **LOGITS}
        for name in names:
            if name not in known:
                near = did_you_mean(name, known)
                raise UserError(f'metric {name!r} is not known{near}; known: {sorted(known)}')
        if not names or (set(names) & {*CLASSES, *LOGITS} and set(names) & set(VALUES)):
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
            kept = self._of_logits(logits) if set(self.names) & set(LOGITS) else None
            self.results.append((label, found, kept))

    def _of_logits(self, logits: Tensor) -> np.ndarray:
        """Logits of a sample."""
        if len(logits) < 2:
            raise UserError(
                f'{list(self.names)} need the logits of two classes or more, got one output'
            )
        return logits.numpy()

    def compute_metrics(
        self, results: list[tuple[float, float, np.ndarray | None]]
    ) -> dict[str, float]:
        """Scores."""
        labels, found = (np.array([each[n] for each in results]) for n in (0, 1))
        if not set(self.names) & set(VALUES):
            labels, found = labels.astype(int), found.astype(int)
        values = {}
        for name in self.names:
            if name in LOGITS:
                value = LOGITS[name](labels, np.stack([each[2] for each in results]).astype(float))
            else:
                value = {**CLASSES, **VALUES}[name](labels, found)
            values[name] = value if name == 'logloss' else 100 * value
        averaged = [value for name, value in values.items() if name not in LOGITS]
        if len(averaged) > 1:
            values['mean'] = float(np.mean(averaged))
        return values
