"""Answers of a language model: batches, cache, and a model that is left as it was."""

import json

import pytest
import torch
from tiny_language import network, queries, tokenizer

from mmdistill.core.errors import UserError
from mmkd.evaluation.language.line_cache import LineCache
from mmkd.evaluation.language.prompts import Answer, answer_all, folder_digest
from mmkd.language.templates import PLAIN

ASKED = queries('Why?', 'A much longer question, is it not?', 'x', 'Why?', 'étude')


def forwards(model):
    """Shapes of what the network reads, as it goes."""
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, given: seen.append(tuple(given['input_ids'].shape)), with_kwargs=True
    )
    return seen


def greedy_tokens(model, query, count):
    """The reference: arg max after arg max, without padding or cache."""
    lead = 'User:\n' + query.user_text + '\n\nResponse:\n'
    ids = tokenizer()(lead)['input_ids']
    made = []
    while len(made) < count:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids + made]), use_cache=False).logits[0, -1]
        token = int(logits.argmax())
        if token == 257:
            break
        made.append(token)
    return made


def greedy(model, query, count):
    """The same as an answer."""
    made = greedy_tokens(model, query, count)
    reason = 'length' if len(made) == count else 'stop'
    return Answer(tokenizer().decode(made, skip_special_tokens=True), reason, len(made))


@pytest.mark.parametrize('kind', ['llama', 'gpt2'])
@pytest.mark.parametrize('batch', [1, 2, 16])
def test_equals_arg_max_one_by_one(kind, batch):
    model = network(kind)
    found = answer_all(model, tokenizer(), ASKED, batch=batch, max_new_tokens=6)
    assert found == [greedy(model, query, 6) for query in ASKED]
    assert len(set(found)) > 2


def test_an_answer_ends_at_eos():
    model = network()
    third = greedy_tokens(model, ASKED[0], 3)[-1]
    with torch.no_grad():  # EOS takes the place of the third token
        model.lm_head.weight[257] = model.lm_head.weight[third] * 1.01
    found = answer_all(model, tokenizer(), ASKED[:1], max_new_tokens=5)
    assert found == [greedy(model, ASKED[0], 5)]
    assert found[0].finish_reason == 'stop' and found[0].tokens < 5


def test_equal_prompts_are_answered_once_and_the_longest_first():
    model = network()
    seen = forwards(model)
    answer_all(model, tokenizer(), ASKED, batch=1, max_new_tokens=1)
    assert len(seen) == 4 and [shape[1] for shape in seen] == sorted(
        (shape[1] for shape in seen), reverse=True
    )


def test_a_second_run_computes_nothing(tmp_path):
    model, path = network(), tmp_path / 'made' / 'answers.jsonl'
    options = dict(batch=2, max_new_tokens=3, cache=path, checkpoint='one')
    first = answer_all(model, tokenizer(), ASKED, **options)
    assert len(path.read_text().splitlines()) == 4
    seen = forwards(model)
    assert answer_all(model, tokenizer(), ASKED[::-1], **options) == first[::-1]
    assert not seen
    # a torn last line is made again, alone
    path.write_bytes(path.read_bytes()[:-9])
    assert answer_all(model, tokenizer(), ASKED, **options) == first
    assert {shape[0] for shape in seen} == {1} and len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    'other',
    [
        dict(checkpoint='two'),
        dict(max_new_tokens=4),
        dict(template=dict(name='plain', response='Reply:\n')),
    ],
)
def test_what_decides_the_answer_is_part_of_its_key(tmp_path, other):
    options = dict(max_new_tokens=3, cache=tmp_path / 'answers.jsonl', checkpoint='one')
    model = network()
    answer_all(model, tokenizer(), ASKED, **options)
    seen = forwards(model)
    answer_all(model, tokenizer(), ASKED, **{**options, **other})
    assert seen


def test_the_model_is_left_as_it_was():
    model = network().train()
    model.model.layers[0].eval()
    model.config.use_cache = False
    model.generation_config.repetition_penalty = 1.7
    before = [module.training for module in model.modules()]
    found = answer_all(model, tokenizer(), ASKED, PLAIN, max_new_tokens=4)
    assert [module.training for module in model.modules()] == before
    assert model.config.use_cache is False
    assert model.generation_config.repetition_penalty == 1.7
    assert found == [greedy(model.eval(), query, 4) for query in ASKED]


def test_what_is_wrong_is_named(tmp_path):
    model = network()
    with pytest.raises(UserError, match='give its digest'):
        answer_all(model, tokenizer(), ASKED, cache=tmp_path / 'a.jsonl')
    with pytest.raises(UserError, match='^1: .* tokens and 100 new ones .* reads, 128; lower'):
        answer_all(model, tokenizer(), ASKED, max_new_tokens=100)
    path = tmp_path / 'b.jsonl'
    path.write_text('{"key": "x"}\n{"other": 1}\n')
    with pytest.raises(UserError, match="b.jsonl:2: no JSON with 'key'; remove the line"):
        answer_all(model, tokenizer(), ASKED, cache=path, checkpoint='one', max_new_tokens=2)


def test_a_cache_belongs_to_one_process_at_a_time(tmp_path):
    path = tmp_path / 'rows.jsonl'
    with LineCache(path) as kept:
        kept.add(dict(key='a', value='é'), dict(key='b', value=2))
        with pytest.raises(UserError, match='another process'):
            LineCache(path)
    with LineCache(path) as kept:
        assert kept['a']['value'] == 'é' and 'b' in kept and 'c' not in kept
    assert [json.loads(line)['key'] for line in path.read_text().splitlines()] == ['a', 'b']


def test_digest_of_a_folder(tmp_path):
    with pytest.raises(UserError, match='no files'):
        folder_digest(tmp_path)
    (tmp_path / 'a').write_text('1')
    first = folder_digest(tmp_path)
    assert first == folder_digest(tmp_path)
    (tmp_path / 'a').write_text('2')
    second = folder_digest(tmp_path)
    (tmp_path / 'a').rename(tmp_path / 'b')
    assert len({first, second, folder_digest(tmp_path)}) == 3
