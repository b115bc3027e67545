"""Readers of benchmarks: options from the text, counts, the AGIEval prompt, errors with lines."""

import json

import pytest

from mmdistill.core.errors import UserError
from mmdistill.testing import real_data
from mmkd.evaluation.language.readers import (
    agieval_prompt,
    counts,
    parse_options,
    read_agieval,
    read_bbh,
    read_queries,
)
from mmkd.traces.schema import Query


def lines(path, rows):
    """Writes JSON lines."""
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


def task(folder, name, pairs):
    """Writes a task."""
    rows = [dict(input=question, target=target) for question, target in pairs]
    (folder / f'{name}.json').write_text(json.dumps(dict(canary='x', examples=rows)))


def test_options_of_a_text():
    assert parse_options('Q?\nOptions:\n(A) one\n(B) two, (C) no') == (
        ('A', 'B'),
        ('one', 'two, (C) no'),
    )
    assert parse_options('Q?\nOptions:\n- valid \n- invalid') == (('valid', 'invalid'),) * 2
    none = ((), ())
    assert parse_options('Q?') == none and parse_options('Options:\n') == none
    assert parse_options('Options:\n(A) one\n(C) three') == none
    assert parse_options('Options:\n(A) one\nmore') == none


def test_bbh_knows_choices_from_free_text(tmp_path):
    task(tmp_path, 'letters', [('Q\nOptions:\n(A) x\n(B) y', '(B)')] * 2)
    task(tmp_path, 'dashes', [('Q\nOptions:\n- valid \n- invalid', 'valid')])
    task(tmp_path, 'truth', [('not True is', 'False'), ('True is', 'True')])
    task(tmp_path, 'sports', [('plausible?', 'no')])
    task(tmp_path, 'count', [('How many?', '3')])
    task(tmp_path, 'broken', [('Q\nOptions:\n(A) Monsters\n(B) Inc', 'Monsters, Inc')])
    found = {item.task: item for item in read_bbh(tmp_path)}
    assert (found['letters'].labels, found['letters'].target) == (('A', 'B'), 'B')
    assert found['letters'].options == ('x', 'y')
    assert (found['dashes'].labels, found['dashes'].target) == (('valid', 'invalid'), 'valid')
    assert found['truth'].labels == ('True', 'False') and found['truth'].target == 'True'
    assert found['sports'].labels == ('yes', 'no')
    assert (found['count'].labels, found['count'].target) == ((), '3')
    assert found['broken'].target == 'Monsters, Inc'
    numbers = counts(read_bbh(tmp_path))
    assert numbers['letters'] == dict(n=2, choice=2) and numbers['count'] == dict(n=1, choice=0)
    assert numbers['broken'] == dict(n=1, choice=0) and list(numbers) == sorted(numbers)
    assert [item.task for item in read_bbh(tmp_path, ['truth'])] == ['truth'] * 2
    assert len({item.uid for item in read_bbh(tmp_path)}) == len(read_bbh(tmp_path)) == 8


def test_items_are_queries(tmp_path):
    task(tmp_path, 'letters', [('Q\nOptions:\n(A) x\n(B) y', '(B)')])
    query = read_bbh(tmp_path)[0].query('bbh')
    assert query == Query(
        source_uid='letters.0',
        sub_collection='bbh',
        task_name='letters',
        template_type='zs_opt',
        is_mc=True,
        user_text='Q\nOptions:\n(A) x\n(B) y',
        target='B',
    )
    path = tmp_path / 'queries.jsonl'
    path.write_text(query.model_copy(update=dict(system_text='Be brief.')).model_dump_json())
    item = read_queries(path)[0]
    assert (item.labels, item.target, item.system) == (('A', 'B'), 'B', 'Be brief.')


def test_agieval_prompt():
    assert agieval_prompt('Which?', ['one', 'two', 'three'], 'Text. ') == (
        'Text. Q: Which? Answer Choices: (A)one (B)two (C)three\n'
        'A: Among A through C, the answer is'
    )
    assert agieval_prompt('1 + 1?', []) == 'Q: 1 + 1?\nA: The answer is'


def test_agieval_lines(tmp_path):
    rows = [
        dict(passage=None, question='Q?', options=['(A)x', '(B) y'], label='B', answer=None),
        dict(passage='P ', question='Q?', options=['x', 'y', 'z'], label='C'),
        dict(question='Q?', options=None, label=None, answer='$\\frac12$'),
    ]
    first, second, third = read_agieval(lines(tmp_path / 'lsat-ar.jsonl', rows))
    assert (first.task, first.labels, first.options, first.target) == (
        'lsat-ar',
        ('A', 'B'),
        ('x', 'y'),
        'B',
    )
    assert first.prompt.startswith('Q: Q? Answer Choices: (A)x (B)y\n')
    assert second.prompt.startswith('P Q: Q?') and second.target == 'C'
    assert (third.labels, third.target) == ((), '$\\frac12$')


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ('{"question": ', 'no JSON'),
        ('[1]', 'must be a JSON object'),
        ('{"question": 1}', "'question' must be a str, got 1"),
        ('{"question": "Q", "options": ["x"], "label": "B"}', 'must be one of A, got .B.'),
        ('{"question": "Q", "options": ["(B)x"], "label": "A"}', 'option A must be'),
        ('{"question": "Q", "options": [1], "label": "A"}', 'option A must be'),
        ('{"question": "Q", "options": []}', 'must be a text, got None'),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, message):
    path = tmp_path / 'sat.jsonl'
    path.write_text('{"question": "Q", "options": ["x"], "label": "A"}\n\n' + row + '\n')
    with pytest.raises(UserError, match=rf'sat\.jsonl:3: .*{message}'):
        read_agieval(path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match='there is no TASK.json'):
        read_bbh(tmp_path)
    with pytest.raises(UserError, match='nothing.jsonl: there is no such file'):
        read_agieval(tmp_path / 'nothing.jsonl')
    task(tmp_path, 'navigate', [('Q', 'Yes')])
    with pytest.raises(UserError, match="no task 'navigat' .did you mean 'navigate'"):
        read_bbh(tmp_path, ['navigat'])
    (tmp_path / 'navigate.json').write_text('{"examples": [{"input": "Q", "target": 3}]}')
    with pytest.raises(UserError, match="navigate.json: example 0: 'target' must be a str"):
        read_bbh(tmp_path)
    (tmp_path / 'navigate.json').write_text('{"examples":\n [}')
    with pytest.raises(UserError, match='navigate.json:2: no JSON'):
        read_bbh(tmp_path)
    (tmp_path / 'queries.jsonl').write_text('{"user_text": "Q"}')
    with pytest.raises(UserError, match='queries.jsonl:1: .*source_uid'):
        read_queries(tmp_path / 'queries.jsonl')


def test_real_bbh():
    folder = real_data('bbh')
    if folder is None:
        pytest.skip('MMDISTILL_DATA has no bbh')
    numbers = counts(read_bbh(folder / 'tasks'))
    free = {name for name, row in numbers.items() if not row['choice']}
    assert free == {
        'dyck_languages',
        'multistep_arithmetic_two',
        'object_counting',
        'word_sorting',
    }
    choices = {name: row for name, row in numbers.items() if name not in free}
    assert len(choices) == 23 and sum(row['n'] for row in choices.values()) == 5511
    # options that a comma has split: their target is none of them
    odd = {name: row['n'] - row['choice'] for name, row in choices.items()}
    assert {name: count for name, count in odd.items() if count} == dict(
        movie_recommendation=1, ruin_names=2
    )
