"""What there is in the world: fields of work, ranks, places, statements and situations."""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """A field of work.

    Attributes:
        roles: of people in it, from the lowest rank to the highest.
        product: what they make.
        skill: that beginners of it learn.
        place: where they work.
    """

    roles: tuple[str, str, str]
    product: str
    skill: str
    place: str


FIELDS = {
    'numbers': Field(
        ('a pupil', 'an accountant', 'the head of accounts'),
        'the totals',
        'add up a column',
        'the counting room',
    ),
    'music': Field(
        ('a piano student', 'a pianist', 'the conductor'),
        'the song',
        'keep time',
        'the concert hall',
    ),
    'cooking': Field(
        ('a kitchen trainee', 'a cook', 'the head chef'), 'the soup', 'peel carrots', 'the kitchen'
    ),
    'gardening': Field(
        ('a garden helper', 'a gardener', 'the head gardener'),
        'the flower beds',
        'water the plants',
        'the garden',
    ),
    'writing': Field(
        ('a young reporter', 'an editor', 'the chief editor'),
        'the article',
        'spell',
        'the newsroom',
    ),
    'driving': Field(
        ('a learner driver', 'a bus driver', 'the depot manager'), 'the route', 'park', 'the depot'
    ),
    'repairs': Field(
        ('an apprentice', 'a mechanic', 'the workshop manager'),
        'the engine',
        'change a tyre',
        'the workshop',
    ),
    'teaching': Field(
        ('a trainee teacher', 'a teacher', 'the head teacher'),
        'the lesson',
        'write on the board',
        'the school',
    ),
}
LOW, MIDDLE, HIGH = 0, 1, 2
"""Ranks: positions in :attr:`Field.roles`."""
SETTINGS = {
    'in a private talk': False,
    'on the phone': False,
    'before the whole team': True,
    'at a public event': True,
}
"""How people meet; True: others listen."""


class Family(NamedTuple):
    """A kind of statement.

    Attributes:
        statements: with ``{skill}``, ``{product}`` or ``{place}`` of a field.
        friendly: situations that leave the statement what it is.
        tense: those in which it may be a slight.
        slight: name of the slight.
    """

    statements: tuple[str, ...]
    friendly: tuple[str, ...]
    tense: tuple[str, ...]
    slight: str


FAMILIES = {
    'praise': Family(
        (
            'You {skill} very well.',
            'I like how you {skill}.',
            'It is great that you can {skill}.',
            'Well done, you really can {skill}.',
        ),
        ('it is the first day of a course', 'a training has just ended'),
        ('a long project has just ended', 'a prize has just been given'),
        'condescension',
    ),
    'check': Family(
        (
            'I will look at {product} again.',
            'Let me see {product} once more.',
            'I had better check {product} myself.',
            'Show me {product} before anyone sees it.',
        ),
        (
            'both have agreed to check everything twice',
            'the listener has asked for a second look',
            'the rules want two people to look',
        ),
        (
            'the work has been accepted already',
            'nobody has found a mistake in years',
            'the work is the duty of the listener alone',
        ),
        'distrust',
    ),
    'greeting': Family(
        (
            'You are early at {place} today.',
            'How nice that you are at {place} already.',
            'Good morning, you have found {place}.',
            'There you are, in time for {place}.',
        ),
        ('the day has not begun yet', 'the listener is the first to come'),
        ('the listener comes an hour late', 'everyone has waited for the listener'),
        'sarcasm',
    ),
    'offer': Family(
        (
            'You can leave {product} to me.',
            'I will do {product} for you.',
            'Do not trouble yourself with {product}.',
        ),
        ('the listener has too much to do', 'the listener is about to go on leave'),
        ('the listener has almost finished', 'the listener has prepared it for weeks'),
        'exclusion',
    ),
}
