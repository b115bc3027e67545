"""Answers of a trained language model to BIG-Bench Hard, AGIEval or queries of your own, scored."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, run_tool
from mmkd.collection.answers import Job, trace_of
from mmkd.datasets.tokenizers import load_tokenizer
from mmkd.evaluation.language import prompts, readers
from mmkd.evaluation.language.multiple_choice import MultipleChoiceMetric
from mmkd.evaluation.language.options_score import score_options
from mmkd.language.language_model import language_model
from mmkd.language.templates import TEMPLATES
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Query, Sampling, Trace, row_key

LOGLIK = dict(none=None, sum=None, token='token', byte='byte')


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', type=Path, help='folder of save_pretrained, tokenizer included')
    parser.add_argument('--bbh', help='folder of BIG-Bench Hard tasks')
    parser.add_argument('--tasks', nargs='+', help='of BIG-Bench Hard; all by default')
    parser.add_argument('--agieval', nargs='+', default=[], help='files of AGIEval')
    parser.add_argument('--queries', nargs='+', default=[], help='JSON lines of queries')
    parser.add_argument('--limit', type=int, help='questions per task, the first ones')
    parser.add_argument('--template', choices=list(TEMPLATES), default='plain', help='of training')
    parser.add_argument(
        '--loglik',
        choices=list(LOGLIK),
        default='none',
        help='scores options by their log-likelihood too: its sum, or its mean per token or byte',
    )
    parser.add_argument('--batch', type=int, default=8, help='prompts of a forward')
    parser.add_argument('--max-new-tokens', type=int, default=256, help='of an answer')
    parser.add_argument('--dtype', default='float32', help='of the parameters')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--cache', help='file of answers, which are not made again')
    parser.add_argument('--answers', help='JSON lines of traces to write, for judge_answers.py')
    parser.add_argument('--out', help='JSON file of the scores')
    return parser.parse_args(argv)


def read_items(args: argparse.Namespace) -> list[tuple[readers.Item, Query]]:
    """Questions of all benchmarks that are named."""
    found = []
    if args.bbh:
        items = readers.read_bbh(args.bbh, args.tasks)
        found += [(item, item.query('bbh')) for item in items]
    for path in args.agieval:
        found += [(item, item.query('agieval')) for item in readers.read_agieval(path)]
    for path in args.queries:
        found += [(item, item.query()) for item in readers.read_queries(path)]
    if not found:
        raise UserError('nothing to answer: give --bbh, --agieval or --queries')
    seen: Counter[str] = Counter()
    kept = []
    for item, query in found:
        seen[item.task] += 1
        if args.limit is None or seen[item.task] <= args.limit:
            kept.append((item, query))
    return kept


def option_scores(
    model: nn.Module,
    tokenizer: Any,
    items: Sequence[readers.Item],
    queries: Sequence[Query],
    args: argparse.Namespace,
) -> list[list[float] | None]:
    """Log-likelihoods of the labels of each question as the answer; None: it has no labels."""
    asked = [number for number, item in enumerate(items) if item.labels]
    scores = score_options(
        model,
        tokenizer,
        [queries[number] for number in asked],
        [items[number].labels for number in asked],
        args.template,
        LOGLIK[args.loglik],
        args.batch,
    )
    found: list[list[float] | None] = [None] * len(items)
    for number, score in zip(asked, scores, strict=True):
        found[number] = score
    return found


def traces(
    queries: Sequence[Query], answers: Sequence[prompts.Answer], args: argparse.Namespace
) -> list[Trace]:
    """Answers with their questions."""
    sampling = Sampling(temperature=0, max_tokens=args.max_new_tokens)
    name = args.model.resolve().name
    replies = [Reply(answer.text, answer.finish_reason, endpoint_id='local') for answer in answers]
    jobs = [Job(row_key(query, name, sampling), query) for query in queries]
    pairs = zip(jobs, replies, strict=True)
    return [trace_of(job, name, sampling, reply) for job, reply in pairs]


def print_table(values: dict[str, float], counts: dict[str, dict[str, int]]) -> None:
    """A line for each task, then the means."""
    names = ('first_capital', 'anchored', 'loglik', 'free_text')
    names = [name for name in names if f'{name}/mean' in values]
    print(f'{"":44}{"n":>6}' + ''.join(f'{name:>15}' for name in names))
    for task in [*counts, 'mean', 'unparsed']:
        cells = [values.get(f'{name}/{task}') for name in names]
        shown = ''.join(f'{"" if cell is None else f"{cell:.1f}":>15}' for cell in cells)
        print(f'{task:44}{counts.get(task, {}).get("n", ""):>6}{shown}')
    if 'format_penalty' in values:
        print(f'format penalty {values["format_penalty"]:.1f}')


def main(argv: Sequence[str] | None = None) -> int:
    """Answers and scores."""
    args = parse_args(argv)
    found = read_items(args)
    items, queries = [item for item, _ in found], [query for _, query in found]
    tokenizer = load_tokenizer(args.model)
    model = language_model(pretrained=str(args.model), dtype=args.dtype).to(args.device)
    checkpoint = f'{prompts.folder_digest(args.model)} {args.dtype}' if args.cache else ''
    answers = prompts.answer_all(
        model,
        tokenizer,
        queries,
        args.template,
        args.batch,
        args.max_new_tokens,
        args.cache,
        checkpoint,
    )
    scored = [None] * len(items)
    if args.loglik != 'none':
        scored = option_scores(model, tokenizer, items, queries, args)
    metric = MultipleChoiceMetric()
    samples = [
        dict(
            response=answer.text,
            labels=item.labels,
            target=item.target,
            task=item.task,
            loglik=score,
        )
        for item, answer, score in zip(items, answers, scored, strict=True)
    ]
    metric.process(None, samples)
    values = metric.evaluate(len(samples))
    counts = readers.counts(items)
    print_table(values, counts)
    if args.answers:
        lines = ''.join(each.model_dump_json() + '\n' for each in traces(queries, answers, args))
        write_atomic(args.answers, lambda file: file.write(lines.encode()))
    if args.out:
        text = json.dumps(dict(scores=values, counts=counts), indent=1)
        write_atomic(args.out, lambda file: file.write(text.encode()))
    return 0


if __name__ == '__main__':
    run_tool(main)
