"""How well a language model predicts the answers of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from mmdistill.core.errors import UserError
from mmkd.registry import METRICS


@METRICS.register_module()
class PerplexityMetric(BaseMetric):
    """``nll``, nats per token that counts, over all tokens of all rows, and its exponential.

    A mean over tokens, not over rows: it does not depend on how rows are put in batches.
    """

    default_prefix = 'language'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Notes ``nll`` (sum) and ``tokens`` of each row."""
        self.results += [(float(each['nll']), int(each['tokens'])) for each in data_samples]

    def compute_metrics(self, results: list[tuple[float, int]]) -> dict[str, float]:
        """The scores.

        Raises:
            UserError: no token counts.
        """
        tokens = sum(count for _, count in results)
        if not tokens:
            raise UserError('no token of the validation data has a label: check its responses')
        nll = sum(total for total, _ in results) / tokens
        return dict(nll=nll, perplexity=math.exp(min(nll, 700.0)))
