"""Relative score of one model's answers against another's, by a language model as judge.

Both hold traces, Parquet or JSON lines, as a collection or ``evaluate_traces.py --answers`` writes
them; answers to the same question belong together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdistill.core import launch
from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, run_tool
from mmkd.evaluation.language.judge import (
    ORDERS,
    PROMPT,
    Case,
    as_numbers,
    judge_all,
    scores_by_task,
)
from mmkd.language.trace_rows import trace_files
from mmkd.registry import TEACHERS
from mmkd.traces.rows import Place, read_records
from mmkd.traces.schema import Sampling, Trace, from_columns, read_record

ANSWERED = ('ok', 'refused', 'truncated', 'empty')
"""Statuses of traces that have an answer, even a poor one."""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('reference', type=Path, help='answers that count as 100 %%')
    parser.add_argument('candidate', type=Path, help='answers that are graded')
    parser.add_argument('--judge', required=True, help='config with teacher = dict(type=...)')
    parser.add_argument('--order', choices=list(ORDERS), default='both', help='shown first')
    parser.add_argument('--max-tokens', type=int, default=1024, help='of a judgement')
    parser.add_argument('--prompt', default=PROMPT, help='YAML file of another prompt')
    parser.add_argument('--cache', help='file of judgements, which are not asked for again')
    parser.add_argument('--out', help='JSON file of the scores')
    return parser.parse_args(argv)


def read_answers(path: Path) -> dict[str, Trace]:
    """Traces with an answer by the key of their query."""
    found: dict[str, Trace] = {}
    for file in trace_files(path):
        for _, trace in read_records(file, as_trace):
            if trace.status in ANSWERED:
                found.setdefault(trace.query_key, trace)
    return found


def as_trace(row: Mapping[str, Any], place: Place) -> Trace:
    """The trace of a row of either kind of file."""
    if 'query_key' in row:
        return from_columns(row)
    return read_record(Trace, json.dumps(row), str(place))


def paired(reference: Path, candidate: Path) -> list[Case]:
    """Answers to the same questions, in the order of the candidate's file."""
    given, measured = read_answers(reference), read_answers(candidate)
    cases = [
        Case(key, each.user_text, given[key].response_text, each.response_text, each.task_name)
        for key, each in measured.items()
        if key in given
    ]
    if not cases:
        raise UserError(f'{candidate} answers no question that {reference} answers')
    return cases


def main(argv: Sequence[str] | None = None) -> int:
    """Judges."""
    args = parse_args(argv)
    cases = paired(args.reference, args.candidate)
    teacher = launch.read_config(args.judge).get('teacher')
    if not teacher:
        raise UserError(f'{args.judge}: needs teacher = dict(type=...)')
    sampling = Sampling(temperature=0, max_tokens=args.max_tokens)
    judged = judge_all(
        TEACHERS.build(teacher), cases, args.order, sampling, args.cache, args.prompt
    )
    scores = scores_by_task(cases, judged)
    for task, score in scores.items():
        print(
            f'{task:40} {100 * score.relative:6.1f} %  {score.candidate:5.2f} of '
            f'{score.reference:5.2f}  n={score.n}  excluded={score.excluded}'
        )
    if args.out:
        text = json.dumps(as_numbers(scores), indent=1)
        write_atomic(args.out, lambda file: file.write(text.encode()))
    return 0


if __name__ == '__main__':
    run_tool(main)
