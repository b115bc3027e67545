"""The world of frames: rules, texts, splits, and pairs of contexts."""

from collections import Counter, defaultdict
from itertools import combinations

import pytest

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import CONTEXT, SLOTS
from mmkd.cobra.world.draw import CONTEXTS, SHARES, corpus, pairs, statements
from mmkd.cobra.world.facts import FAMILIES, FIELDS
from mmkd.cobra.world.rules import (
    frame,
    label,
    saying_of,
    sayings,
    scene_of,
    scenes,
)


def every_frame():
    """All statements in all their contexts."""
    return [(each, scene) for each in sayings() for scene in scenes(each.family)]


def test_the_label_needs_the_slots_that_its_rule_names() -> None:
    """Knowing only the other slots, both labels are possible; knowing these, one is."""
    needed = {
        'praise': {'listener'},
        'check': {'situation'},
        'greeting': {'situation', 'speaker', 'listener'},
        'offer': {'situation', 'speaker', 'listener'},
    }
    for family, wanted in needed.items():
        deciding = []
        for size in range(len(CONTEXT) + 1):
            for names in combinations(CONTEXT, size):
                labels = defaultdict(set)
                for saying, scene in every_frame():
                    if saying.family == family:
                        context = scene.context(saying.field)
                        known = (saying.text, *(context[name] for name in names))
                        labels[known].add(label(saying, scene))
                if all(len(found) == 1 for found in labels.values()):
                    deciding.append(set(names))
        assert min(deciding, key=len) == wanted


def test_every_statement_is_both_friendly_and_a_slight_somewhere() -> None:
    """So that no statement alone tells its label."""
    seen = defaultdict(set)
    for saying, scene in every_frame():
        seen[saying.text].add(label(saying, scene))
    assert set(map(frozenset, seen.values())) == {frozenset({0, 1})}


def test_what_the_slots_say_follows_from_the_label_and_the_scene() -> None:
    """Derived by hand for one statement in two contexts, then by law for all frames."""
    praise = saying_of('You add up a column very well.')
    scene = scene_of(
        praise, 'on the phone, a training has just ended', 'the head of accounts', 'an accountant'
    )
    assert frame(praise, scene).explanation() == dict(
        intent='to praise an accountant for something easy',
        target_group='an accountant',
        power='the head of accounts ranks above an accountant',
        implication='little is expected of an accountant',
        emotional='hurt',
        cognitive='learns to hide what is easy',
        offensiveness='offensive condescension',
    )
    pupil = scene._replace(listener=0, setting='at a public event')
    kind = frame(praise, pupil)
    assert kind.intent == 'to encourage a pupil'
    assert kind.emotional == 'pleased and proud before the others'
    assert kind.offensiveness == 'none' and kind.offensive_bin == 0
    for saying, scene in every_frame()[::7]:
        found = frame(saying, scene)
        assert not found.missing((*CONTEXT, *SLOTS))
        assert (found.offensiveness == 'none') == (found.label_majority == 0)
        assert ('before the others' in found.emotional) == (
            'team' in found.situation or 'public' in found.situation
        )


def test_texts_lead_back_to_what_they_were_made_of() -> None:
    """A teacher of the world reads its questions; others are refused without repeating them."""
    for saying, scene in every_frame()[::11]:
        context = scene.context(saying.field)
        assert saying_of(saying.text) == saying
        assert scene_of(saying, **context) == scene
    with pytest.raises(UserError, match='does not know') as refused:
        saying_of('You have a canary.')
    assert 'canary' not in str(refused.value)
    with pytest.raises(UserError, match='context'):
        scene_of(sayings()[0], 'in a private talk, x', 'a pupil', 'a pupil')


def test_no_statement_is_in_two_splits_and_each_family_is_in_all() -> None:
    """Another seed divides otherwise."""
    splits = {name: statements(name) for name in SHARES}
    every = [each for found in splits.values() for each in found]
    assert len(every) == len(set(every)) == len(sayings())
    for found in splits.values():
        assert {each.family for each in found} == set(FAMILIES)
    assert set(statements('test', 1)) != set(splits['test'])
    with pytest.raises(UserError, match="'tests'"):
        statements('tests')


def test_the_corpus_is_balanced_and_repeats_nothing() -> None:
    """Half of the frames are slights; statements have several contexts; seeds are kept."""
    frames = corpus('train', 900, seed=3)
    assert len({each.frame_id for each in frames}) == 900
    assert abs(sum(each.offensive_bin for each in frames) - 450) <= CONTEXTS
    assert {each.group for each in frames} == set(FIELDS)
    assert min(Counter(each.statement for each in frames).values()) >= CONTEXTS
    assert corpus('train', 900, seed=3) == frames != corpus('train', 900, seed=4)
    assert {each.split for each in frames} == {'train'}
    with pytest.raises(UserError, match='dev of the world has'):
        corpus('dev', 10**6)


def test_pairs_turn_the_effect_round_with_little_else_changed() -> None:
    """Opposite labels, the same statement, one fact of the scene where that is enough."""
    frames = pairs('test', 100, seed=1)
    assert len({each.frame_id for each in frames}) == 200
    first_is_slight = 0
    for a, b in zip(frames[::2], frames[1::2], strict=True):
        assert (a.side, b.side) == ('A', 'B') and a.pair_id == b.pair_id
        assert a.statement == b.statement and {a.label_majority, b.label_majority} == {0, 1}
        saying = saying_of(a.statement)
        one, two = (scene_of(saying, **each.context()) for each in (a, b))
        assert sum(x != y for x, y in zip(one, two, strict=True)) <= 2
        first_is_slight += a.label_majority
    assert 30 < first_is_slight < 70
    assert len({each.pair_id for each in frames}) == 100
    assert {each.statement for each in frames} <= {each.text for each in statements('test', 1)}
