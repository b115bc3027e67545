"""Counterfactual pairs: one statement in two contexts, harmless in the one and not in the other.

The idea is that of COBRACORPUS-CF (arXiv 2306.01985), whose labels are answers of three annotators
to three questions about both contexts: which is more offensive, which is harmless, which is
offensive. How answers become labels follows the rules that are known of it; where they leave a case
open, the docstrings say what is our own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.schema import CONTEXT, Frame, Label
from mmkd.cobra.tables.csv_rows import find_columns, read_csv, require_consent
from mmkd.cobra.tables.importers import RELEASED, frame_of, group_reader, with_unique_ids
from mmkd.traces.schema import digest

Choice = Literal['A', 'B', 'none', 'both']
CHOICES = ('A', 'B', 'none', 'both')
KINDS = ('harmless', 'offensive')
"""Beginnings of the columns of both contexts; the first one is side A."""
WIDE = {
    f'{kind}_{name}': tuple(f'{kind}_{each}' for each in (*RELEASED[name], name))
    for kind in KINDS
    for name in CONTEXT
}
Labels = tuple[Label | None, Label | None, Label | None, Label | None]


def read_pairs_csv(
    path: str | Path,
    *,
    source: str | None = None,
    accept_content_warning: bool = False,
    group_column: str = 'group',
) -> list[Frame]:
    """Two frames of each wide row: of ``harmless_*``, side A, and of ``offensive_*``, side B.

    What follows the beginning is a column of the context, in the released spelling or in ours. The
    names say what the contexts are meant to be, not what annotators think, so there are no labels.

    Args:
        path: of the file; ``statement`` and the six columns are needed.
        source: name of the data; None: the name of the file without its ending.
        accept_content_warning: True: you know that the statements are offensive.
        group_column: that names the group; ``group`` may be missing.

    Returns:
        Frames, two of a row after each other, with ``pair_id`` and ``side``. Other columns, those
        of labels like ``offensive_majority`` included, are in ``extra`` of both.

    Raises:
        UserError: as :func:`~mmkd.cobra.tables.importers.read_frames_csv`.
    """
    require_consent(accept_content_warning)
    header, rows = read_csv(path)
    spellings = dict(statement=('statement',), **WIDE)
    columns = find_columns(path, header, spellings, spellings)
    group_of = group_reader(path, header, group_column)
    name = Path(path).stem if source is None else source
    used = {*columns.values(), group_column}
    frames: list[Frame] = []
    for _, cells in rows:
        row = dict(zip(header, cells, strict=True))
        values = {key: row[column] for key, column in columns.items()}
        extra = {key: cell for key, cell in row.items() if key not in used}
        frames += pair_of(values, group=group_of(row), source=name, extra=extra)
    frames = with_unique_ids(frames)
    ids = [_pair_id(*frames[n : n + 2]) for n in range(0, len(frames), 2)]
    return [
        frame.model_copy(update=dict(pair_id=ids[number // 2]))
        for number, frame in enumerate(frames)
    ]


def pair_of(values: Mapping[str, str], **others: object) -> tuple[Frame, Frame]:
    """The frames of ``statement``, ``harmless_situation``, ... and ``offensive_situation``, ..."""
    harmless, offensive = (
        frame_of(
            dict(
                statement=values['statement'],
                **{name: values[f'{kind}_{name}'] for name in CONTEXT},
            ),
            side=side,
            **others,
        )
        for kind, side in zip(KINDS, 'AB', strict=True)
    )
    pair_id = dict(pair_id=_pair_id(harmless, offensive))
    return harmless.model_copy(update=pair_id), offensive.model_copy(update=pair_id)


def pair_by_statement(
    frames: Sequence[Frame], label: str = 'label_majority', undecided: bool = False
) -> list[Frame]:
    """The same frames in their order, with ``pair_id`` and ``side`` where two make a pair.

    A pair is a statement with exactly two frames in different contexts, one labelled 0 (side A) and
    one 1 (side B). Neither the order of rows nor rows that were left out can bring others together.

    Args:
        frames: in any order; those with a ``pair_id`` keep it and take no part.
        label: ``label_majority`` or ``label_all``.
        undecided: takes all statements with exactly two frames in different contexts; where the
            labels do not tell the sides, the ids do.

    Raises:
        UserError: no such label.
    """
    known = ('label_majority', 'label_all')
    if label not in known:
        raise UserError(f'label: must be one of {known}, got {label!r}{did_you_mean(label, known)}')
    statements: defaultdict[str, list[int]] = defaultdict(list)
    for number, frame in enumerate(frames):
        if frame.pair_id is None:
            statements[frame.statement_id].append(number)
    made = list(frames)
    for numbers in statements.values():
        if len(numbers) != 2 or frames[numbers[0]].context() == frames[numbers[1]].context():
            continue
        decided = {getattr(frames[number], label) for number in numbers} == {0, 1}
        if decided or undecided:
            key = label if decided else 'frame_id'
            numbers.sort(key=lambda number: getattr(frames[number], key))
            pair_id = _pair_id(*(frames[number] for number in numbers))
            for number, side in zip(numbers, 'AB', strict=True):
                new = dict(pair_id=pair_id, side=side)
                made[number] = frames[number].model_copy(update=new)
    return made


def join_tables(tables: Iterable[Sequence[Frame]]) -> list[Frame]:
    """The frames of several tables after each other, with unique ids of frames and pairs.

    A frame that occurs again is numbered; a pair that an earlier table has too gets another id.
    """
    joined: list[Frame] = []
    taken: set[str | None] = {None}
    for number, table in enumerate(tables):
        names = {frame.pair_id for frame in table}
        new = {name: digest(dict(table=number, pair=name)) for name in (names & taken) - {None}}
        joined += [
            frame.model_copy(update=dict(pair_id=new.get(frame.pair_id, frame.pair_id)))
            for frame in table
        ]
        taken |= names
    return with_unique_ids(joined)


def pair_labels(more_offensive: Choice, harmless: Choice, offensive: Choice) -> Labels:
    """What the answers of one annotator say about contexts A and B.

    With one context harmless, the other one offensive and more offensive, they are labelled 0 and
    1. Otherwise labels are -1, and the more offensive context, where one is named, is told by 1 and
    0. Our own: answers contradict each other where one context is both harmless and offensive, or
    where the more offensive one is harmless alone, or not the one that is offensive alone; a
    context that is named more offensive counts even if only one of the other answers is decided.

    Args:
        more_offensive: ``A`` or ``B``; ``none`` and ``both``: not decided.
        harmless: ``A``, ``B``, ``none`` or ``both``.
        offensive: alike.

    Returns:
        ``label_a``, ``label_b``, ``more_a`` and ``more_b``; all None: a contradiction.

    Raises:
        UserError: another answer.
    """
    answers = dict(more_offensive=more_offensive, harmless=harmless, offensive=offensive)
    for name, answer in answers.items():
        if answer not in CHOICES:
            raise UserError(f'{name}: must be one of {CHOICES}, got {answer!r:.20}')
    if _contradictory(more_offensive, harmless, offensive):
        return None, None, None, None
    more: tuple[Label, Label] = dict(A=(1, 0), B=(0, 1)).get(more_offensive, (-1, -1))
    if {harmless, offensive} == {'A', 'B'} and more_offensive == offensive:
        return *more, *more
    return -1, -1, *more


def aggregate(votes: Sequence[Label | None], bar: int) -> Label | None:
    """What more than ``bar`` annotators say of a context, -1 where there is no such thing.

    Of three annotators, a bar of 1 makes the majority label and one of 2 the label of all. Our own:
    a vote of None, a contradiction, counts for no value, and where all have to agree it takes the
    label away.

    Args:
        votes: -1, 0, 1 or None of each annotator; none at all: nobody was asked.
        bar: that a value must pass; high enough for two values not to pass it both.

    Returns:
        The label; None: there are no votes that count, or all should agree and one contradicts
        itself.

    Raises:
        UserError: the bar is too low.
    """
    if 2 * (bar + 1) <= len(votes):
        raise UserError(
            f'bar: two values can pass {bar} with {len(votes)} votes; take at least '
            f'{len(votes) // 2}'
        )
    counts = Counter(vote for vote in votes if vote is not None)
    all_needed = bar >= len(votes) - 1
    if not counts or (all_needed and None in votes):
        return None
    value, count = counts.most_common(1)[0]
    return value if count > bar else -1


def _contradictory(more_offensive: Choice, harmless: Choice, offensive: Choice) -> bool:
    """Whether the answers of one annotator cannot all be true."""
    contexts = dict(A={'A'}, B={'B'}, none=set(), both={'A', 'B'})
    if contexts[harmless] & contexts[offensive]:
        return True
    if more_offensive not in ('A', 'B'):
        return False
    alone = offensive in ('A', 'B') and offensive != more_offensive
    return alone or harmless == more_offensive


def _pair_id(one: Frame, other: Frame) -> str:
    """Key of two frames, whichever comes first."""
    return digest(dict(pair=sorted([one.frame_id, other.frame_id])))
