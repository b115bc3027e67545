"""Asks a teacher for answers and keeps each of them once; run it again to go on.

The config has ``teacher = dict(type=...)``, and may have every other key of
:class:`mmkd.collection.plan.Plan`: ``sampling``, ``queries``, ``run_dir``, ``samples``,
``license_tag``, ``prices``, ``max_rows`` and ``max_cost``. Ends with status 0 when nothing is left,
2 for what a user has to mend, and 3 when a limit or a signal left something for another run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdistill.core import launch
from mmdistill.core.errors import UserError, run_tool
from mmkd.collection.collector import DONE, LIMIT
from mmkd.collection.manifest import CHANGEABLE
from mmkd.collection.plan import read_plan
from mmkd.collection.ray_route import collect_on_ray
from mmkd.collection.run import Outcome, collect_shard
from mmkd.collection.shards import parse_shard

UNFINISHED = 3
"""Status of a run that left something for another."""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='with teacher = dict(type=...)')
    parser.add_argument('--queries', nargs='+', help='files of questions, JSON lines')
    parser.add_argument('--run-dir', help='folder of the run, new or begun by an earlier run')
    parser.add_argument('--shard', default='0/1', help="this process's part, 0/4 to 3/4 for four")
    parser.add_argument('--ray', type=int, metavar='N', help='collects N shards as tasks of Ray')
    parser.add_argument('--stage-two-from', help='folder of a run to draw answered questions from')
    parser.add_argument('--count', type=int, help='of questions that are drawn')
    parser.add_argument('--seed', type=int, default=0, help='of the draw')
    parser.add_argument('--retry-failed', action='store_true', default=None)
    parser.add_argument('--max-rows', type=int, help='that the run directory may have')
    parser.add_argument('--max-cost', type=float, help='from which on nothing more is asked')
    parser.add_argument(
        '--allow-change',
        nargs='+',
        metavar='KEY',
        help=f'lets these differ from the first start: {", ".join(CHANGEABLE)}',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=launch.ConfigOptions,
        help='key=value pairs that override the config; +key=value adds a key',
    )
    return parser.parse_args(argv)


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Values of the config, overridden by those of the command line."""
    config = launch.read_config(args.config, args.cfg_options).to_dict()
    config.setdefault('run_dir', None)
    names = ('queries', 'run_dir', 'retry_failed', 'max_rows', 'max_cost', 'allow_change')
    config.update({name: getattr(args, name) for name in names if getattr(args, name) is not None})
    if args.stage_two_from:
        if args.count is None:
            raise UserError('--stage-two-from needs --count, the number of questions')
        if args.queries:
            raise UserError('--stage-two-from draws the questions: leave --queries out')
        config['queries'] = None
        config['stage_two'] = dict(folder=args.stage_two_from, count=args.count, seed=args.seed)
    elif args.queries:
        config['stage_two'] = None
    return config


def report(outcome: Outcome, folder: Path) -> None:
    """Tells how a shard ended."""
    print(f'shard {outcome.summary["shard"]}: {outcome.line}')
    failed = outcome.summary['statuses'].get('failed', 0)
    if outcome.reason == DONE:
        again = f'; --retry-failed asks the {failed} failed ones again' if failed else ''
        print(f'nothing is left, the traces are in {folder}{again}')
    elif outcome.reason == LIMIT:
        print('a limit is reached: raise it and run the same command again to go on')
    else:
        print('stopped: run the same command again to go on')


def main(argv: Sequence[str] | None = None) -> int:
    """Collects."""
    args = parse_args(argv)
    config = options(args)
    plan = read_plan(config, args.config)
    if args.ray is None:
        outcomes = [collect_shard(plan, parse_shard(args.shard))]
    else:
        plain = plan.model_dump(mode='json', exclude_unset=True)
        outcomes = collect_on_ray(plain, args.ray)
    for each in outcomes:
        report(each, plan.run_dir)
    return 0 if all(each.reason == DONE for each in outcomes) else UNFINISHED


if __name__ == '__main__':
    run_tool(lambda: sys.exit(main()))
