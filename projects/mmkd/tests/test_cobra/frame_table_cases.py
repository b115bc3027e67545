"""Tables of neutral frames for tests, and CSV files of them."""

import csv
from pathlib import Path

from mmkd.cobra.schema import CONTEXT, SLOTS, Frame, frame_id, statement_id

RELEASED_NAMES = dict(
    statement='statement',
    situation='situationalContext',
    speaker='speakerIdentity',
    listener='listenerIdentity',
    intent='intent',
    target_group='targetGroup',
    power='relevantPowerDynamics',
    implication='implication',
    emotional='targetGroupEmotionalReaction',
    cognitive='targetGroupCognitiveReaction',
    offensiveness='offensiveness',
)
"""Slots and their columns, written down here once more."""
TRICKY = [
    'None',
    'N/A',
    'none',
    'null',
    'NaN',
    'NA',
    '',
    ' ',
    '"',
    "a, 'b'\n\n\tc",
    '🙂é',
    'a\r\nb',
]
"""Texts that readers of tables like to change."""


def slots(number: int = 0, **others: str) -> dict[str, str]:
    """A statement of praise with its context and explanation."""
    values = dict(statement=f'Report {number} is well written.')
    values |= {name: f'{name} of {number}' for name in CONTEXT + SLOTS}
    return values | others


def frame(number: int = 0, context: int = 0, **others: object) -> Frame:
    """A frame of statement ``number`` in one of its contexts."""
    texts = slots(number, situation=f'meeting {context}')
    texts |= {name: others.pop(name) for name in list(others) if name in texts}
    ids = dict(
        frame_id=frame_id(texts['statement'], texts), statement_id=statement_id(texts['statement'])
    )
    return Frame(**{**ids, **texts, **others})


def released(values: dict[str, str], **more: str) -> dict[str, str]:
    """Slots under the names of the released columns, and further columns."""
    return {RELEASED_NAMES[name]: text for name, text in values.items()} | more


def save_csv(path: Path, rows: list[dict[str, str]], encoding: str = 'utf-8', end='\n') -> Path:
    """Writes rows whose keys are the header."""
    with path.open('w', encoding=encoding, newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)
    return path
