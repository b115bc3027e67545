"""Asks a teacher many questions side by side and keeps every answer once.

A feeder passes jobs to workers, workers pass rows to one writer, and the writer commits them in
groups. What is in memory is bounded, whatever the number of questions. A crash costs the answers
under way and those not yet committed, at most ``teacher.concurrency + GROUP``: they are asked for
again.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from mmkd.collection.answers import Job, trace_of
from mmkd.collection.journal import Journal, encoded
from mmkd.collection.progress import Progress
from mmkd.teachers.base import Teacher
from mmkd.traces.schema import Sampling, Trace

GROUP = 64
"""Rows that wait for being committed, at most."""
GROUP_SECONDS = 0.2
"""That a row waits for others, at most."""
REPORT_SECONDS = 10.0
"""Between two lines of progress."""
GRACE_SECONDS = 25.0
"""For what is under way after a signal; less than schedulers give a job before they kill it."""
DONE, LIMIT, SIGNAL = 'done', 'limit', 'signal'
"""Why a collection ended: nothing is left, a limit is reached, or it was told to stop."""


@dataclass(frozen=True)
class Limits:
    """Of a shard's rows, those of earlier starts among them; None: no limit.

    Attributes:
        rows: that there may be.
        cost: from which on nothing more is asked; what is under way then still comes in.
    """

    rows: int | None = None
    cost: float | None = None


class Collector:
    """Runs once.

    Args:
        teacher: entered and left here; answers ``teacher.concurrency`` jobs at a time.
        sampling: how it draws.
        journal: where rows go.
        progress: counts rows; has those of earlier starts already.
        limits: where to stop.
        license_tag: of every row.
        say: gets lines of progress.
    """

    def __init__(
        self,
        teacher: Teacher,
        sampling: Sampling,
        journal: Journal,
        progress: Progress,
        limits: Limits | None = None,
        license_tag: str = '',
        say: Callable[[str], Any] = print,
    ) -> None:
        self.teacher, self.sampling, self.journal = teacher, sampling, journal
        self.progress, self.limits, self.license_tag = progress, limits or Limits(), license_tag
        self.say = say
        self._reason, self._cost = '', progress.cost
        self._wanted = progress.rows

    async def run(self, jobs: Iterable[Job | None]) -> str:
        """Asks everything, or until a limit or a signal.

        SIGINT and SIGTERM let what is under way finish; another one, or
        :data:`GRACE_SECONDS`, ends that too. All answers that came in are committed in any case.

        Args:
            jobs: what is asked; None among them gives others a turn.

        Returns:
            :data:`DONE`, :data:`LIMIT` or :data:`SIGNAL`.

        Raises:
            UserError: the teacher cannot be asked at all, or rows cannot be kept.
        """
        workers = max(1, self.teacher.concurrency)
        self._todo: asyncio.Queue[Job | None] = asyncio.Queue(workers)
        self._rows: asyncio.Queue[Trace | None] = asyncio.Queue()
        self._room, self._cut_off = asyncio.Semaphore(GROUP), asyncio.Event()
        self.progress.begin()
        async with self.teacher:
            with self._signals():
                asking = [asyncio.ensure_future(self._work()) for _ in range(workers)]
                asking.append(asyncio.ensure_future(self._feed(jobs, workers)))
                await self._commit_all(asyncio.gather(*asking), asking)
        return self._reason or DONE

    async def _commit_all(self, asked: asyncio.Future, asking: list[asyncio.Future]) -> None:
        """Waits until all is asked, or something ends that early, and for the last commit."""
        writing = asyncio.ensure_future(self._write())
        cut_off = asyncio.ensure_future(self._cut_off.wait())
        others = [cut_off, asyncio.ensure_future(self._tell())]
        try:
            await asyncio.wait({asked, writing, cut_off}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                asked.result()
        finally:
            for each in (*asking, *others):
                each.cancel()
            await asyncio.gather(asked, *asking, *others, return_exceptions=True)
            self._rows.put_nowait(None)
            await writing

    async def _feed(self, jobs: Iterable[Job | None], workers: int) -> None:
        """Passes jobs on while it may, then tells every worker that there are no more."""
        for job in jobs:
            if job is None:
                await asyncio.sleep(0)
                continue
            if self._has_to_stop() or self._is_enough():
                self._reason = self._reason or LIMIT
                break
            self._wanted += 1
            await self._todo.put(job)
        else:
            self.progress.total = self._wanted
        for _ in range(workers):
            await self._todo.put(None)

    def _is_enough(self) -> bool:
        """Whether as many rows as there may be are there or under way."""
        return self.limits.rows is not None and self._wanted >= self.limits.rows

    def _has_to_stop(self) -> bool:
        """Whether no other job may be begun, be it fed or not."""
        too_dear = self.limits.cost is not None and self._cost >= self.limits.cost
        return too_dear or self._reason == SIGNAL

    async def _work(self) -> None:
        """Asks one job after the other; those that wait when it is told to stop are left."""
        while (job := await self._todo.get()) is not None:
            if self._has_to_stop():
                self._reason = self._reason or LIMIT
                continue
            reply = await self.teacher.agenerate(job.query.messages(), self.sampling)
            trace = trace_of(job, self.teacher.name, self.sampling, reply, self.license_tag)
            self._cost += self.progress.price_of(trace)
            try:
                await self._room.acquire()
            finally:
                self._rows.put_nowait(trace)

    async def _write(self) -> None:
        """Commits rows in groups until None comes, and gives their room back."""
        last = False
        while not last:
            group = [await self._rows.get()]
            end = asyncio.get_running_loop().time() + GROUP_SECONDS
            while group[-1] is not None and len(group) < GROUP:
                left = end - asyncio.get_running_loop().time()
                try:
                    group.append(await asyncio.wait_for(self._rows.get(), max(left, 0)))
                except asyncio.TimeoutError:
                    break
            last = group[-1] is None
            rows = [each for each in group if each is not None]
            if rows:
                await asyncio.to_thread(self.journal.append, [encoded(each) for each in rows])
            for row in rows:
                self.progress.added(row)
                self._room.release()

    async def _tell(self) -> None:
        """Says now and then how far it is."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self.say(self.progress.line())

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Heeds SIGINT and SIGTERM, where this thread may."""
        loop, heeded = asyncio.get_running_loop(), []
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, self.stop)
                heeded.append(number)
        try:
            yield
        finally:
            for number in heeded:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Begins nothing more; a second call also ends what is under way."""
        if self._reason == SIGNAL:
            self._cut_off.set()
            return
        self._reason = SIGNAL
        self.say('told to stop: waiting for the answers under way; once more to leave them')
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._cut_off.set)
