"""Sampling: acceptance facts 2 to 4, counts against independent references, recipes."""

import itertools
import json
from collections import Counter
from functools import cache

import numpy as np
import pytest

from mmdistill.core.errors import UserError
from mmkd.traces.drawing import draw, draw_subset
from mmkd.traces.importers import flan_query, trace_query
from mmkd.traces.recipe import ORCA, Part, Recipe, parse_part, read_recipe
from mmkd.traces.rows import Bad
from mmkd.traces.sampling import pick, random_quotas, repeated, water_level, waterfill_quotas

SIZES = dict(a=3, b=40, c=900, d=1200, e=7)


def rows_of(sizes=SIZES, source='T0', template='zs_noopt'):
    """Rows of FLAN, so many of each task."""
    return [
        dict(
            inputs=f'{task} {n}?',
            targets=str(n),
            task_source=source,
            task_name=task,
            template_type=template,
            uid=f'{source}.{task}.{n}',
        )
        for task, size in sizes.items()
        for n in range(size)
    ]


def write(path, rows):
    """JSON lines."""
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


def drawn_of(path, part, seed=0, name='t0', **more):
    """Queries that one part draws."""
    found = draw([path], flan_query, Recipe(parts={name: part}, **more), seed)
    return list(found.queries(flan_query)), found.summary


def brute_level(sizes, wanted):
    """Raises a level by one until the next one would be too much."""
    level = 0
    while level < max(sizes) and sum(min(size, level + 1) for size in sizes) <= wanted:
        level += 1
    return level, min(wanted, sum(sizes)) - sum(min(size, level) for size in sizes)


def test_water_level_equals_brute_force():
    random = np.random.default_rng(0)
    for _ in range(300):
        sizes = random.integers(0, 12, random.integers(1, 7))
        for wanted in range(int(sizes.sum()) + 3):
            assert water_level(sizes, wanted) == brute_level(sizes.tolist(), wanted)
    assert water_level(np.array([], int), 5) == (0, 0)
    assert water_level(np.array([3, 10, 2]), 9) == (4, 0)  # 3 + 4 + 2
    assert water_level(np.array([3, 10, 10]), 10) == (3, 1)


@pytest.mark.parametrize('function', [waterfill_quotas, random_quotas])
def test_quotas_sum_to_what_is_wanted_and_end(function):
    random = np.random.default_rng(1)
    for _ in range(200):
        sizes = random.integers(0, 30, random.integers(1, 9))
        wanted = int(random.integers(0, sizes.sum() + 20))
        quotas = function(sizes, wanted, random)
        assert quotas.sum() == min(wanted, sizes.sum())
        assert (quotas >= 0).all() and (quotas <= sizes).all()


def test_fact_2_waterfill_counts_of_tasks_with_queries_left_differ_by_one_at_most():
    """Acceptance fact 2: ``waterfill``."""
    random = np.random.default_rng(2)
    extra = Counter()
    for _ in range(400):
        sizes = np.array([2, 9, 50, 60, 70])
        quotas = waterfill_quotas(sizes, 41, random)
        open_tasks = quotas < sizes
        assert quotas[open_tasks].max() - quotas[open_tasks].min() <= 1
        assert quotas[~open_tasks].max() <= quotas[open_tasks].min() + 1
        assert quotas.tolist()[:2] == [2, 9] and quotas.sum() == 41
    for _ in range(900):
        extra.update(np.flatnonzero(waterfill_quotas(np.array([9, 9, 9]), 4, random) == 2).tolist())
    assert sum(extra.values()) == 900 and all(abs(n - 300) < 5 * 14.2 for n in extra.values())


@cache
def literal_mean(left, wanted):
    """Expected counts of the literal algorithm, by all of its draws."""
    open_tasks = [n for n, size in enumerate(left) if size]
    if not wanted or not open_tasks:
        return (0.0,) * len(left)
    total = np.zeros(len(left))
    for task in open_tasks:
        after = tuple(size - (n == task) for n, size in enumerate(left))
        total += np.array(literal_mean(after, wanted - 1)) + np.eye(len(left))[task]
    return tuple(total / len(open_tasks))


def test_fact_2_random_counts_are_those_of_the_literal_algorithm():
    """Acceptance fact 2: ``random``; the mean is the water level's where tasks are far from it."""
    random, seeds = np.random.default_rng(3), 4000
    small = np.array([1, 2, 5])
    mean = np.mean([random_quotas(small, 6, random) for _ in range(seeds)], axis=0)
    assert np.abs(mean - literal_mean(tuple(small), 6)).max() < 5 * 1.0 / seeds**0.5
    large = np.array([4, 20, 900, 1000, 1000])
    draws = np.array([random_quotas(large, 900, random) for _ in range(300)])
    level = np.minimum(large, (900 - 24) / 3)
    error = draws.std(0) / 300**0.5
    assert (np.abs(draws.mean(0) - level) <= 5 * error + 1e-9).all()
    assert draws.std(0)[2:].min() > 8  # it is random: sqrt(876 * 2 / 9) = 14


def test_the_closed_form_is_not_the_mean_near_the_level():
    # two tasks, four draws: the small one has 1 with probability 4/16, and 2 with 11/16
    assert literal_mean((2, 5), 4) == (26 / 16, 38 / 16)
    assert waterfill_quotas(np.array([2, 5]), 4, np.random.default_rng(0)).tolist() == [2, 2]


def test_pick_takes_the_least_keys_of_each_task():
    random = np.random.default_rng(4)
    keys = random.integers(0, 4, (60, 2)).astype(np.uint64)
    keys = np.unique(keys, axis=0)
    random.shuffle(keys)
    tasks = random.integers(0, 3, len(keys))
    drawn = pick(keys, tasks, np.array([2, 0, 100]))
    for task, quota in enumerate([2, 0, 100]):
        mine = [tuple(key) for key, each in zip(keys.tolist(), tasks, strict=True) if each == task]
        got = [tuple(key) for key in keys[drawn & (tasks == task)].tolist()]
        assert sorted(got) == sorted(mine)[:quota]


def test_repeated_keeps_one_of_each():
    keys = np.array([[1, 2], [1, 3], [1, 2], [2, 2], [1, 2]], np.uint64)
    assert repeated(keys, np.array([5, 0, 1, 0, 3])).tolist() == [True, False, False, False, True]


def test_fact_2_niv2_is_the_cap_or_all(tmp_path):
    """Acceptance fact 2: every task of NiV2 has ``min(300, |t|)``."""
    path = write(tmp_path / 'a.jsonl', rows_of(source='NIv2'))
    found, summary = drawn_of(path, ORCA.parts['niv2'], name='niv2')
    assert Counter(each.task_name for each in found) == {n: min(300, k) for n, k in SIZES.items()}
    assert summary['parts']['niv2']['drawn'] == len(found) == 3 + 40 + 300 + 300 + 7
    assert summary['parts']['niv2']['used_up'] == 3
    assert summary['left_out'] == dict(niv2=dict(not_drawn=1500))


@pytest.mark.parametrize('algorithm', ['waterfill', 'random'])
@pytest.mark.parametrize('size', [0, 1, 57, 800, 2150, 9999])
def test_fact_2_exact_sizes_no_query_twice_any_order(tmp_path, algorithm, size):
    """Acceptance fact 2: the sum, no repetition, the same for one seed and any order."""
    rows = rows_of()
    part = Part(algorithm=algorithm, size=size)
    found, _ = drawn_of(write(tmp_path / 'a.jsonl', rows), part, 5)
    uids = [each.source_uid for each in found]
    assert len(uids) == len(set(uids)) == min(size, sum(SIZES.values()))
    np.random.default_rng(0).shuffle(rows)
    halves = [write(tmp_path / 'b.jsonl', rows[:700]), write(tmp_path / 'c.jsonl', rows[700:])]
    again = draw(halves[::-1], flan_query, Recipe(parts=dict(t0=part)), 5)
    queries = list(again.queries(flan_query))
    key = lambda each: each.source_uid  # noqa: E731
    assert sorted(queries, key=key) == sorted(found, key=key) and len(again) == len(found)
    if size in (57, 800):
        other, _ = drawn_of(write(tmp_path / 'a.jsonl', rows), part, 6)
        assert {each.source_uid for each in other} != set(uids)


def test_every_query_of_a_task_is_as_likely(tmp_path):
    path, counts = write(tmp_path / 'a.jsonl', rows_of(dict(x=10))), Counter()
    for seed in range(400):
        found, _ = drawn_of(path, Part(algorithm='waterfill', size=3), seed)
        counts.update(each.source_uid for each in found)
    assert len(counts) == 10 and all(abs(n - 120) < 5 * 9.2 for n in counts.values())


def test_cap_bounds_tasks_before_the_level(tmp_path):
    path = write(tmp_path / 'a.jsonl', rows_of())
    found, _ = drawn_of(path, Part(algorithm='waterfill', size=1000, cap=100))
    counts = Counter(each.task_name for each in found)
    assert counts == dict(a=3, b=40, c=100, d=100, e=7)


def test_fact_3_no_few_shot_no_dialog_no_big_bench(tmp_path):
    """Acceptance fact 3: what is left out is counted with its reason."""
    sources = ['CoT', 'NIv2', 'Flan2021', 'P3', 'Dialog', 'Elsewhere']
    templates = ['zs_opt', 'zs_noopt', 'fs_opt', 'fs_noopt']
    tasks = dict(fine=2, bigbench_x=2)
    tasks['BIG-Bench:y'] = tasks['t5_big_bench_z'] = 1
    rows = [
        dict(row, uid=f'{row["uid"]}.{template}')
        for source, template in itertools.product(sources, templates)
        for row in rows_of(tasks, source, template)
    ]
    drawn = draw([write(tmp_path / 'a.jsonl', rows)], flan_query, ORCA)
    found = list(drawn.queries(flan_query))
    assert len(found) == 4 * 2 * 2
    assert {each.template_type for each in found} == {'zs_opt', 'zs_noopt'}
    assert {each.sub_collection for each in found} == {'cot', 'niv2', 'flan2021', 't0'}
    assert {each.task_name for each in found} == {'fine'}
    for name in ('cot', 'niv2', 'flan2021', 't0'):
        assert drawn.summary['left_out'][name] == dict(few_shot=12, task=8)
    assert drawn.summary['left_out']['dialog'] == dict(collection=24)
    assert drawn.summary['left_out']['elsewhere'] == dict(few_shot=12, task=8, no_part=4)
    every = sum(sum(each.values()) for each in drawn.summary['left_out'].values())
    assert every + len(found) == len(rows)


def test_patterns_are_configurable(tmp_path):
    path = write(tmp_path / 'a.jsonl', rows_of(dict(good=3, Bad=2, bigbench=1)))
    part = Part(algorithm='all')
    found, summary = drawn_of(path, part, excluded_tasks=('T0/bad',), templates=('*_noopt',))
    assert Counter(each.task_name for each in found) == dict(good=3, bigbench=1)
    assert summary['left_out'] == dict(t0=dict(task=2))


def test_repetitions_of_a_uid_and_rows_without_one(tmp_path):
    rows = rows_of(dict(x=4, y=3))
    found, summary = drawn_of(write(tmp_path / 'a.jsonl', rows + rows[2:5]), Part(algorithm='all'))
    assert len(found) == 7 and summary['left_out'] == dict(t0=dict(duplicate=3))
    bare = [{k: v for k, v in row.items() if k != 'uid'} for row in rows]
    found, summary = drawn_of(write(tmp_path / 'b.jsonl', bare + bare[:1]), Part(algorithm='all'))
    assert len({each.source_uid for each in found}) == 7
    assert summary['left_out'] == dict(t0=dict(duplicate=1))


def test_bad_rows_are_counted_and_others_not_moved(tmp_path):
    rows = rows_of(dict(x=4))
    lines = [json.dumps(row) for row in rows]
    path = tmp_path / 'a.jsonl'
    path.write_text('\n'.join(['{', '', lines[0], '[]', *lines[1:], '{"inputs": 1}']))
    bad = Bad()
    drawn = draw([path], flan_query, Recipe(parts=dict(t0=Part(algorithm='all'))), bad=bad)
    assert [each.source_uid for each in drawn.queries(flan_query)] == [row['uid'] for row in rows]
    assert bad.count == 3 and bad.first.startswith(f'{path}:1: no JSON')
    with pytest.raises(UserError, match='a.jsonl:1: no JSON'):
        draw([path], flan_query, ORCA)


def test_no_text_is_held_after_the_first_pass(tmp_path):
    path = write(tmp_path / 'a.jsonl', rows_of())
    made = []

    def convert(row, place):
        made.append(place.number)
        return flan_query(row, place)

    drawn = draw([path], convert, Recipe(parts=dict(t0=Part(algorithm='waterfill', size=20))))
    assert len(made) == sum(SIZES.values())
    made.clear()
    assert len(list(drawn.queries(convert))) == len(made) == 20  # others are not even parsed


@pytest.mark.parametrize('size', [0, 1, 40, 90])
def test_fact_4_second_stage_is_an_exact_part_of_the_first(tmp_path, size):
    """Acceptance fact 4: keys of the second stage are among those of the first, so many."""
    rows = [
        dict(source_uid=f'u{n}', user_text=f'q {n % 90}', system_text='s', system_id=2)
        for n in range(100)
    ]
    keys = {trace_query(row, None).query_key for row in rows}
    path = write(tmp_path / 'a.jsonl', rows)
    drawn = draw_subset([path], trace_query, size, 1)
    found = [each.query_key for each in drawn.queries(trace_query)]
    assert len(found) == len(set(found)) == size and set(found) <= keys and len(keys) == 90
    assert drawn.summary == dict(available=90, drawn=size, duplicates=10)
    again = draw_subset([write(tmp_path / 'b.jsonl', rows[::-1])], trace_query, size, 1)
    same = sorted(each.source_uid for each in again.queries(trace_query))
    assert same == sorted(each.source_uid for each in drawn.queries(trace_query))
    if size == 40:
        other = draw_subset([path], trace_query, size, 2)
        assert {each.query_key for each in other.queries(trace_query)} != set(found)
        more = draw_subset([path], trace_query, 60, 1)
        assert set(found) < {each.query_key for each in more.queries(trace_query)}


def test_a_second_stage_larger_than_the_first_is_refused(tmp_path):
    path = write(tmp_path / 'a.jsonl', [dict(source_uid='a', user_text='q')])
    with pytest.raises(UserError, match='2 queries are asked for, but there are only 1'):
        draw_subset([path], trace_query, 2)


def test_recipes_of_the_command_line_and_of_configs():
    assert parse_part('cot=all') == ('cot', Part(algorithm='all'))
    assert parse_part('niv2=stratified:300') == ('niv2', ORCA.parts['niv2'])
    assert parse_part('t0=waterfill:20:5') == ('t0', Part(algorithm='waterfill', size=20, cap=5))
    assert ORCA.parts['t0'].size == 2_000_000 and ORCA.parts['flan2021'].size == 2_500_000
    for text, said in (
        ('t0', "part 't0': write NAME="),
        ('t0=waterfill', 'waterfill needs a size'),
        ('t0=all:3', 'all has no size'),
        ('t0=stratified', 'stratified needs a cap'),
        ('t0=stratified:3:4', 'write NAME='),
        ('t0=random:-3', 'write NAME='),
        ('t0=melt:3', "'all', 'stratified', 'waterfill' or 'random'"),
    ):
        with pytest.raises(UserError, match=said):
            parse_part(text)
    with pytest.raises(UserError, match=r"c.py: unknown key 'part' \(did you mean 'parts'"):
        read_recipe(dict(part={}), 'c.py')
    with pytest.raises(UserError, match=r'c.py: parts.t0.caps: Extra'):
        read_recipe(dict(parts=dict(t0=dict(algorithm='all', caps=3))), 'c.py')
