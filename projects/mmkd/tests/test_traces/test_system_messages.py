"""System messages: acceptance fact 1, their sets, uniform and repeatable draws, own files."""

from collections import Counter

import pytest
import yaml

from mmdistill.core.errors import UserError
from mmkd.traces.schema import Query
from mmkd.traces.system_messages import DEFAULT_FILE, load_system_messages

SETS = dict(
    cot={6, 11, 16},
    niv2={1, 2, 5, 7, 9, 12, 13, 14, 15},
    t0={1, 2, 3, 5, 7},
    flan2021={3, 4, 7},
)


def query(uid, collection='t0', mc=False):
    """A query without a system message."""
    return Query(source_uid=str(uid), sub_collection=collection, is_mc=mc, user_text='q')


@pytest.mark.parametrize('policy', ['mixed', 'mc_only'])
def test_fact_1_sets_have_all_ids_and_8_and_10_are_for_multiple_choice(policy):
    """Acceptance fact 1: union of sets, 8 and 10 for multiple choice alone, an empty message."""
    messages = load_system_messages(flan_mc_policy=policy)
    assert set(messages.messages) == set(range(1, 17))
    union = set()
    for name, ids in SETS.items():
        plain, mc = (set(messages.ids(name, each)) for each in (False, True))
        assert plain == ids
        special = {8, 10} if policy == 'mc_only' else {3, 4, 7, 8, 10}
        assert mc == (special if name == 'flan2021' else ids)
        union |= plain | mc
        drawn = {messages.assign(query(n, name), 0).system_id for n in range(300)}
        assert drawn == plain
    assert union == set(range(1, 17))
    empty = next(q for n in range(99) if (q := messages.assign(query(n), 0)).system_id == 1)
    assert empty.system_text == '' and [m['role'] for m in empty.messages()] == ['user']
    full = next(q for n in range(99) if (q := messages.assign(query(n), 0)).system_id == 5)
    assert full.messages()[0] == dict(role='system', content=messages.messages[5].text)


def test_messages_are_different_and_tell_their_purpose():
    messages = load_system_messages().messages
    assert [n for n, each in messages.items() if not each.text.strip()] == [1]
    assert len({each.text for each in messages.values()}) == 16
    assert all(each.purpose and each.text == each.text.strip() for each in messages.values())
    assert [n for n, each in messages.items() if each.multiple_choice_only] == [8, 10]
    assert messages[15].text.count('\n') == 2  # its layout has lines of its own


def test_draws_are_uniform_and_depend_on_seed_and_uid_alone():
    messages = load_system_messages()
    drawn = [messages.assign(query(n, 'niv2'), 3).system_id for n in range(9000)]
    counts = Counter(drawn)
    chi2 = sum((n - 1000) ** 2 / 1000 for n in counts.values())
    assert len(counts) == 9 and chi2 < 26.1  # 8 degrees of freedom, p = 0.001
    assert drawn[::-1] == [
        messages.assign(query(n, 'niv2'), 3).system_id for n in range(9000)[::-1]
    ]
    other = [messages.assign(query(n, 'niv2'), 4).system_id for n in range(9000)]
    assert abs(sum(a == b for a, b in zip(drawn, other, strict=True)) - 1000) < 5 * 30
    first = [messages.assign(query(f'uid-{n}', 't0'), 0).system_id for n in range(8)]
    assert first == [7, 1, 1, 5, 3, 3, 5, 5]  # on every machine and in every process


def test_a_query_keeps_the_message_that_it_has():
    messages = load_system_messages()
    own = Query(source_uid='a', sub_collection='nowhere', user_text='q', system_text='mine')
    assert messages.assign(own, 0) is own
    empty = Query(source_uid='a', sub_collection='nowhere', user_text='q', system_id=1)
    assert messages.assign(empty, 0) is empty


def test_own_file(tmp_path):
    path = tmp_path / 'own.yaml'
    path.write_text('messages: {3: {purpose: p, text: "ä 😀"}}\nsets: {mine: [3]}\n', 'utf-8')
    found = load_system_messages(path).assign(query(1, 'mine', mc=True), 0)
    assert (found.system_id, found.system_text) == (3, 'ä 😀')
    with pytest.raises(UserError, match="own.yaml: sets has no sub-collection 'mime'.*'mine'"):
        load_system_messages(path).ids('mime', False)


def changed(**changes):
    """Our file with other values at dotted keys."""
    content = yaml.safe_load(DEFAULT_FILE.read_text())
    for key, value in changes.items():
        *parents, last = key.split('__')
        node = content
        for each in parents:
            node = node[int(each) if each.isdigit() else each]
        node[int(last) if last.isdigit() else last] = value
    return yaml.safe_dump(content)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (changed(messages__4__text=7), r'own.yaml: messages\.4\.text: .*string'),
        (changed(messages__4__txt='a'), r'own.yaml: messages\.4\.txt: Extra'),
        (changed(messages__4={}), r'own.yaml: messages\.4\.purpose: Field required'),
        (changed(messages__x={}), r'own.yaml: messages\.x'),
        (changed(messages__0=dict(purpose='p', text='')), r'messages\.0: ids begin with 1'),
        (changed(sets__t0=[1, 17]), r'own.yaml: sets\.t0: there is no message 17'),
        (changed(sets__t0=[8, 10]), r'sets\.t0: needs a message that is not for multiple'),
        (changed(sets__t0=[]), r'sets\.t0: needs a message'),
        (changed(sets__t0=[1, 1]), r'sets\.t0: \[1, 1\] names a message twice'),
        (changed(sets__t0='all'), r'own.yaml: sets\.t0: .*list'),
        ('messages: {1: [', r'own.yaml: no YAML: '),
        ('[]', r'own.yaml: the file: '),
        ('', r'own.yaml: the file: '),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path, text, said):
    path = tmp_path / 'own.yaml'
    path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        load_system_messages(path)
    assert '\n' not in str(caught.value)


def test_other_mistakes():
    with pytest.raises(UserError, match='nowhere.yaml: there is no such file'):
        load_system_messages('nowhere.yaml')
    with pytest.raises(UserError, match="flan_mc_policy must be .* got 'both'"):
        load_system_messages(flan_mc_policy='both')
