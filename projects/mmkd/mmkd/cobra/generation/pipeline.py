"""Generation of frames by a teacher, which can be killed and started again at any time.

Statements of the user get contexts, and complete ones among them explanations; or each gets a pair
of a harmless and an offensive context, and both are explained (COBRACORPUS and its counterfactual
part, arXiv 2306.01985). Every stage is a collection run of its own, whose queries follow from the
rows of the stage before; so rows are unique, and what there is is never asked for again. There is
no stage that makes statements: the authors' own variant of that is left out on purpose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.generation.answers import FAILED, OK, STATEMENT, STATUSES
from mmkd.cobra.generation.frames import frames_of
from mmkd.cobra.generation.options import Options
from mmkd.cobra.generation.prompt_texts import Kind
from mmkd.cobra.generation.prompting import PromptBuilder
from mmkd.cobra.generation.report import MIN_ROWS, stage_report
from mmkd.cobra.generation.stages import Item, Stage
from mmkd.cobra.schema import Frame
from mmkd.cobra.tables.statements import Statement
from mmkd.collection.collector import DONE, LIMIT
from mmkd.collection.manifest import Manifest, open_run
from mmkd.collection.plan import Plan, read_plan
from mmkd.collection.queries import QueriesMark
from mmkd.collection.run import Outcome, collect_shard
from mmkd.collection.shards import Shard, entry

RETRYABLE = tuple(each for each in STATUSES if each not in (OK, STATEMENT, FAILED))
"""Statuses that are asked for again if the user names them; ``retry_failed`` does it for failed."""
OWN_KEYS = ('queries', 'stage_two', 'run_dir', 'sampling', 'samples')
"""Keys of a plan that follow from the stage."""
QUERIES = 'queries.jsonl'
Collect = Callable[[Plan], Sequence[Outcome]]


class Generation:
    """Stages of a generation, below one folder.

    Args:
        base: keys of :class:`mmkd.collection.plan.Plan` that all stages share, ``teacher`` for one;
            limits are those of each stage. Without :data:`OWN_KEYS`.
        statements: of the user.
        demonstrations: frames that prompts show, see
            :func:`mmkd.cobra.generation.demonstrations.demonstrations_of`.
        run_dir: each stage has a folder of its name in it.
        options: how they are asked for.
        counterfactual: pairs of contexts instead of single ones.
        check: asks for each statement first whether it is complete, and goes on with those.
        contexts_only: nothing is explained.

    Raises:
        UserError: a wrong option, or demonstrations that will not do.
    """

    def __init__(
        self,
        base: Mapping[str, Any],
        statements: Sequence[Statement],
        demonstrations: Sequence[Frame],
        run_dir: str | Path,
        options: Options | None = None,
        counterfactual: bool = False,
        check: bool = False,
        contexts_only: bool = False,
    ) -> None:
        if not base.get('teacher'):
            raise UserError('teacher is missing; the config needs teacher = dict(type=...)')
        for key in OWN_KEYS:
            if base.get(key) is not None:
                raise UserError(
                    f'{key}: stages have their own; remove it (generation.sampling and '
                    'generation.contexts are for how they are asked)'
                )
        self.base, self.options = dict(base), options or Options()
        self.items = [Item(index, each) for index, each in enumerate(statements)]
        self.run_dir = Path(run_dir)
        first: Kind = 'counterfactual' if counterfactual else 'contexts'
        kinds: dict[str, Kind] = {**(dict(check='check') if check else {}), first: first}
        if not contexts_only:
            kinds[f'{first}-explanations' if counterfactual else 'explanations'] = 'explanations'
        self.stages = [self._stage(*each, demonstrations) for each in kinds.items()]

    def _stage(self, name: str, kind: Kind, demonstrations: Sequence[Frame]) -> Stage:
        """A stage."""
        options = self.options
        builder = PromptBuilder(
            kind,
            demonstrations,
            options.shots.get(kind),
            options.selection,
            options.seed,
            options.form,
            options.prompts,
        )
        sampling = options.sampling_of(kind, builder.sampling())
        samples = options.contexts if kind == 'contexts' else 1
        return Stage(self.run_dir / name, builder, sampling, samples)

    def run(
        self,
        retry: Sequence[str] = (),
        shard: Shard | None = None,
        collect: Collect | None = None,
        only_last: bool = False,
        say: Callable[[str], Any] = print,
    ) -> str:
        """Asks what has not been asked yet, stage by stage.

        A stage begins when the one before has all its rows, in whatever shard.

        Args:
            retry: of :data:`RETRYABLE`: rows that are asked for once more, in the same words.
            shard: this process's part; None: all.
            collect: runs a plan; None: here, as ``shard``.
            only_last: the stages before the last one are there and are not asked for anything.
            say: gets lines of progress, never with a text of the data.

        Returns:
            ``done``, ``limit`` (also: other shards are not done yet) or ``signal``.

        Raises:
            UserError: a wrong option, a run that was begun with others, or what a collection says.
        """
        for status in retry:
            if status not in RETRYABLE:
                raise UserError(
                    f'retry: {status!r}{did_you_mean(status, RETRYABLE)}; known: '
                    f'{", ".join(RETRYABLE)}'
                )
        for stage in self.stages:
            if (stage.folder / 'prompts').is_dir():
                self._compare(stage)
        shard, items = shard or Shard(), self.items
        for stage in self.stages:
            if not items:
                say(f'{stage.name}: there is nothing to ask')
                break
            is_read_only = only_last and stage is not self.stages[-1]
            ends = [] if is_read_only else self._collect(stage, items, retry, shard, collect, say)
            rows = stage.rows(items)
            there = sum(row.answer is not None for row in rows)
            if is_read_only and there < len(rows):
                raise UserError(
                    f'{stage.folder}: {there} of {len(rows)} rows are there that these statements '
                    'and options need; finish this stage with the same ones first'
                )
            if ends or there < len(rows):
                return ends[0] if ends else LIMIT
            items = stage.next_items(rows)
        return DONE

    def _collect(
        self,
        stage: Stage,
        items: Sequence[Item],
        retry: Sequence[str],
        shard: Shard,
        collect: Collect | None,
        say: Callable[[str], Any],
    ) -> list[str]:
        """Collects a stage; returns why it ended early, if it did."""
        plan = self._prepare(stage, items)
        dropped = stage.forget(items, retry, shard) if retry else 0
        if dropped:
            say(f'{stage.name}: {dropped} rows are asked for again')
        outcomes = collect(plan) if collect else [collect_shard(plan, shard, say)]
        for each in outcomes:
            say(f'{stage.name}, shard {each.summary["shard"]}: {each.line}')
        return [each.reason for each in outcomes if each.reason != DONE]

    def _prepare(self, stage: Stage, items: Sequence[Item]) -> Plan:
        """The plan of a stage, whose queries are written.

        They may be others than at an earlier start, as those of a later stage grow where rows
        before it are asked for again; what they are made of must be the same.
        """
        folder = stage.folder / 'prompts'
        queries = [stage.query(item).model_dump_json() for item in items]
        self._compare(stage)
        _write_lines(folder / QUERIES, queries)
        _write_lines(folder / 'demonstrations.jsonl', map(json.dumps, stage.builder.used()))
        given = {key: value for key, value in self.base.items() if value is not None}
        return read_plan(
            {
                **given,
                'run_dir': stage.folder,
                'sampling': stage.sampling,
                'samples': stage.samples,
                'queries': (folder / QUERIES,),
                'allow_change': (*given.get('allow_change', ()), 'queries'),
            },
            f'stage {stage.name}',
        )

    def _compare(self, stage: Stage) -> None:
        """Compares what a stage depends on with an earlier start, or notes it where there is none.

        Raises:
            UserError: something differs.
        """
        teacher = self.base['teacher']
        wanted = Manifest(
            teacher=str(teacher.get('name', teacher.get('type'))),
            settings=stage.builder.settings,
            sampling=stage.sampling,
            samples=stage.samples,
            queries=self._mark(),
        )
        with entry(stage.folder):
            open_run(stage.folder / 'prompts', wanted, self.base.get('allow_change') or ())

    def _mark(self) -> QueriesMark:
        """What tells these statements from others."""
        ids = '\n'.join(item.statement.id for item in self.items)
        return QueriesMark(sha256=hashlib.sha256(ids.encode()).hexdigest(), count=len(self.items))

    def frames(self) -> list[Frame]:
        """See :func:`mmkd.cobra.generation.frames.frames_of`."""
        return frames_of(self.stages, self.items)

    def report(self, min_rows: int = MIN_ROWS) -> dict[str, Any]:
        """Numbers of every stage by name, see :func:`mmkd.cobra.generation.report.stage_report`."""
        items, told = self.items, {}
        for stage in self.stages:
            rows = stage.rows(items)
            told[stage.name] = stage_report(rows, min_rows)
            items = stage.next_items(rows)
        return told


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a file of lines, at once."""
    content = ''.join(f'{each}\n' for each in lines).encode()
    write_atomic(path, lambda file: file.write(content))
