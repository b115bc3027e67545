"""A judge's relative score for mmengine's evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from mmkd.evaluation.language.judge import (
    PROMPT,
    Case,
    Order,
    as_numbers,
    judge_all,
    scores_by_task,
)
from mmkd.registry import METRICS, TEACHERS
from mmkd.teachers.base import Teacher
from mmkd.traces.schema import Sampling


@METRICS.register_module()
class JudgeRelativeScore(BaseMetric):
    """Grades of answers relative to reference answers, see :mod:`mmkd.evaluation.language.judge`.

    ``relative/TASK`` in percent, the mean grades ``candidate/TASK`` and ``reference/TASK``, and
    the counts ``n/TASK``, ``excluded/TASK`` and ``unparsed/TASK``; the task ``all`` has every
    question.

    Args:
        teacher: the judge, or its config.
        order: see :func:`mmkd.evaluation.language.judge.judge_all`.
        sampling: values of :class:`mmkd.traces.schema.Sampling`; None: greedy.
        cache: file that the judgements are kept in.
        prompt: file of the judge's prompt.
        collect_device: see mmengine.
        prefix: see mmengine.
    """

    def __init__(
        self,
        teacher: Teacher | Mapping[str, Any],
        order: Order = 'both',
        sampling: Mapping[str, Any] | None = None,
        cache: str | None = None,
        prompt: str | Path = PROMPT,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.teacher = TEACHERS.build(dict(teacher)) if isinstance(teacher, Mapping) else teacher
        self.sampling = None if sampling is None else Sampling(**sampling)
        self.order, self.cache, self.prompt = order, cache, prompt

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Notes answers.

        Args:
            data_batch: not used.
            data_samples: ``uid``, ``question``, ``reference`` and ``response`` each, and perhaps
                ``task``.
        """
        self.results.extend(
            Case(
                each['uid'],
                each['question'],
                each['reference'],
                each['response'],
                each.get('task', 'task'),
            )
            for each in data_samples
        )

    def compute_metrics(self, results: list[Case]) -> dict[str, float]:
        """Asks the judge what it was not asked before, on one rank."""
        judged = judge_all(
            self.teacher, results, self.order, self.sampling, self.cache, self.prompt
        )
        return as_numbers(scores_by_task(results, judged))
