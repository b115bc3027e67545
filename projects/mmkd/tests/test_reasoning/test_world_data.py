"""The world as data sets: what the teacher says, within a budget, the same each time."""

import pytest
from mmengine.config import Config

from mmdistill.core.errors import UserError
from mmkd.language.query_data import QueryFiles
from mmkd.reasoning.data import WorldPacks, WorldQueries, answered, drawn
from mmkd.reasoning.queries import write_queries
from mmkd.reasoning.vocabulary import world_tokenizer

FEW = dict(families=('arithmetic', 'counting'))
CONFIG = 'configs/_base_/orca_world.py'


def texts(packs):
    """Prompts with answers."""
    table, tokenizer = packs.table, world_tokenizer()
    return [tokenizer.decode(table[n][0].tolist()) for n in range(len(table))]


def test_packs_hold_what_the_teacher_says():
    packs = WorldPacks('strong', cap=256, count=12, **FEW)
    queries = drawn('train', 12, 0, **FEW)
    rows = answered(queries, 'strong', 0, None)
    for text, (system, user, response) in zip(texts(packs), rows, strict=True):
        assert text.endswith(f'{response}</s>') and user in text and system in text
    assert [row[1] for row in rows] == [query.user_text for query in queries]


def test_the_same_arguments_give_the_same_packs_and_another_seed_others():
    made = [texts(WorldPacks('answer', cap=128, count=8, seed=seed, **FEW)) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_a_budget_of_tokens_is_filled_but_not_exceeded():
    whole = WorldPacks('strong', cap=256, count=40, **FEW)
    budget = int(whole.table.offsets[-1]) // 2
    part = WorldPacks('strong', cap=256, count=40, tokens=budget, **FEW)
    used = int(part.table.offsets[-1])
    assert used <= budget < used + int(whole.lengths[len(part.table)])
    assert texts(part) == texts(whole)[: len(part.table)]
    with pytest.raises(UserError, match='raise count'):
        WorldPacks('strong', cap=256, count=4, tokens=10_000, **FEW)


def test_faulty_answers_that_end_early_are_left_out():
    queries = drawn('train', 60, 0, **FEW)
    rows = answered(queries, 'strong', 0, dict(empty=0.3, cut=0.3))
    assert 10 < len(rows) < 40
    assert set(rows) < set(answered(queries, 'strong', 0, None))


def test_questions_are_named_by_their_file_and_differ_from_those_of_training():
    data = WorldQueries('test+test_longer', 10, **FEW)
    assert [query.task_name for query in data] == ['test'] * 10 + ['test_longer'] * 10
    trained = {query.user_text for query in drawn('train', 300, 0, **FEW)}
    assert not trained & {query.user_text for query in data}
    other = WorldQueries('test_family', 10, **FEW)
    assert {query.sub_collection for query in other} == {'coins'}
    with pytest.raises(UserError, match="no file 'tests'"):
        WorldQueries('tests', 10)


def test_files_of_questions(tmp_path):
    from mmkd.reasoning.queries import Plan

    write_queries(tmp_path, dict(a=Plan('test', 5, ('arithmetic',))))
    assert len(QueryFiles('a.jsonl', str(tmp_path))) == 5
    assert len(QueryFiles(['a.jsonl', 'a.jsonl'], str(tmp_path), limit=2)) == 4
    with pytest.raises(UserError, match=r'b\.jsonl: there is no such file'):
        QueryFiles('b.jsonl', str(tmp_path))
    (tmp_path / 'c.jsonl').write_text('{"user_text": 1}\n')
    with pytest.raises(UserError, match=r'c\.jsonl:1: no query'):
        QueryFiles('c.jsonl', str(tmp_path))


def test_the_students_of_the_configs_have_the_words_of_the_world(request):
    path = request.path.parents[2] / CONFIG
    language = Config.fromfile(path, import_custom_modules=False).model.language_model.config
    tokenizer = world_tokenizer()
    assert language.vocab_size == len(tokenizer)
    ids = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert ids == (language.pad_token_id, language.bos_token_id, language.eos_token_id)
