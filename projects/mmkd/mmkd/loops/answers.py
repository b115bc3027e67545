"""Evaluation of a language model by the answers that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.evaluator import Evaluator

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmkd.datasets.tokenizers import tokenizer_of
from mmkd.evaluation.language.prompts import answer_all
from mmkd.evaluation.language.readers import item_of
from mmkd.language.query_data import QueryData
from mmkd.language.templates import Template, template_of
from mmkd.loops.scoring import ScoringLoop
from mmkd.registry import LOOPS


@LOOPS.register_module()
class AnswerLoop(ScoringLoop):
    """Asks all questions, greedily, and scores the answers; ranks share the questions.

    Args:
        runner: the runner; its model is a :class:`mmkd.language.causal_student.CausalStudent`.
        dataloader: of a :class:`~mmkd.language.query_data.QueryData`; its ``batch_size`` is that
            of a forward.
        evaluator: of a :class:`~mmkd.evaluation.language.multiple_choice.MultipleChoiceMetric`.
        tokenizer: folder, or config of one.
        template: of the prompts, that of the training.
        max_new_tokens: of an answer.

    Raises:
        UserError: other data, or a question without a target.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        tokenizer: str | Mapping[str, Any],
        template: str | Mapping[str, Any] | Template = 'plain',
        max_new_tokens: int = 128,
    ) -> None:
        super().__init__(runner, dataloader)
        self.evaluator = (
            evaluator if isinstance(evaluator, Evaluator) else runner.build_evaluator(evaluator)
        )
        data = self.dataloader.dataset
        if not isinstance(data, QueryData):
            raise UserError(
                f'{type(self).__name__} asks questions, its data set must be QueryFiles or alike, '
                f'got {type(data).__name__}'
            )
        for query in data.queries:
            if query.target is None:
                raise UserError(f'{query.source_uid} has no target to compare an answer with')
        self.tokenizer, self.template = tokenizer_of(tokenizer), template_of(template)
        self.max_new_tokens = max_new_tokens

    def scores(self) -> dict[str, float]:
        """The evaluator's scores of the answers."""
        rank, world = get_dist_info()
        queries = self.dataloader.dataset.queries
        own = queries[rank::world]
        answers = answer_all(
            bare_model(self.runner).network,
            self.tokenizer,
            own,
            self.template,
            self.dataloader.batch_size,
            self.max_new_tokens,
        )
        samples = []
        for query, answer in zip(own, answers, strict=True):
            item = item_of(query)
            samples.append(
                dict(response=answer.text, labels=item.labels, target=item.target, task=item.task)
            )
        self.evaluator.process(samples)
        return self.evaluator.evaluate(len(queries))


@LOOPS.register_module()
class AnswerTestLoop(AnswerLoop):
    """:class:`AnswerLoop` as ``test_cfg``."""

    stage = 'test'
