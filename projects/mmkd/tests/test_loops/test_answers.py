"""Evaluation by answers: each question once, by ranks in turn; the training goes on as it was."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import Evaluator
from torch.utils.data import DataLoader

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmkd.evaluation.language.multiple_choice import MultipleChoiceMetric
from mmkd.evaluation.language.prompts import Answer
from mmkd.language.query_data import QueryData
from mmkd.loops import answers
from mmkd.loops.answers import AnswerLoop, AnswerTestLoop
from mmkd.traces.schema import Query

QUESTIONS = [
    Query(source_uid=str(n), user_text=f'What is {n} + 1?', target=str(n + 1), task_name='sums')
    for n in range(5)
]
CHOICE = Query(
    source_uid='c', user_text='Which?\nOptions:\n(A) a\n(B) b', target='(B)', task_name='choice'
)


class Runner(SimpleNamespace):
    """As much of a runner as the loop asks for."""

    def call_hook(self, name, **given):
        self.called.append((name, given.get('metrics')))


def loop_of(queries, kind=AnswerLoop, **settings):
    """A loop over queries."""
    runner = Runner(called=[], model=SimpleNamespace(network='network'))
    data = queries if not isinstance(queries, list) else QueryData(queries)
    loader = DataLoader(data, batch_size=3, collate_fn=list)
    settings = {'tokenizer': dict(type='mmkd.WorldTokenizer'), **settings}
    return kind(runner, loader, Evaluator([MultipleChoiceMetric()]), **settings)


@pytest.fixture
def said(monkeypatch):
    """What the network says: the right sum below 3, the first option; and what it was asked."""
    asked = []

    def answer_all(network, tokenizer, queries, template, batch, max_new_tokens):
        torch.rand(3)  # as sampling would
        asked.append(([query.source_uid for query in queries], template.name, batch))
        texts = [
            'The answer is (A).' if query.is_mc or 'Options' in query.user_text else
            f'I think so. The answer is {query.target if int(query.source_uid) < 3 else "none"}.'
            for query in queries
        ]  # fmt: skip
        return [Answer(text, 'stop', 4) for text in texts]

    monkeypatch.setattr(answers, 'answer_all', answer_all)
    return asked


@pytest.mark.parametrize(('kind', 'stage'), [(AnswerLoop, 'val'), (AnswerTestLoop, 'test')])
def test_answers_are_scored(said, kind, stage):
    loop = loop_of([*QUESTIONS, CHOICE], kind, template='chatml')
    state = torch.get_rng_state()
    scores = loop.run()
    assert torch.equal(state, torch.get_rng_state())
    assert said == [(['0', '1', '2', '3', '4', 'c'], 'chatml', 3)]
    assert scores['answer/sums'] == pytest.approx(60.0)
    assert scores['answer/choice'] == 0.0 and scores['answer/mean'] == pytest.approx(30.0)
    names = [name for name, _ in loop.runner.called]
    ends = (f'before_{stage}', f'before_{stage}_epoch', f'after_{stage}_epoch', f'after_{stage}')
    assert names == list(ends) and loop.runner.called[2][1] == scores


def test_ranks_share_the_questions(said, monkeypatch):
    for rank in range(2):
        monkeypatch.setattr(answers, 'get_dist_info', lambda rank=rank: (rank, 2))
        loop_of(QUESTIONS).run()
    assert [asked[0] for asked in said] == [['0', '2', '4'], ['1', '3']]


def test_other_data_and_questions_without_a_target_are_refused():
    with pytest.raises(UserError, match='its data set must be QueryFiles or alike, got Tensor'):
        loop_of(torch.utils.data.TensorDataset(torch.zeros(3)))
    with pytest.raises(UserError, match='x has no target to compare an answer with'):
        loop_of([Query(source_uid='x', user_text='?')])
