"""A language model grades answers against reference answers, as in Orca (arXiv:2306.02707).

The relative score is the sum of the candidate's grades over the sum of the reference's. That the
reference is shown first in the paper is hearsay; judges prefer an answer for its place, so that
both orders are our default.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml

from mmdistill.core.errors import UserError
from mmkd.evaluation.language.asking import ask_all
from mmkd.teachers.base import Teacher
from mmkd.traces.schema import Query, Sampling

Order = Literal['ref_first', 'cand_first', 'both']
ORDERS = dict(
    ref_first=('ref_first',), cand_first=('cand_first',), both=('ref_first', 'cand_first')
)
PROMPT = Path(__file__).with_name('judge_prompt.yaml')
_GRADE = r'(\d+(?:\.\d+)?)(?:\s*/\s*10)?'
_STRICT = re.compile(rf'^\s*Scores:\s*{_GRADE}\s+{_GRADE}\s*$', re.MULTILINE)
_LOOSE = (
    re.compile(rf'^[\s*_]*scores?[\s*_:]*{_GRADE}[\s,;&*]+(?:and\s+)?{_GRADE}\b', re.M | re.I),
    re.compile(rf'^[\s*_]*{_GRADE}[\s,;&]+{_GRADE}[\s*_.]*$', re.MULTILINE),
    re.compile(
        rf'(?:answer|assistant)\s*1[\s*_:=-]+{_GRADE}\b.*?'
        rf'(?:answer|assistant)\s*2[\s*_:=-]+{_GRADE}\b',
        re.IGNORECASE | re.DOTALL,
    ),
)


@dataclass(frozen=True)
class Case:
    """Two answers to a question.

    Attributes:
        uid: of the question.
        question: text.
        reference: the answer that counts as 100 %.
        candidate: the answer that is measured.
        task: name of a group of questions.
    """

    uid: str
    question: str
    reference: str
    candidate: str
    task: str = 'task'


@dataclass(frozen=True)
class Score:
    """How good candidates are.

    Attributes:
        relative: sum of the candidate's grades over that of the reference; NaN: no grades.
        candidate: mean grade.
        reference: mean grade.
        n: questions that count.
        excluded: questions that do not, for a judgement without grades.
        unparsed: judgements without grades.
    """

    relative: float
    candidate: float
    reference: float
    n: int
    excluded: int
    unparsed: int


Grades = tuple[float, float] | None
"""Of reference and candidate; None: the judgement has none."""


def parse_grades(text: str) -> tuple[float, float] | None:
    """Grades of the first and the second answer.

    The first line ``Scores: 7 8`` counts; without one a line that begins with score and two
    grades, one of two numbers alone, or two grades behind "answer 1" and "answer 2". Anything below
    1 or above 10 makes a judgement void.

    Args:
        text: the judgement.
    """
    for pattern in (_STRICT, *_LOOSE):
        found = pattern.search(text)
        if found:
            first, second = float(found[1]), float(found[2])
            return (first, second) if all(1 <= each <= 10 for each in (first, second)) else None
    return None


def relative_score(judged: Sequence[Sequence[Grades]]) -> Score:
    """The score of questions.

    A question counts with the mean over its orders, and only where all of them have grades.

    Args:
        judged: grades of every question in one or two orders.
    """
    whole = [grades for grades in judged if None not in grades]
    sums = [sum(sum(each[n] for each in grades) / len(grades) for grades in whole) for n in (0, 1)]
    count = len(whole)
    reference, candidate = (total / count if count else float('nan') for total in sums)
    return Score(
        relative=candidate / reference,
        candidate=candidate,
        reference=reference,
        n=count,
        excluded=len(judged) - count,
        unparsed=sum(grades.count(None) for grades in map(list, judged)),
    )


@lru_cache(maxsize=8)
def load_prompt(path: str | Path = PROMPT) -> tuple[str, str]:
    """System message and question of a judge.

    Args:
        path: YAML with ``system`` and ``user``; ``user`` has ``{question}``, ``{first}`` and
            ``{second}``.

    Raises:
        UserError: no such file, or one of another form.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
        system, user = content['system'], content['user']
        for name in ('question', 'first', 'second'):
            if f'{{{name}}}' not in user:
                raise UserError(f'{path}: user has no {{{name}}}')
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f'{path}: needs the texts system and user: {error}') from error
    return system, user


def judge_query(case: Case, order: str, prompt: str | Path = PROMPT) -> Query:
    """What the judge is asked.

    Args:
        case: answers.
        order: ``ref_first`` or ``cand_first``.
        prompt: file, see :func:`load_prompt`.
    """
    system, user = load_prompt(prompt)
    answers = [case.reference, case.candidate]
    first, second = answers if order == 'ref_first' else reversed(answers)
    filled = dict(question=case.question, first=first, second=second)
    return Query(
        source_uid=f'{case.uid}/{order}',
        sub_collection='judge',
        task_name=case.task,
        system_text=system,
        user_text=re.sub(r'\{(question|first|second)\}', lambda name: filled[name[1]], user),
    )


def judge_all(
    teacher: Teacher,
    cases: Sequence[Case],
    order: Order = 'both',
    sampling: Sampling | None = None,
    cache: str | Path | None = None,
    prompt: str | Path = PROMPT,
) -> list[list[Grades]]:
    """Grades of every case in each of its orders.

    Args:
        teacher: the judge.
        cases: answers.
        order: which answer the judge reads first; ``both``: it is asked twice.
        sampling: how it draws; None: greedily.
        cache: JSON lines of what it said, which it is not asked again.
        prompt: file, see :func:`load_prompt`.

    Raises:
        UserError: an unknown order, or the teacher cannot be asked at all.
    """
    if order not in ORDERS:
        raise UserError(f'order of a judge must be one of {list(ORDERS)}, got {order!r}')
    orders = ORDERS[order]
    queries = [judge_query(case, each, prompt) for case in cases for each in orders]
    traces = ask_all(teacher, queries, sampling or Sampling(temperature=0), cache)
    found: list[Grades] = []
    for number, trace in enumerate(traces):
        grades = parse_grades(trace.response_text)
        swapped = orders[number % len(orders)] == 'cand_first'
        found.append((grades[1], grades[0]) if grades and swapped else grades)
    return [found[n : n + len(orders)] for n in range(0, len(found), len(orders))]


def scores_by_task(cases: Sequence[Case], judged: Sequence[Sequence[Grades]]) -> dict[str, Score]:
    """Scores of every task, and of all questions as ``all``."""
    tasks: dict[str, list[Sequence[Grades]]] = {}
    for case, grades in zip(cases, judged, strict=True):
        tasks.setdefault(case.task, []).append(grades)
    return {
        **{task: relative_score(tasks[task]) for task in sorted(tasks)},
        'all': relative_score(judged),
    }


def as_numbers(scores: dict[str, Score]) -> dict[str, float]:
    """Scores as ``NAME/TASK``, the relative one in percent."""
    return {
        f'{name}/{task}': 100 * value if name == 'relative' else value
        for task, score in scores.items()
        for name, value in asdict(score).items()
    }
