"""Teachers and files that the tests of collections share."""

import asyncio
import json
import multiprocessing
import time

import aiohttp

from mmkd.collection.answers import Job, trace_of
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Query, Sampling, Trace, Usage, row_key

SAMPLING = Sampling(temperature=0.5)


@TEACHERS.register_module()
class FakeTeacher:
    """Answers from a function of the question, after some seconds; counts what it is asked."""

    def __init__(
        self, name='fake', concurrency=4, answer=None, seconds=0.0, log=None, settings=None
    ):
        self.settings = settings or {}
        self.name, self.concurrency, self.seconds, self.log = name, concurrency, seconds, log
        self.answer = answer or (lambda text: f'answer to {text}')
        self.asked, self.busy, self.busiest = [], 0, 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        pass

    async def agenerate(self, messages, sampling):
        text = messages[-1]['content']
        self.asked.append(text)
        if self.log:
            with open(self.log, 'a') as file:
                file.write(f'{text}\n')
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await asyncio.sleep(self.seconds)
        self.busy -= 1
        found = self.answer(text)
        if isinstance(found, str):
            found = Reply(text=found, finish_reason='stop', usage=Usage(prompt=2, completion=3))
        return found


@TEACHERS.register_module()
class HttpTeacher:
    """Asks a server until it answers."""

    def __init__(self, address, name='http', concurrency=16):
        self.address, self.name, self.concurrency = address, name, concurrency

    async def __aenter__(self):
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        return self

    async def __aexit__(self, *error):
        await self.session.close()

    async def agenerate(self, messages, sampling):
        body = dict(model=self.name, messages=messages)
        for attempt in range(1, 100):
            try:
                async with self.session.post(self.address, json=body) as response:
                    if response.status == 200:
                        text = (await response.json())['choices'][0]['message']['content']
                        return Reply(text=text, finish_reason='stop', attempts=attempt)
            except (aiohttp.ClientError, asyncio.TimeoutError, ValueError):
                pass
            await asyncio.sleep(0.02)
        return Reply(status='failed', attempts=100, error='no answer')


def some_queries(count, first=0):
    """Different questions."""
    numbers = range(first, first + count)
    return [Query(source_uid=f'q{n}', user_text=f'question {n}', target=f'{n}') for n in numbers]


def write_queries(path, queries):
    """A file of them."""
    path.write_text(''.join(each.model_dump_json() + '\n' for each in queries))
    return path


def some_traces(count, first=0, answer='yes', teacher='fake', **changes):
    """Rows with answers."""
    return [
        trace_of(
            Job(row_key(query, teacher, SAMPLING), query),
            teacher,
            SAMPLING,
            Reply(**{'text': answer, 'finish_reason': 'stop', **changes}),
        )
        for query in some_queries(count, first)
    ]


def rows_of(folder):
    """All rows of a run directory, every line of which has to be whole."""
    return [
        Trace.model_validate_json(line)
        for path in sorted(folder.glob('*.jsonl'))
        for line in path.read_text().splitlines()
    ]


def write_config(path, **values):
    """A config file of a collection with these values."""
    imports = "custom_imports = dict(imports=['collection_fakes'])\n"
    path.write_text(imports + ''.join(f'{key} = {value!r}\n' for key, value in values.items()))
    return path


FORK = multiprocessing.get_context('fork')


def forked(function, *arguments):
    """A process that begins with all modules loaded, under way."""
    process = FORK.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def wait_for(condition, seconds=20):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it does not come true'
        time.sleep(0.01)


def read_json(path):
    """Content of a file."""
    return json.loads(path.read_text())


@TEACHERS.register_module()
class HalfStuckTeacher(FakeTeacher):
    """Never answers the first question."""

    async def agenerate(self, messages, sampling):
        """The others are answered."""
        reply = await super().agenerate(messages, sampling)
        if messages[-1]['content'] == 'question 0':
            await asyncio.Event().wait()
        return reply
