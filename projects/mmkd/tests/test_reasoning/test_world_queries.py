"""Files of the world's queries: splits that do not meet, what is held out, counts, form."""

import re
from collections import Counter

import pytest

from mmdistill.core.errors import UserError
from mmkd.reasoning import queries
from mmkd.reasoning.messages import world_messages
from mmkd.reasoning.queries import Plan, draw, plans, write_queries
from mmkd.reasoning.solver import solve
from mmkd.reasoning.world import FAMILIES
from mmkd.traces.options import is_multiple_choice, listed_options
from mmkd.traces.rows import read_records
from mmkd.traces.schema import Query, read_record


@pytest.fixture(scope='module')
def world():
    """Queries of every file."""
    files = plans(train=1800, test=270, held_out=('coins', 'lists'))
    return {name: list(draw(plan, 0, name)) for name, plan in files.items()}


def facts(query):
    """What is asked, whatever the wording: what comes before the last sentence, and its key words.

    Found in the text by other means than the world's own ``core``.
    """
    stem = query.user_text.split('\nOptions:')[0]
    if query.sub_collection in ('arithmetic', 'boolean', 'brackets'):
        symbols = r'(?<!\w)(?:\d+|true|false|and|or|xor|not|[-+*()\[\]{}])(?!\w)'
        return query.sub_collection, ' '.join(re.findall(symbols, stem))
    given, _, question = stem.rpartition('. ')
    keys = r'\b(?:[A-Z]\w+|first|second|third|fourth|fifth|sixth|seventh|fruits|animals|tools)\b'
    known = {'What', 'Which', 'Tell', 'Find', 'Who', 'How', 'Where', 'Give'}
    return (
        query.sub_collection,
        given,
        *(each for each in re.findall(keys, question) if each not in known),
    )


def test_no_question_of_a_split_is_in_another_however_it_is_worded(world):
    found = {name: {facts(each) for each in some} for name, some in world.items()}
    for name in ('dev', 'test', 'test_longer', 'test_wording', 'test_family'):
        assert not found['train'] & found[name], name
    assert not found['dev'] & (found['test'] | found['test_wording'])
    again = {facts(each) for each in draw(plans(10, 2000)['test'], 8, 'test')}
    assert len(again) > 1000 and not found['train'] & again


def test_what_is_held_out_is_nowhere_in_training(world):
    families = {name: {each.sub_collection for each in some} for name, some in world.items()}
    seen = set(FAMILIES) - {'coins', 'lists'}
    assert families.pop('test_family') == {'coins', 'lists'}
    assert all(each == seen for each in families.values())
    levels = {name: {each.task_name[-1] for each in some} for name, some in world.items()}
    assert levels.pop('test_longer') == {'5', '6'}
    assert all(each == {'2', '3', '4'} for each in levels.values())


def test_held_out_wordings_are_in_their_file_alone(world):
    def wording(query):
        for number, template in enumerate(FAMILIES[query.sub_collection].templates):
            parts = re.split(r'\{\w+\}', template)
            if re.fullmatch('.+'.join(map(re.escape, parts)), query.user_text.split('\n')[0]):
                return number
        raise AssertionError(query.user_text)

    found = {name: Counter(map(wording, some)) for name, some in world.items()}
    assert set(found.pop('test_wording')) == {3}
    for counts in found.values():
        assert set(counts) == {0, 1, 2} and max(counts.values()) < 1.6 * min(counts.values())


def test_queries_say_what_they_are(world):
    for name, some in world.items():
        assert len({each.source_uid for each in some}) == len(some)
        assert len({each.query_key for each in some}) == len(some)
        for each in some:
            assert each.source_uid.startswith(f'{name}/{each.sub_collection}/')
            assert solve(each.user_text).answer == each.target
            assert solve(each.user_text).family == each.sub_collection
            assert is_multiple_choice(each.template_type, each.user_text) == each.is_mc
            assert bool(listed_options(each.user_text)[1]) == each.is_mc
            assert each.system_text == world_messages().messages[each.system_id].text
    sizes = {name: len(some) for name, some in world.items()}
    assert sizes.pop('train') == 1800 and set(sizes.values()) == {270}
    counts = Counter(each.sub_collection for each in world['train'])
    assert set(counts.values()) == {225}


def test_system_messages_of_training_and_tests(world):
    drawn = Counter(each.system_id for each in world['train'])
    assert set(drawn) == set(range(1, 9)) and min(drawn.values()) > 60
    assert all(each.is_mc for each in world['train'] if each.system_id == 8)
    for name, some in world.items():
        assert name == 'train' or {each.system_id for each in some} == {5}
    assert {each.system_id for each in draw(plans(9, 9, test_system=1)['test'], 0)} == {1}


def test_half_of_the_questions_list_options(world):
    share = sum(each.is_mc for each in world['train']) / 1800
    assert abs(share - 0.5) < 4.5 * (0.25 / 1800) ** 0.5
    none = draw(Plan('dev', 50, ('swaps',), choices=0.0), 0)
    assert not any(each.is_mc for each in none)


def test_files_are_the_same_each_time_and_read_as_queries(tmp_path):
    files = plans(30, 18)
    counts = write_queries(tmp_path / 'a', files)
    assert counts == {name: 30 if name == 'train' else 18 for name in files}
    write_queries(tmp_path / 'b', files)
    queries.main([str(tmp_path / 'c'), '--train', '30', '--test', '18'])
    queries.main([str(tmp_path / 'd'), '--train', '30', '--test', '18', '--seed', '1'])
    for name, plan in files.items():
        one, *others = ((tmp_path / each / f'{name}.jsonl').read_bytes() for each in 'abcd')
        assert one == others[0] == others[1] != others[2]
        read = read_records(
            tmp_path / 'a' / f'{name}.jsonl',
            lambda row, place: Query.model_validate(row),
        )
        assert [query for _, query in read] == list(draw(plan, 0, name))
    assert read_record(Query, one.splitlines()[0], 'a').sub_collection == 'coins'


def test_a_family_that_is_used_up_says_so():
    plan = Plan('dev', 20000, ('coins',), levels=(1,), system_ids=(5,))
    with pytest.raises(UserError, match=r'coins has hardly more than \d+ .*lower the count'):
        list(draw(plan, 0))


def test_wrong_plans_are_named():
    with pytest.raises(UserError, match="held-out family 'swap' is not one of"):
        plans(1, 1, held_out=('swap',))
    with pytest.raises(UserError, match='test_system must be one of'):
        plans(1, 1, test_system=9)
    with pytest.raises(UserError, match='all families are held out'):
        plans(1, 1, held_out=tuple(FAMILIES))
    with pytest.raises(UserError, match=r'none of the system messages \(8,\) suits swaps'):
        list(draw(Plan('dev', 5, ('swaps',), choices=0.0, system_ids=(8,)), 0))
