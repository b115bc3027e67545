"""A teacher of the world of frames, which needs no endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random

from mmdistill.core.errors import UserError
from mmkd.cobra.generation.prompt_texts import CALLS, COMPLETE, SIDES, Call, load_prompts
from mmkd.cobra.texts.parsing import CLOSE, parse_tagged
from mmkd.cobra.world.rules import MODEL, Saying, Scene, explain, label, saying_of, scene_of, scenes
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Message, Sampling, Usage, digest

REFUSAL = 'I am sorry, but I cannot help with this.'
_INPUT, _OUTPUT = 'Input: ', '\nOutput:'


@TEACHERS.register_module()
class FrameWorldTeacher:
    """Knows the rules of the world; contexts are drawn, explanations follow.

    Args:
        seed: of contexts and faults.
        refuse: share of the questions that are declined.
        malform: share of the answers that lack a slot.
        concurrency: calls that are worth making side by side.

    Raises:
        UserError: a share out of range.
    """

    def __init__(
        self, seed: int = 0, refuse: float = 0.0, malform: float = 0.0, concurrency: int = 8
    ) -> None:
        for name, share in (('refuse', refuse), ('malform', malform)):
            if not 0 <= share <= 1:
                raise UserError(f'{name} must lie in [0, 1], got {share}')
        self.name, self.concurrency = MODEL, concurrency
        self.settings = dict(seed=seed, refuse=refuse, malform=malform)
        self._drawn: dict[str, int] = {}

    async def __aenter__(self) -> FrameWorldTeacher:
        """Nothing to open."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing to close."""

    async def agenerate(self, messages: list[Message], sampling: Sampling) -> Reply:
        """An answer, see :class:`~mmkd.teachers.base.Teacher`.

        The same question gets another context each time it is asked, as a drawing model gives it.
        """
        kind, is_json = kind_of(messages[0]['content'])
        key = digest(messages)
        number = self._drawn[key] = self._drawn.get(key, -1) + 1
        rng = Random(f'{self.settings["seed"]} {key} {number}')
        if rng.random() < self.settings['refuse']:
            return _reply(REFUSAL)
        call = CALLS[kind]
        try:
            given = read_given(messages[-1]['content'], call, is_json)
            values = _ANSWERS[kind](given, rng)
        except UserError:
            return _reply('This is not of my world.')
        if rng.random() < self.settings['malform']:
            values.pop(rng.choice(sorted(values)))
        return _reply(written(values, call, is_json))


def kind_of(system: str) -> tuple[str, bool]:
    """Which call a system message makes, and whether it asks for JSON.

    Raises:
        UserError: none of them.
    """
    texts = load_prompts()
    for kind in CALLS:
        for form in ('tagged', 'json'):
            if system == texts.system(kind, form):
                return kind, form == 'json'
    raise UserError('the teacher of the world of frames answers the prompts of prompts.yaml alone')


def read_given(user: str, call: Call, is_json: bool) -> dict[str, str]:
    """Slots that the last block of a prompt gives."""
    if is_json:
        return json.loads(user.rpartition(_INPUT)[2].removesuffix(_OUTPUT))
    names = {slot: load_prompts().names[slot] for slot in call.given}
    block, _, _ = user.rpartition('\n\n')[2].rpartition('\n')
    return dict(parse_tagged(block, names, call.given).values)


def written(values: Mapping[str, str], call: Call, is_json: bool) -> str:
    """An answer as the prompt wants it: JSON, or lines that go on from the opened slot."""
    ordered = {slot: values[slot] for slot in call.asked if slot in values}
    if is_json:
        return json.dumps(ordered)
    names, first = load_prompts().names, call.asked[0]
    text = '\n'.join(f'[{names[slot]}] {text}{CLOSE}' for slot, text in ordered.items())
    return text.removeprefix(f'[{names[first]}] ') if first in ordered else text


def _contexts(given: Mapping[str, str], rng: Random) -> dict[str, str]:
    """Any context of the statement."""
    saying = saying_of(given['statement'])
    return rng.choice(scenes(saying.family)).context(saying.field) | {COMPLETE: 'yes'}


def _explanations(given: Mapping[str, str], rng: Random) -> dict[str, str]:
    """What follows from the rules."""
    saying = saying_of(given['statement'])
    context = {slot: text for slot, text in given.items() if slot != 'statement'}
    return explain(saying, scene_of(saying, **context))


def _check(given: Mapping[str, str], rng: Random) -> dict[str, str]:
    """Statements of the world are whole."""
    try:
        saying_of(given['statement'])
    except UserError:
        return {COMPLETE: 'no'}
    return {COMPLETE: 'yes'}


def _counterfactual(given: Mapping[str, str], rng: Random) -> dict[str, str]:
    """A friendly context and a slight."""
    saying = saying_of(given['statement'])
    return {
        f'{side}_{slot}': text
        for wanted, side in enumerate(SIDES)
        for slot, text in _drawn(saying, wanted, rng).context(saying.field).items()
    }


def _drawn(saying: Saying, wanted: int, rng: Random) -> Scene:
    """A context with that label."""
    return rng.choice([each for each in scenes(saying.family) if label(saying, each) == wanted])


_ANSWERS: dict[str, Callable[[Mapping[str, str], Random], dict[str, str]]] = dict(
    contexts=_contexts, explanations=_explanations, check=_check, counterfactual=_counterfactual
)


def _reply(text: str) -> Reply:
    """An answer that came to its end."""
    count = len(text.split())
    return Reply(text=text, finish_reason='stop', usage=Usage(completion=count, total=count))
