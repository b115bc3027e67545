"""A scripted teacher, and neutral frames, that the tests of generation share."""

import asyncio
import itertools
import json
import multiprocessing
import os
import time

from mmkd.cobra.generation.prompt_texts import CALLS, load_prompts
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame, statement_id
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Trace, Usage

NAMES = load_prompts().names
REFUSAL = "I'm sorry, but I can't help with that."


def explained(number, **changes):
    """A whole frame of a remark about work."""
    values = {slot: f'{slot} of remark {number}' for slot in (*CONTEXT, *SLOTS)}
    statement = f'Your report on topic {number} was clear.'
    ids = dict(frame_id=f'demo-{number}', statement_id=statement_id(statement))
    return Frame(**{**ids, **values, 'statement': statement, **changes})


def pair(number):
    """Two frames of a remark, one harmless, the other not."""
    return [
        explained(
            number,
            frame_id=f'pair-{number}-{side}',
            pair_id=f'pair-{number}',
            side=side,
            label_majority=label,
            situation=f'occasion {number} {side}',
        )
        for side, label in (('A', 1), ('B', 0))
    ]


def demonstrations():
    """Enough of them for every kind of call."""
    single = [explained(number) for number in range(9)]
    return [*single, *(frame for number in range(20, 27) for frame in pair(number))]


def tagged(values):
    """An answer in lines; the first name stands at the end of the prompt already."""
    lines = [f'[{NAMES[slot]}] {text}[/]' for slot, text in values.items()]
    return '\n'.join(lines).partition('] ')[2]


@TEACHERS.register_module()
class ScriptedFrameTeacher:
    """Answers each kind of call; words of a statement make it do otherwise, by ``rules``.

    ``refuse``, ``muddle``, ``fail``, ``no`` (the statement is incomplete), ``short`` (the last slot
    is missing) and ``same`` (always the same context). A rule may be for one kind of call:
    ``explanations:refuse``.
    """

    count = itertools.count()

    def __init__(self, name='scripted', rules=None, seconds=0.0, log=None, concurrency=4):
        self.name, self.rules, self.seconds = name, rules or {}, seconds
        self.log, self.concurrency = log, concurrency

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        pass

    async def agenerate(self, messages, sampling):
        await asyncio.sleep(self.seconds)
        kind, statement = self.read(messages)
        if self.log:
            with open(self.log, 'a') as file:
                file.write(f'{kind}\n')
        rule = next((self.rules[word] for word in self.rules if word in statement), '')
        where, _, what = rule.rpartition(':')
        return self.reply(kind, what if where in ('', kind) else '')

    def read(self, messages):
        """Kind of call and statement."""
        system, user = (each['content'] for each in messages)
        kind = next(each for each in CALLS if system.startswith(load_prompts().kinds[each][:60]))
        last = user.rpartition('\n\n')[2]
        return kind, last.partition('] ')[2].partition('[/]')[0]

    def reply(self, kind, rule):
        """What is said."""
        if rule == 'fail':
            return Reply(status='failed', error='no luck', attempts=3)
        if rule in ('refuse', 'muddle'):
            return Reply(text=REFUSAL if rule == 'refuse' else 'hm', finish_reason='stop')
        mark = 0 if rule == 'same' else f'{os.getpid()} {next(self.count)}'
        values = {slot: f'{slot} {mark}' for slot in CALLS[kind].asked}
        if 'complete' in values:
            values['complete'] = 'no' if rule == 'no' else 'yes'
        if rule == 'short':
            values.popitem()
        usage = Usage(prompt=2, completion=3)
        return Reply(text=tagged(values), finish_reason='stop', usage=usage, attempts=2)


def write_lines(path, rows):
    """A file of JSON lines."""
    path.write_text(''.join(json.dumps(each) + '\n' for each in rows))
    return path


def rows_of(folder):
    """All rows of a run directory, every line of which has to be whole."""
    return [
        Trace.model_validate_json(line)
        for path in sorted(folder.glob('traces-*.jsonl'))
        for line in path.read_text().splitlines()
    ]


def forked(function, *arguments):
    """A process that begins with all modules loaded, under way."""
    context = multiprocessing.get_context('fork')
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def wait_for(condition, seconds=20):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it does not come true'
        time.sleep(0.01)
