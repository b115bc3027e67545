"""Asks a teacher for contexts and explanations of statements; run it again to go on.

Statements are those of a file: none is ever made. The config has ``teacher = dict(type=...)``, and
may have ``generation = dict(...)`` with the keys of
:class:`mmkd.cobra.generation.options.Options`, and ``run_dir``, ``license_tag``, ``prices``,
``max_rows``, ``max_cost`` and ``custom_imports`` as for tools/collect_traces.py; limits are those
of each stage. The table has the whole frames, or with ``--stage contexts`` those that are still to
be explained. Ends with status 0 when nothing is left, 2 for what a user has to mend, and 3 when a
limit, a signal or another shard left something for another run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdistill.core import launch
from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, run_tool
from mmkd.cobra.generation.answers import OK
from mmkd.cobra.generation.frames import UNEXPLAINED
from mmkd.cobra.generation.options import read_options
from mmkd.cobra.generation.pipeline import RETRYABLE, Collect, Generation
from mmkd.cobra.schema import Frame
from mmkd.cobra.tables.csv_rows import WARNING, require_consent
from mmkd.cobra.tables.statements import read_statements
from mmkd.cobra.tables.table import read_frames, write_frames
from mmkd.collection.collector import DONE
from mmkd.collection.manifest import CHANGEABLE
from mmkd.collection.plan import Plan
from mmkd.collection.ray_route import collect_on_ray
from mmkd.collection.shards import parse_shard
from mmkd.traces.rows import PARQUET

UNFINISHED = 3
"""Status of a run that left something for another."""
SHOWN = 5
"""Frames that are shown."""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='with teacher = dict(type=...)')
    parser.add_argument('--statements', required=True, help='.jsonl, .csv or .parquet')
    parser.add_argument('--demonstrations', required=True, help='frames, .parquet or .jsonl')
    parser.add_argument('--out', type=Path, required=True, help='table of frames, .parquet')
    parser.add_argument(
        '--all-rows', action='store_true', help='keeps what is no whole frame, with its status'
    )
    parser.add_argument('--stage', choices=['contexts', 'explanations', 'all'], default='all')
    parser.add_argument(
        '--counterfactual', action='store_true', help='a harmless and an offensive context of each'
    )
    parser.add_argument(
        '--check', action='store_true', help='asks first whether a statement is complete'
    )
    parser.add_argument('--accept-content-warning', action='store_true')
    parser.add_argument('--show-text', action='store_true', help=f'of {SHOWN} frames')
    parser.add_argument('--run-dir', help='folder of the run, new or begun by an earlier run')
    parser.add_argument('--shard', default='0/1', help="this process's part, 0/4 to 3/4 for four")
    parser.add_argument('--ray', type=int, metavar='N', help='collects N shards as tasks of Ray')
    parser.add_argument('--retry-failed', action='store_true', default=None)
    parser.add_argument(
        '--retry', nargs='+', default=(), metavar='STATUS', help=f'of {", ".join(RETRYABLE)}'
    )
    parser.add_argument('--max-rows', type=int, help='that a stage may have')
    parser.add_argument('--max-cost', type=float, help='of a stage, where it stops asking')
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


def generation_of(args: argparse.Namespace) -> Generation:
    """The generation that is asked for."""
    config = launch.read_config(args.config, args.cfg_options).to_dict()
    names = ('run_dir', 'retry_failed', 'max_rows', 'max_cost', 'allow_change')
    config.update({name: getattr(args, name) for name in names if getattr(args, name) is not None})
    options = read_options(config.pop('generation', {}), f'{args.config}: generation')
    run_dir = config.pop('run_dir', None)
    if not run_dir:
        raise UserError('--run-dir is missing; name the folder of the run')
    return Generation(
        config,
        read_statements(args.statements),
        read_frames(args.demonstrations),
        run_dir,
        options,
        counterfactual=args.counterfactual,
        check=args.check,
        contexts_only=args.stage == 'contexts',
    )


def on_ray(shards: int) -> Collect:
    """Collects on Ray."""
    return lambda plan: collect_on_ray(_plain(plan), shards)


def _plain(plan: Plan) -> dict[str, Any]:
    """A plan as values that can be sent."""
    return plan.model_dump(mode='json', exclude_unset=True)


def shown(frame: Frame, with_text: bool) -> str:
    """A line about a frame: ids, status and lengths; or its texts, too."""
    texts = dict(statement=frame.statement, **frame.context(), **frame.explanation())
    told = [f'{name} {text!r}' if with_text else str(len(text)) for name, text in texts.items()]
    line = f'{frame.frame_id} of {frame.statement_id}: {frame.provenance.status}'
    return f'{line}, {"; ".join(told)}' if with_text else f'{line}, lengths {" ".join(told)}'


def tell(frames: Sequence[Frame], report: dict[str, Any], with_text: bool) -> None:
    """Prints numbers and a few frames."""
    for name, stage in report.items():
        counts = ', '.join(f'{count} {status}' for status, count in stage['statuses'].items())
        rate = f', {stage["refusal_rate"]:.1%} refused' if 'refusal_rate' in stage else ''
        print(f'{name}: {stage["rows"]} of {stage["wanted"]} rows{rate}: {counts}')
        for group, part in stage['groups'].items():
            if 'refusal_rate' in part:
                print(f'  {group or "no group"}: {part["refusal_rate"]:.1%} of {part["rows"]}')
    if with_text:
        print(f'warning: {WARNING}')
    for frame in frames[:SHOWN]:
        print(shown(frame, with_text))


def main(argv: Sequence[str] | None = None) -> int:
    """Generates."""
    args = parse_args(argv)
    require_consent(args.accept_content_warning)
    if args.out.suffix.lower() not in PARQUET:
        raise UserError(f'--out {args.out}: must end in {PARQUET[0]}')
    generation = generation_of(args)
    collect = None if args.ray is None else on_ray(args.ray)
    reason = generation.run(
        args.retry, parse_shard(args.shard), collect, only_last=args.stage == 'explanations'
    )
    report, frames = generation.report(), generation.frames()
    text = json.dumps(report, indent=1)
    write_atomic(generation.run_dir / 'report.json', lambda file: file.write(text.encode()))
    wanted = UNEXPLAINED if args.stage == 'contexts' else OK
    kept = [each for each in frames if args.all_rows or each.provenance.status == wanted]
    statuses = Counter(each.provenance.status.partition(':')[0] for each in frames)
    write_frames(args.out, kept, dict(statuses=statuses, ended=reason))
    tell(kept, report, args.show_text)
    print(f'{len(kept)} of {len(frames)} frames, {statuses[OK]} whole ones, are in {args.out}')
    if reason != DONE:
        print(f'stopped ({reason}): run the same command again to go on')
    return 0 if reason == DONE else UNFINISHED


if __name__ == '__main__':
    run_tool(lambda: sys.exit(main()))
