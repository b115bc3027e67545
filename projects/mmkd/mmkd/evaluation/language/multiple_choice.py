"""Accuracy of replies to multiple-choice questions, by several parsers side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmdistill.core.errors import UserError
from mmkd.evaluation.language.parsers import anchored, first_capital, free_text, normalised
from mmkd.registry import METRICS

PARSERS: dict[str, Callable[[str, Sequence[str]], str | None]] = dict(
    first_capital=first_capital, anchored=anchored
)
Row = tuple[str, dict[str, bool], dict[str, bool]]
"""Task, and by parser: whether the answer is right, and whether there is none."""


@METRICS.register_module()
class MultipleChoiceMetric(BaseMetric):
    """Percentages of right answers per task, and their mean over tasks.

    ``PARSER/TASK`` and ``PARSER/mean`` for each of ``first_capital`` and ``anchored`` of
    :mod:`mmkd.evaluation.language.parsers`, for ``loglik``, the option with the largest
    log-likelihood where samples have them, for ``free_text``, questions without labels, and for
    ``answer``, all questions: ``anchored`` of those with labels, ``free_text`` of the others.
    ``PARSER/unparsed`` is the share of replies without an answer, which are wrong ones.
    ``format_penalty`` is what reading a reply like Orca's parser (arXiv:2306.02707) costs: the mean
    of ``anchored`` less that of ``first_capital``. ``n/TASK`` counts questions.

    Args:
        collect_device: see mmengine.
        prefix: see mmengine.
    """

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reads replies.

        Args:
            data_batch: not used.
            data_samples: ``response``, ``labels`` (empty for free text), ``target``, ``task``, and
                perhaps ``loglik``, a number for each label.

        Raises:
            UserError: other numbers of log-likelihoods than of labels.
        """
        self.results.extend(_read(sample) for sample in data_samples)

    def compute_metrics(self, results: list[Row]) -> dict[str, float]:
        """Percentages."""
        values: dict[str, float] = {}
        for name in (*PARSERS, 'loglik', 'free_text', 'answer'):
            tasks: dict[str, list[bool]] = {}
            for task, right, _ in results:
                if name in right:
                    tasks.setdefault(task, []).append(right[name])
            if not tasks:
                continue
            shares = {task: 100 * float(np.mean(tasks[task])) for task in sorted(tasks)}
            values.update({f'{name}/{task}': share for task, share in shares.items()})
            values[f'{name}/mean'] = float(np.mean(list(shares.values())))
            missing = [absent[name] for _, _, absent in results if name in absent]
            values[f'{name}/unparsed'] = 100 * float(np.mean(missing))
        if 'anchored/mean' in values:
            values['format_penalty'] = values['anchored/mean'] - values['first_capital/mean']
        for task in sorted({task for task, _, _ in results}):
            values[f'n/{task}'] = sum(task == other for other, _, _ in results)
        return values


def _read(sample: dict[str, Any]) -> Row:
    """What the parsers say of a sample."""
    reply, labels, target = sample['response'], list(sample['labels']), sample['target']
    if not labels:
        found = {'free_text': free_text(reply)}
        target = normalised(target)
    else:
        found = {name: parse(reply, labels) for name, parse in PARSERS.items()}
        scores = sample.get('loglik')
        if scores is not None:
            if len(scores) != len(labels):
                raise UserError(
                    f'{sample["task"]}: {len(scores)} log-likelihoods of {len(labels)} labels'
                )
            found['loglik'] = labels[int(np.argmax(scores))]
    found['answer'] = found.get('anchored', found.get('free_text'))
    right = {name: answer == target for name, answer in found.items()}
    return sample['task'], right, {name: answer is None for name, answer in found.items()}
