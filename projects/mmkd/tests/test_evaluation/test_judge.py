"""A judge: grades from text, a ratio of sums, both orders, void judgements, no second call."""

import math
from dataclasses import replace

import pytest
from tiny_language import Judge

from mmdistill.core.errors import UserError
from mmkd.evaluation.language.judge import (
    PROMPT,
    Case,
    judge_all,
    judge_query,
    load_prompt,
    parse_grades,
    relative_score,
    scores_by_task,
)
from mmkd.evaluation.language.judge_metric import JudgeRelativeScore
from mmkd.registry import TEACHERS
from mmkd.traces.schema import Sampling, Trace, read_record

CASES = [
    Case('1', 'One?', '8', '4', 'easy'),
    Case('2', 'Two?', '2', '6', 'easy'),
    Case('3', 'Three?', '10', '5', 'hard'),
]


def honest(first, second):
    """Grades that stand in the answers."""
    return f'Scores: {first} {second}\nBecause.'


def biased(first, second):
    """Favours what it reads first."""
    return f'Scores: {min(10, int(first) + 2)} {second}'


def swapped(cases):
    """Reference and candidate in each other's place."""
    return [replace(each, reference=each.candidate, candidate=each.reference) for each in cases]


@pytest.mark.parametrize(
    ('text', 'grades'),
    [
        ('Scores: 7 8', (7, 8)),
        ('Let me see.\n  Scores: 7.5 10\nScores: 1 1', (7.5, 10)),
        ('Scores: 7/10 8/10', (7, 8)),
        ('scores: 7, 8', (7, 8)),
        ('**Scores:** 7 and 8', (7, 8)),
        ('9 3\nThe first one is better', (9, 3)),
        ('7/10, 8/10', (7, 8)),
        ('Answer 1: 6/10, for it is short. Answer 2: 9/10.', (6, 9)),
        ('Scores: 0 8', None),
        ('Scores: 11 8\n5 5', None),
        ('Scores: 7', None),
        ('I cannot say', None),
        ('There are 2 of 3 facts', None),
        ('', None),
    ],
)
def test_grades_of_a_text(text, grades):
    assert parse_grades(text) == grades


def test_a_ratio_of_sums_is_no_mean_of_ratios():
    score = relative_score([[(8, 4)], [(2, 6)], [(10, 5)]])
    assert score.relative == pytest.approx(15 / 20)
    assert score.relative != pytest.approx((4 / 8 + 6 / 2 + 5 / 10) / 3)
    assert (score.reference, score.candidate, score.n) == (20 / 3, 5, 3)


def test_void_judgements_count_in_neither_sum():
    score = relative_score([[(8, 4), (6, 2)], [(1, 10), None], [None, None], [(3, 3), (3, 3)]])
    assert score.relative == pytest.approx((3 + 3) / (7 + 3))
    assert (score.n, score.excluded, score.unparsed) == (2, 2, 3)
    none = relative_score([[None]])
    assert math.isnan(none.relative) and (none.n, none.excluded, none.unparsed) == (0, 1, 1)


@pytest.mark.parametrize('order', ['ref_first', 'cand_first', 'both'])
def test_an_honest_judge_says_the_same_in_every_order(order):
    teacher = Judge(honest)
    judged = judge_all(teacher, CASES, order)
    assert [set(row) for row in judged] == [{(8, 4)}, {(2, 6)}, {(10, 5)}]
    assert teacher.calls == len(CASES) * (2 if order == 'both' else 1)
    assert teacher.entered == 0


def test_both_orders_are_symmetric_under_a_swap():
    def score(cases, order):
        return relative_score(judge_all(Judge(biased), cases, order)).relative

    assert score(CASES, 'both') * score(swapped(CASES), 'both') == pytest.approx(1)
    # sums: reference 8 + 2 + 10 and one more for its half of the bias, 10 at most
    assert score(CASES, 'both') == pytest.approx((5 + 7 + 6) / (9 + 3 + 10))
    for order in ('ref_first', 'cand_first'):
        assert score(CASES, order) * score(swapped(CASES), order) != pytest.approx(1)
    assert score(CASES, 'ref_first') < score(CASES, 'both') < score(CASES, 'cand_first')


def test_a_second_run_makes_no_call(tmp_path):
    path = tmp_path / 'judged.jsonl'
    first = judge_all(Judge(honest), CASES, 'both', cache=path)
    again = Judge(honest)
    assert judge_all(again, CASES[::-1], 'both', cache=path) == first[::-1] and again.calls == 0
    assert judge_all(again, CASES, 'ref_first', cache=path) and again.calls == 0
    rows = [read_record(Trace, line, 'row') for line in path.read_text().splitlines()]
    assert len(rows) == len({row.row_key for row in rows}) == 6
    assert {row.source_uid for row in rows} >= {'1/ref_first', '3/cand_first'}
    # another judge, other sampling and another prompt are asked
    other = tmp_path / 'other.yaml'
    other.write_text(PROMPT.read_text().replace('clear?', 'clear to a child?'))
    judge_all(again, CASES[:1], 'ref_first', Sampling(temperature=1), path)
    judge_all(again, CASES[:1], 'ref_first', cache=path, prompt=other)
    stranger = Judge(honest, name='stranger')
    judge_all(stranger, CASES[:1], 'ref_first', cache=path)
    assert again.calls == 2 and stranger.calls == 1


def test_what_was_said_before_a_failure_is_kept(tmp_path):
    path = tmp_path / 'judged.jsonl'

    class Failing(Judge):
        """Refuses from the fourth question on."""

        async def agenerate(self, messages, sampling):
            if self.calls == 3:
                raise UserError('key is not accepted')
            return await super().agenerate(messages, sampling)

    failing = Failing(honest, concurrency=1)
    with pytest.raises(UserError, match='key is not accepted'):
        judge_all(failing, CASES, 'both', cache=path)
    assert failing.entered == 0
    path.write_bytes(path.read_bytes()[:-20])  # and the last line is torn
    rest = Judge(honest)
    assert judge_all(rest, CASES, 'both', cache=path) == judge_all(Judge(honest), CASES, 'both')
    assert rest.calls == 6 - 2


def test_as_many_at_once_as_the_teacher_wants():
    cases = [replace(CASES[0], uid=str(n), question=str(n)) for n in range(20)]
    for concurrency in (1, 4):
        teacher = Judge(honest, concurrency=concurrency)
        judge_all(teacher, cases, 'ref_first')
        assert teacher.most == concurrency and teacher.calls == 20
    teacher = Judge(honest)
    judge_all(teacher, [CASES[0]] * 5, 'ref_first')
    assert teacher.calls == 1


def test_texts_of_answers_are_no_fields_of_the_prompt():
    case = Case('1', '{first}', '{second} {x}', '{question}')
    first, second = (judge_query(case, each).user_text for each in ('ref_first', 'cand_first'))
    assert '<answer number="1">\n{second} {x}\n' in first and '\n{first}\n</question>' in first
    assert '<answer number="1">\n{question}\n' in second


def test_metric():
    TEACHERS.register_module(name='HonestJudge', module=lambda: Judge(honest), force=True)
    try:
        metric = JudgeRelativeScore(dict(type='HonestJudge'), sampling=dict(max_tokens=9))
    finally:
        TEACHERS.module_dict.pop('HonestJudge')
    for case in CASES:
        sample = dict(uid=case.uid, question=case.question, reference=case.reference)
        metric.process(None, [dict(sample, response=case.candidate, task=case.task)])
    found = metric.evaluate(3)
    assert found['relative/all'] == pytest.approx(75)
    assert found['relative/easy'] == pytest.approx(100) and found['n/easy'] == 2
    assert found['relative/hard'] == pytest.approx(50) and found['unparsed/all'] == 0
    assert found['candidate/hard'] == 5 and found['reference/hard'] == 10


def test_scores_by_task_have_their_own_sums():
    scores = scores_by_task(CASES, [[(8, 4)], [None], [(10, 5)]])
    assert list(scores) == ['easy', 'hard', 'all']
    assert (scores['easy'].n, scores['easy'].unparsed, scores['hard'].unparsed) == (1, 1, 0)


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(UserError, match="must be one of .* got 'reference'"):
        judge_all(Judge(honest), CASES, 'reference')
    path = tmp_path / 'prompt.yaml'
    with pytest.raises(UserError, match='prompt.yaml: No such file'):
        load_prompt(path)
    path.write_text('system: s\nuser: "{question} {first}"')
    with pytest.raises(UserError, match='user has no {second}'):
        load_prompt(path)
    path = tmp_path / 'another.yaml'
    path.write_text('just text')
    with pytest.raises(UserError, match='needs the texts system and user'):
        load_prompt(path)
