"""Brings traces into one sorted Parquet file, with a status for what filters object to.

Nothing is deleted: a trace that should not be learned from becomes ``filtered:<rule>``. The filters
are ``EmptyAnswer``, ``UnfinishedAnswer`` and ``RepeatedQuery``, those that options ask for, or
those of a config.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmdistill.core import launch
from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, run_tool
from mmkd.registry import TRACE_FILTERS
from mmkd.traces.compact import compact
from mmkd.traces.filters import answers, contamination, repetitions, target
from mmkd.traces.filters.base import TraceFilter
from mmkd.traces.importers import openorca_trace, own_trace, slimorca_trace
from mmkd.traces.progress import watched
from mmkd.traces.rows import Bad

FORMATS = dict(trace=own_trace, openorca=openorca_trace, slimorca=slimorca_trace)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', type=Path, help='JSON lines or Parquet, or folders')
    parser.add_argument('--out', type=Path, required=True, help='Parquet file')
    parser.add_argument('--format', choices=list(FORMATS), default='trace', help='of the files')
    parser.add_argument('--teacher', help='that has answered, for OpenOrca and SlimOrca')
    parser.add_argument('--license-tag', default='', help='alike')
    parser.add_argument('--config', help='file with filters = [dict(type=...), ...]')
    parser.add_argument('--no-filters', action='store_true', help='keep every status as it is')
    parser.add_argument('--refusals', action='store_true', help='object to refusals')
    parser.add_argument('--target', action='store_true', help='object to wrong options')
    parser.add_argument(
        '--near-duplicates', type=float, metavar='LIKENESS', help='0.8 for instance'
    )
    parser.add_argument('--contamination', nargs='+', metavar='FILE', help='evaluation files')
    parser.add_argument('--max-prompt-tokens', type=int, metavar='N', help='needs --tokenizer')
    parser.add_argument('--tokenizer', help='folder of the tokenizer')
    parser.add_argument('--require-license', nargs='+', metavar='TAG', help='tags that are fine')
    parser.add_argument(
        '--conflicts',
        choices=['error', 'first'],
        default='error',
        help='what becomes of different traces with one row_key',
    )
    parser.add_argument('--skip-bad', action='store_true', help='leave malformed rows out')
    parser.add_argument('--summary', type=Path, help='JSON file; OUT.summary.json by default')
    return parser.parse_args(argv)


def filters_of(args: argparse.Namespace) -> list[TraceFilter]:
    """The filters that are asked for, in the order in which they judge."""
    if args.config:
        configs = launch.read_config(args.config).get('filters')
        if not isinstance(configs, list):
            raise UserError(f'{args.config}: needs filters = [dict(type=...), ...]')
        found: list[TraceFilter] = [TRACE_FILTERS.build(each) for each in configs]
    elif args.no_filters:
        found = []
    else:
        found = [answers.EmptyAnswer(), answers.UnfinishedAnswer(), repetitions.RepeatedQuery()]
    if (args.max_prompt_tokens is None) != (args.tokenizer is None):
        raise UserError('--max-prompt-tokens and --tokenizer need each other')
    if args.require_license:
        found.append(answers.UnlicensedTrace(args.require_license))
    if args.refusals:
        found.append(answers.RefusedAnswer())
    if args.max_prompt_tokens is not None:
        found.append(answers.LongPrompt(args.max_prompt_tokens, args.tokenizer))
    if args.target:
        found.append(target.WrongAnswer())
    if args.contamination:
        found.append(contamination.Contaminated(args.contamination))
    if args.near_duplicates is not None:
        found.append(repetitions.NearlyRepeated(args.near_duplicates))
    return found


def shards_of(files: Sequence[Path]) -> list[Path]:
    """The files, and the JSON lines and Parquet files of folders."""
    found: list[Path] = []
    for path in files:
        if path.is_dir():
            inside = sorted([*path.glob('*.jsonl'), *path.glob('*.parquet')])
            if not inside:
                raise UserError(f'{path}: there are no *.jsonl or *.parquet in this folder')
            found += inside
        else:
            found.append(path)
    return found


def converter_of(args: argparse.Namespace) -> Callable[..., Any]:
    """What makes a trace of a row."""
    if args.format == 'trace':
        if args.teacher or args.license_tag:
            raise UserError('--teacher and --license-tag are for OpenOrca and SlimOrca alone')
        return own_trace
    if not args.teacher:
        raise UserError(f'--format {args.format} needs --teacher: the files do not name it')
    return partial(FORMATS[args.format], teacher=args.teacher, license_tag=args.license_tag)


def main(argv: Sequence[str] | None = None) -> int:
    """Brings together."""
    args = parse_args(argv)
    filters, convert = filters_of(args), converter_of(args)
    about = compact(
        shards_of(args.files),
        args.out,
        filters,
        convert,
        args.conflicts,
        Bad() if args.skip_bad else None,
        watch=partial(watched, what='passed'),
    )
    reports = {each.rule: each.report() for each in filters if hasattr(each, 'report')}
    text = json.dumps(dict(about, reports=reports), indent=1, ensure_ascii=False)
    place = args.summary or args.out.with_name(args.out.name + '.summary.json')
    write_atomic(place, lambda file: file.write(text.encode()))
    for teacher, statuses in about['counts']['teachers'].items():
        print(f'{teacher}: {", ".join(f"{name} {n}" for name, n in statuses.items())}')
    for name in ('repeats', 'conflicting', 'bad'):
        if about[name]:
            print(f'{name}: {about[name]} left out')
    print(f'{about["counts"]["total"]} traces are in {args.out}')
    return 0


if __name__ == '__main__':
    run_tool(main)
