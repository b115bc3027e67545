"""Draws the queries that a teacher is asked, from FLAN or from queries of your own.

Each drawn query gets a system message of its sub-collection's set, unless it has one. Without
``--part`` and ``--config`` the mixture is Orca's. ``--uniform N`` draws N queries as they are
instead, for a second teacher that answers a part of what the first one was asked.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmdistill.core import launch
from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, run_tool
from mmkd.traces.drawing import Drawn, draw, draw_subset
from mmkd.traces.importers import flan_query, trace_query
from mmkd.traces.progress import watched
from mmkd.traces.recipe import ORCA, Recipe, parse_part, read_recipe
from mmkd.traces.rows import Bad
from mmkd.traces.system_messages import SystemMessages, load_system_messages

FORMATS = dict(flan=flan_query, query=trace_query)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', type=Path, help='JSON lines or Parquet')
    parser.add_argument('--out', type=Path, required=True, help='JSON lines of queries')
    parser.add_argument(
        '--format',
        choices=list(FORMATS),
        default='flan',
        help='of the files: rows of FLAN, or queries or traces of mmkd',
    )
    mixture = parser.add_mutually_exclusive_group()
    mixture.add_argument('--config', help='Python or YAML file with recipe = dict(parts=...)')
    mixture.add_argument(
        '--part',
        action='append',
        metavar='NAME=ALGORITHM[:SIZE[:CAP]]',
        help='of the mixture: cot=all, niv2=stratified:300, t0=waterfill:2000000, t0=random:2000',
    )
    mixture.add_argument('--uniform', type=int, metavar='N', help='N queries as they are')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--system-messages', help='YAML file of other system messages')
    parser.add_argument('--flan-mc-policy', choices=['mixed', 'mc_only'], default='mixed')
    parser.add_argument('--skip-bad', action='store_true', help='leave malformed rows out')
    parser.add_argument('--summary', type=Path, help='JSON file; OUT.summary.json by default')
    return parser.parse_args(argv)


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The mixture that is asked for."""
    if args.config:
        content = launch.read_config(args.config).get('recipe')
        if not content:
            raise UserError(f'{args.config}: needs recipe = dict(parts=...)')
        return read_recipe(content.to_dict(), f'{args.config}: recipe')
    if args.part:
        return ORCA.model_copy(update=dict(parts=dict(map(parse_part, args.part))))
    return ORCA


def write_queries(
    drawn: Drawn, messages: SystemMessages | None, args: argparse.Namespace
) -> dict[str, int]:
    """Writes the queries; how many have which system message."""
    used: Counter[int] = Counter()

    def write(file: Any) -> None:
        """All lines."""
        for query in watched(drawn.queries(FORMATS[args.format]), 'written'):
            asked = messages.assign(query, args.seed) if messages else query
            used[asked.system_id] += 1
            file.write(asked.model_dump_json().encode() + b'\n')

    write_atomic(args.out, write)
    return {str(number): count for number, count in sorted(used.items())}


def main(argv: Sequence[str] | None = None) -> int:
    """Draws."""
    args = parse_args(argv)
    bad = Bad() if args.skip_bad else None
    common = dict(seed=args.seed, bad=bad, watch=partial(watched, what='read'))
    convert = FORMATS[args.format]
    if args.uniform is None:
        recipe = recipe_of(args)
        messages = load_system_messages(args.system_messages, args.flan_mc_policy)
        for name in recipe.parts if args.format == 'flan' else ():
            messages.ids(name, False)
        drawn = draw(args.files, convert, recipe, **common)
    else:
        recipe = messages = None
        drawn = draw_subset(args.files, convert, args.uniform, **common)
    about = dict(seed=args.seed, files=[str(each) for each in args.files], queries=len(drawn))
    about['recipe'] = recipe.model_dump(exclude_none=True) if recipe else None
    about |= drawn.summary
    about['system_messages'] = write_queries(drawn, messages, args)
    about['bad'] = dict(count=bad.count, first=bad.first) if bad else dict(count=0)
    target = args.summary or args.out.with_name(args.out.name + '.summary.json')
    text = json.dumps(about, indent=1, ensure_ascii=False)
    write_atomic(target, lambda file: file.write(text.encode()))
    for name, part in drawn.summary.get('parts', {}).items():
        print(f'{name:12} {part["drawn"]:>9} of {part["available"]} from {part["tasks"]} tasks')
    for name, reasons in drawn.summary.get('left_out', {}).items():
        print(f'{name:12} left out: {", ".join(f"{key} {n}" for key, n in reasons.items())}')
    print(f'{len(drawn)} queries are in {args.out}')
    return 0


if __name__ == '__main__':
    run_tool(main)
