"""Counterfactual pairs, and the labels that annotators' answers make."""

import itertools
import random

import pytest
from frame_table_cases import frame, save_csv

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import CONTEXT, SLOTS, frame_id, statement_id
from mmkd.cobra.tables.importers import with_unique_ids
from mmkd.cobra.tables.pairing import (
    aggregate,
    join_tables,
    pair_by_statement,
    pair_labels,
    read_pairs_csv,
)

NONE = (None, None, None, None)
TABLE = {
    'A': [
        ('A A', NONE),
        ('A B', NONE),
        ('A none', NONE),
        ('A both', NONE),
        ('B A', (1, 0, 1, 0)),
        ('B B', NONE),
        ('B none', (-1, -1, 1, 0)),
        ('B both', NONE),
        ('none A', (-1, -1, 1, 0)),
        ('none B', NONE),
        ('none none', (-1, -1, 1, 0)),
        ('none both', (-1, -1, 1, 0)),
        ('both A', NONE),
        ('both B', NONE),
        ('both none', (-1, -1, 1, 0)),
        ('both both', NONE),
    ],
    'none': [
        ('A A', NONE),
        ('A B', (-1, -1, -1, -1)),
        ('A none', (-1, -1, -1, -1)),
        ('A both', NONE),
        ('none none', (-1, -1, -1, -1)),
        ('none both', (-1, -1, -1, -1)),
        ('both none', (-1, -1, -1, -1)),
        ('both both', NONE),
    ],
}
"""Which is more offensive: harmless and offensive, and labels; derived by hand."""


@pytest.mark.parametrize(
    ('more', 'others', 'labels'),
    [(more, *case) for more, cases in TABLE.items() for case in cases],
)
def test_labels_of_one_annotator(more, others, labels):
    """The whole table for A, and what is left where none is more offensive."""
    assert pair_labels(more, *others.split()) == labels


def test_labels_do_not_depend_on_the_names_of_contexts():
    """Swapping A and B in the answers swaps the labels; both is as undecided as none."""
    other = dict(A='B', B='A', none='none', both='both')
    decided = []
    for answers in itertools.product(other, repeat=3):
        a, b, more_a, more_b = pair_labels(*answers)
        assert pair_labels(*(other[each] for each in answers)) == (b, a, more_b, more_a)
        if {a, b} == {0, 1}:
            decided.append(answers)
            assert (more_a, more_b) == (a, b)
        if answers[0] == 'both':
            assert (a, b, more_a, more_b) == pair_labels('none', *answers[1:])
    assert decided == [('A', 'B', 'A'), ('B', 'A', 'B')]


@pytest.mark.parametrize('where', range(3))
def test_another_answer_is_refused(where):
    """None of the four."""
    answers = ['A', 'B', 'A']
    answers[where] = 'a'
    name = ['more_offensive', 'harmless', 'offensive'][where]
    with pytest.raises(UserError, match=f"{name}: must be one of .*'both'.*got 'a'"):
        pair_labels(*answers)


@pytest.mark.parametrize(
    ('votes', 'majority', 'everyone'),
    [
        ([1, 1, 1], 1, 1),
        ([0, 0, 0], 0, 0),
        ([1, 1, 0], 1, -1),
        ([0, -1, 0], 0, -1),
        ([1, 0, -1], -1, -1),
        ([-1, -1, 1], -1, -1),
        ([1, 1, None], 1, None),
        ([1, 0, None], -1, None),
        ([0, None, None], -1, None),
        ([None, None, None], None, None),
    ],
)
def test_two_of_three_and_all_three(votes, majority, everyone):
    """Whatever the order of annotators."""
    for order in itertools.permutations(votes):
        assert aggregate(order, 1) == majority
        assert aggregate(order, 2) == everyone


def test_bars():
    """More than the bar, never as many; two values that pass it would be no label."""
    assert aggregate([0, 0, 0, 1, 1], 2) == 0
    assert aggregate([0, 0, 0, 1, 1], 3) == -1
    assert aggregate([1], 0) == 1
    assert aggregate([], 1) is None
    with pytest.raises(UserError, match='bar: two values can pass 1 with 4 votes.*at least 2'):
        aggregate([0, 0, 1, 1], 1)


def test_votes_become_the_labels_of_a_pair():
    """Three annotators, one of whom only says which context is more offensive."""
    votes = [pair_labels('B', 'A', 'B')] * 2 + [pair_labels('B', 'both', 'none')]
    columns = list(zip(*votes, strict=True))
    assert [aggregate(each, 1) for each in columns] == [0, 1, 0, 1]
    assert [aggregate(each, 2) for each in columns] == [-1, -1, 0, 1]


def labelled(number, labels, **more):
    """Frames of a statement, one for each label, in contexts of their own."""
    return [frame(number, k, label_majority=each, **more) for k, each in enumerate(labels)]


def by_pair(frames):
    """Ids of side A and side B of each pair."""
    found = {}
    for each in frames:
        if each.pair_id is not None:
            assert found.setdefault(each.pair_id, {}).setdefault(each.side, each.frame_id)
            assert found[each.pair_id][each.side] == each.frame_id
    assert all(sorted(sides) == ['A', 'B'] for sides in found.values())
    return sorted((sides['A'], sides['B']) for sides in found.values())


def test_two_contexts_with_opposite_labels_make_a_pair():
    """The harmless one is side A; three contexts, one, or other labels make none."""
    groups = [[1, 0], [0, 1], [0, 1, 0], [1], [1, 1], [0, -1], [None, 1], [None, None]]
    frames = [each for n, labels in enumerate(groups) for each in labelled(n, labels)]
    paired = pair_by_statement(frames)
    expected = [(frames[1], frames[0]), (frames[2], frames[3])]
    assert by_pair(paired) == sorted((a.frame_id, b.frame_id) for a, b in expected)
    cleared = [each.model_copy(update=dict(pair_id=None, side=None)) for each in paired]
    assert cleared == frames


def test_undecided_pairs_are_an_option():
    """All statements with two contexts; the sides of decided ones stay."""
    groups = [[1, 0], [1, 1], [None, None], [0, 1, 0], [0, -1], [1]]
    frames = [each for n, labels in enumerate(groups) for each in labelled(n, labels)]
    pairs = by_pair(pair_by_statement(frames, undecided=True))
    assert len(pairs) == 4 and by_pair(pair_by_statement(frames))[0] in pairs
    ids = {each.frame_id: each.statement for each in frames}
    assert all(ids[a] == ids[b] for a, b in pairs)


def test_pairs_survive_shuffling_and_filtering():
    """Rows 2k and 2k + 1 would not be pairs any more."""
    frames = [each for n in range(20) for each in labelled(n, [n % 2, 1 - n % 2])]
    pairs = by_pair(pair_by_statement(frames))
    left = frames[1:]
    random.Random(0).shuffle(left)
    found = by_pair(pair_by_statement(left))
    assert len(pairs) == 20 and len(found) == 19 and set(found) < set(pairs)
    ids = {each.frame_id: (each.pair_id, each.side) for each in pair_by_statement(frames)}
    for each in pair_by_statement(left):
        if each.pair_id is not None:
            assert (each.pair_id, each.side) == ids[each.frame_id]


def test_one_context_twice_is_no_pair():
    """Even with opposite labels, and even if undecided pairs are taken."""
    one, two = with_unique_ids([frame(label_majority=0), frame(label_majority=1)])
    for undecided in (False, True):
        assert pair_by_statement([one, two], undecided=undecided) == [one, two]


def test_which_label_decides():
    """That of the majority, or that of all."""
    frames = labelled(0, [0, 1], label_all=-1) + labelled(1, [-1, -1], label_all=None)
    frames[2:] = [f.model_copy(update=dict(label_all=n)) for n, f in enumerate(frames[2:])]
    assert by_pair(pair_by_statement(frames)) == [tuple(f.frame_id for f in frames[:2])]
    found = by_pair(pair_by_statement(frames, 'label_all'))
    assert found == [tuple(f.frame_id for f in frames[2:])]
    with pytest.raises(UserError, match=r"label: .*'label_al' \(did you mean 'label_all'"):
        pair_by_statement(frames, 'label_al')


def test_a_pair_has_one_id_whichever_side_is_which():
    """Labels that disagree swap the sides, not the pair."""
    frames = [frame(0, k, label_majority=k, label_all=1 - k) for k in range(2)]
    one, two = pair_by_statement(frames), pair_by_statement(frames, 'label_all')
    assert [each.side for each in one] == ['A', 'B'] and [each.side for each in two] == ['B', 'A']
    assert len({each.pair_id for each in one + two}) == 1


def test_frames_of_a_pair_are_not_paired_again():
    """What has a pair keeps it."""
    one, two, other = labelled(0, [0, 1, 0])
    frames = [one.model_copy(update=dict(pair_id='p', side='B')), two, other]
    paired = pair_by_statement(frames)
    assert (paired[0].pair_id, paired[0].side) == ('p', 'B')
    assert by_pair(paired[1:]) == [(other.frame_id, two.frame_id)]


WIDE_NAMES = dict(situation='situationalContext', speaker='speakerIdentity')
WIDE_NAMES |= dict(listener='listenerIdentity')


def wide(number=0, names=WIDE_NAMES, **more):
    """A wide row."""
    row = dict(statement=f'Report {number} is well written.')
    for kind in ('offensive', 'harmless'):
        row |= {f'{kind}_{names.get(k, k)}': f'{kind} {k} N/A {number}' for k in CONTEXT}
    return row | more


def test_wide_rows_make_two_frames(tmp_path):
    """Harmless on side A; labels of a column that begins alike are no context."""
    rows = [wide(n, offensive_majority='1.0', tags='') for n in range(3)]
    path = save_csv(tmp_path / 'w.csv', rows)
    frames = read_pairs_csv(path, accept_content_warning=True)
    assert len(frames) == 6 and len({f.pair_id for f in frames}) == 3
    for n, each in enumerate(frames):
        kind, statement = ('harmless', 'offensive')[n % 2], rows[n // 2]['statement']
        assert each.context() == {k: f'{kind} {k} N/A {n // 2}' for k in CONTEXT}
        assert (each.statement, each.side, each.source) == (statement, 'AB'[n % 2], 'w')
        assert each.frame_id == frame_id(statement, each.context())
        assert each.statement_id == statement_id(statement)
        assert each.extra == dict(offensive_majority='1.0', tags='')
        assert each.label_majority is None and each.missing() == SLOTS
        assert each.pair_id == frames[n ^ 1].pair_id


@pytest.mark.parametrize('names', [{}, WIDE_NAMES | dict(situation='speechContext')])
def test_wide_spellings(tmp_path, names):
    """The other released one, and ours."""
    path, other = (
        save_csv(tmp_path / f'{k}.csv', [wide(0, each, group='g')])
        for k, each in enumerate([WIDE_NAMES, names])
    )
    frames = read_pairs_csv(path, source='s', accept_content_warning=True)
    assert read_pairs_csv(other, source='s', accept_content_warning=True) == frames
    assert [f.group for f in frames] == ['g', 'g']


def test_wide_files_need_consent_and_all_columns(tmp_path):
    """As other files do."""
    row = wide()
    row['harmless_speakerIdentitty'] = row.pop('harmless_speakerIdentity')
    path = save_csv(tmp_path / 'w.csv', [row])
    with pytest.raises(UserError, match='accept_content_warning=True'):
        read_pairs_csv(path)
    said = r"w.csv: has no column harmless_speakerIdentity.*did you mean 'harmless_speakerIdentitty"
    with pytest.raises(UserError, match=said):
        read_pairs_csv(path, accept_content_warning=True)


def test_joined_tables_keep_pairs_apart(tmp_path):
    """A row that occurs again, in its file and in another one, is a pair of its own."""
    path = save_csv(tmp_path / 'w.csv', [wide(0), wide(1), wide(0)])
    table = read_pairs_csv(path, accept_content_warning=True)
    assert len(by_pair(table)) == 3
    single = labelled(5, [0, 1])
    joined = join_tables([table, single, table[::-1], table])
    assert len(joined) == 20 and len({f.frame_id for f in joined}) == 20
    assert joined[:8] == table + single
    pairs = by_pair(joined)
    assert len(pairs) == 9
    ids = {f.frame_id: f for f in joined}
    for a, b in pairs:
        assert ids[a].statement == ids[b].statement
        assert ids[a].situation.startswith('harmless') and ids[b].situation.startswith('offensive')
