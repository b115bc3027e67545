"""Collects one shard of a plan, from wherever earlier starts have left it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.utils import import_modules_from_strings

from mmdistill.core.checkpoint_io import TEMP
from mmkd.collection.answers import jobs, short_key
from mmkd.collection.collector import Collector, Limits
from mmkd.collection.journal import Journal, drop_rows, mend, read_journal
from mmkd.collection.manifest import Manifest, open_run
from mmkd.collection.plan import Plan
from mmkd.collection.progress import Progress, write_summary
from mmkd.collection.queries import QueriesMark, QueryFiles
from mmkd.collection.shards import Shard, entry, hold_shard, shard_files
from mmkd.collection.stage_two import select_queries
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Teacher
from mmkd.traces.schema import Trace

RETRIED = ('failed',)
"""Statuses that are asked for again if the user says so; all others would come out the same."""


@dataclass(frozen=True)
class Outcome:
    """How a collection of a shard ended.

    Attributes:
        reason: ``done``, ``limit`` or ``signal``.
        summary: see :meth:`mmkd.collection.progress.Progress.summary`.
        line: the same for people.
    """

    reason: str
    summary: dict[str, Any]
    line: str


def collect_shard(
    plan: Plan, shard: Shard | None = None, say: Callable[[str], Any] = print
) -> Outcome:
    """Asks what a shard has no rows of yet.

    Rows are unique in the run directory, whatever ends this process and however often.

    Args:
        plan: of the collection.
        shard: this process's part; None: all.
        say: gets lines of progress.

    Raises:
        UserError: a wrong option, another process has the shard, the run was begun with something
            else, a damaged file, a full disk, or a teacher that cannot be asked at all.
    """
    shard, folder = shard or Shard(), plan.run_dir
    if plan.custom_imports:
        import_modules_from_strings(**plan.custom_imports)
    teacher: Teacher = TEACHERS.build(dict(plan.teacher))
    with hold_shard(folder, shard):
        queries = QueryFiles(_query_files(plan))
        mark = queries.mark()
        with entry(folder):
            open_run(folder, _manifest(plan, teacher, mark), plan.allow_change)
        put_in_order(folder, shard, plan.retry_failed, say)
        total = shard.share(mark.count * plan.samples)
        progress = Progress(total, plan.prices, plan.endpoint_prices())
        with Journal(shard.file(folder)) as journal:
            done = rows_done(folder, shard, progress)
            collector = Collector(
                teacher,
                plan.sampling,
                journal,
                progress,
                _limits(plan, shard),
                plan.license_tag,
                say,
            )
            left = jobs(queries, teacher.name, plan.sampling, plan.samples, shard, done)
            reason = asyncio.run(collector.run(left))
        summary = dict(shard=f'{shard.index}/{shard.count}', ended=reason, **progress.summary())
        write_summary(folder / f'summary-{shard.index:05d}.json', summary)
    return Outcome(reason, summary, progress.line())


def put_in_order(
    folder: Path, shard: Shard, retry_failed: bool, say: Callable[[str], Any] = print
) -> None:
    """Mends the files that a shard looks after, and drops rows that it is to ask for again.

    After a change of the number of shards, rows that have failed may be in files that other
    shards look after; those stay. A single shard reaches all of them.

    Args:
        folder: the run directory.
        shard: that this process holds.
        retry_failed: drops those that have failed.
        say: is told what was done.
    """
    for path in shard_files(folder, shard):
        for leftover in folder.glob(f'{TEMP}-*-{path.name}'):
            leftover.unlink()
        removed = mend(path)
        if removed:
            say(f'{path}: the last line was torn by a crash, {removed} bytes are removed')
        dropped = drop_rows(path, partial(_is_retried, shard)) if retry_failed else 0
        if dropped:
            say(f'{path}: {dropped} rows that failed are asked for again')


def _is_retried(shard: Shard, trace: Trace) -> bool:
    """Whether a shard asks for a row again, if the user says so."""
    return trace.status in RETRIED and shard.owns(trace.row_key)


def _manifest(plan: Plan, teacher: Teacher, mark: QueriesMark) -> Manifest:
    """What a plan is compared by."""
    return Manifest(
        teacher=teacher.name,
        settings=getattr(teacher, 'settings', {}),
        sampling=plan.sampling,
        samples=plan.samples,
        queries=mark,
        license_tag=plan.license_tag,
    )


def _limits(plan: Plan, shard: Shard) -> Limits:
    """A shard's part of the limits."""
    return Limits(
        None if plan.max_rows is None else shard.share(plan.max_rows),
        None if plan.max_cost is None else plan.max_cost / shard.count,
    )


def rows_done(folder: Path, shard: Shard, progress: Progress) -> set[bytes]:
    """Keys of a shard's rows in all files, which are counted.

    Args:
        folder: the run directory.
        shard: whose rows matter.
        progress: counts them.

    Raises:
        UserError: a line is no trace.
    """
    done = set()
    for path in shard_files(folder):
        for _, _, trace in read_journal(path):
            if shard.owns(trace.row_key):
                done.add(short_key(trace.row_key))
                progress.found(trace)
    return done


def _query_files(plan: Plan) -> Sequence[Path]:
    """Files of questions; those of a second stage are drawn at its first start."""
    if plan.stage_two is None:
        return plan.queries
    drawn = plan.stage_two
    out = plan.run_dir / 'queries' / f'stage-two-{drawn.count}-seed-{drawn.seed}.jsonl'
    with entry(plan.run_dir):
        if not out.exists():
            select_queries(drawn.folder, drawn.count, drawn.seed, out)
    return (out,)
