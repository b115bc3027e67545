"""What a statement of the world does in a context: the label, and the text of all slots.

Each family depends on other slots of the context: praise on the listener, a check on the situation,
a greeting on the speaker and the situation, an offer on all three. Public scenes add to what the
listener feels, whatever is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import product
from typing import NamedTuple

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import Frame, Provenance, frame_id, statement_id
from mmkd.cobra.world.facts import FAMILIES, FIELDS, HIGH, LOW, SETTINGS

FRIENDLY, SLIGHT = 0, 1
"""Labels."""
NOT_OFFENSIVE = 'none'
MODEL = 'frame-world'


class Saying(NamedTuple):
    """A statement of the world: its text, family and field."""

    text: str
    family: str
    field: str


class Scene(NamedTuple):
    """A context of the world.

    Attributes:
        setting: how people meet.
        circumstance: what has happened.
        speaker: rank of who speaks.
        listener: rank of who listens.
    """

    setting: str
    circumstance: str
    speaker: int
    listener: int

    def context(self, field: str) -> dict[str, str]:
        """The three slots of the schema."""
        roles = FIELDS[field].roles
        return dict(
            situation=f'{self.setting}, {self.circumstance}',
            speaker=roles[self.speaker],
            listener=roles[self.listener],
        )


@cache
def sayings() -> tuple[Saying, ...]:
    """All statements of the world."""
    return tuple(
        Saying(text.format(**FIELDS[field]._asdict()), family, field)
        for family, field in product(FAMILIES, FIELDS)
        for text in FAMILIES[family].statements
    )


@cache
def scenes(family: str) -> tuple[Scene, ...]:
    """All contexts of a family's statements, in every field."""
    about = FAMILIES[family]
    ranks = range(HIGH + 1)
    return tuple(map(Scene._make, product(SETTINGS, about.friendly + about.tense, ranks, ranks)))


_RULES: dict[str, Callable[[Scene, bool], bool]] = {
    'praise': lambda scene, tense: scene.listener > LOW,
    'check': lambda scene, tense: tense,
    'greeting': lambda scene, tense: tense and scene.speaker > scene.listener,
    'offer': lambda scene, tense: tense and scene.speaker >= scene.listener,
}


def label(saying: Saying, scene: Scene) -> int:
    """:data:`SLIGHT` or :data:`FRIENDLY`."""
    tense = scene.circumstance in FAMILIES[saying.family].tense
    return int(_RULES[saying.family](scene, tense))


_INTENT = {
    'praise': ('to encourage {listener}', 'to praise {listener} for something easy'),
    'check': ('to do a shared duty', 'to make sure that {listener} made no mistake'),
    'greeting': ('to welcome {listener}', 'to remind {listener} of being late'),
    'offer': ('to help {listener}', 'to take the work from {listener}'),
}
_IMPLICATION = {
    'praise': ('{listener} makes progress', 'little is expected of {listener}'),
    'check': ('two people see more than one', 'the work of {listener} cannot be relied on'),
    'greeting': ('{listener} is welcome', '{listener} is not on time'),
    'offer': ('{listener} may rest', '{listener} is not needed'),
}
_COGNITIVE = {
    'praise': ('learns to go on practising', 'learns to hide what is easy'),
    'check': ('learns to share work', 'learns to doubt the own work'),
    'greeting': ('learns to come with pleasure', 'learns to avoid meetings'),
    'offer': ('learns to ask for help', 'learns to keep work secret'),
}
_EMOTIONAL = {
    (FRIENDLY, False): 'pleased',
    (FRIENDLY, True): 'pleased and proud before the others',
    (SLIGHT, False): 'hurt',
    (SLIGHT, True): 'hurt and embarrassed before the others',
}


def power(scene: Scene, context: Mapping[str, str]) -> str:
    """Who ranks above whom."""
    if scene.speaker == scene.listener:
        return 'both have the same rank'
    above, below = (
        ('speaker', 'listener')
        if scene.speaker > scene.listener
        else (
            'listener',
            'speaker',
        )
    )
    return f'{context[above]} ranks above {context[below]}'


def explain(saying: Saying, scene: Scene) -> dict[str, str]:
    """The seven slots of the explanation."""
    found, context = label(saying, scene), scene.context(saying.field)
    words = dict(listener=context['listener'])
    return dict(
        intent=_INTENT[saying.family][found].format(**words),
        target_group=context['listener'],
        power=power(scene, context),
        implication=_IMPLICATION[saying.family][found].format(**words),
        emotional=_EMOTIONAL[found, SETTINGS[scene.setting]],
        cognitive=_COGNITIVE[saying.family][found],
        offensiveness=f'offensive {FAMILIES[saying.family].slight}' if found else NOT_OFFENSIVE,
    )


def frame(saying: Saying, scene: Scene, **others: str) -> Frame:
    """The whole frame; all annotators agree with the rules."""
    context, found = scene.context(saying.field), label(saying, scene)
    return Frame(
        frame_id=frame_id(saying.text, context),
        statement_id=statement_id(saying.text),
        statement=saying.text,
        **context,
        **explain(saying, scene),
        offensive_bin=found,
        label_majority=found,
        label_all=found,
        group=saying.field,
        source=MODEL,
        provenance=Provenance(model=MODEL, attempts=1),
        **others,
    )


@cache
def _known() -> dict[str, Saying]:
    """Statements by text."""
    return {each.text: each for each in sayings()}


def saying_of(statement: str) -> Saying:
    """The statement of a text.

    Raises:
        UserError: the world does not know it.
    """
    if statement not in _known():
        raise UserError('a statement that the world does not know was asked about')
    return _known()[statement]


def scene_of(saying: Saying, situation: str, speaker: str, listener: str) -> Scene:
    """The context of three texts.

    Raises:
        UserError: the world does not know them.
    """
    setting, _, circumstance = situation.partition(', ')
    roles = FIELDS[saying.field].roles
    about = FAMILIES[saying.family]
    if not (
        setting in SETTINGS
        and circumstance in about.friendly + about.tense
        and {speaker, listener} <= set(roles)
    ):
        raise UserError('a context that the world does not know was asked about')
    return Scene(setting, circumstance, roles.index(speaker), roles.index(listener))
