"""The world's tokenizer: small, exact both ways, its words whole; short questions and answers."""

import re
import string

import pytest

from mmkd.language.templates import CHATML, PLAIN
from mmkd.language.tokenize import PromptEncoder
from mmkd.reasoning.explain import Detail, explanation
from mmkd.reasoning.messages import world_messages
from mmkd.reasoning.problem import LEVELS
from mmkd.reasoning.solver import solve
from mmkd.reasoning.vocabulary import REFUSAL, Vocabulary, entries, world_tokenizer
from mmkd.reasoning.world import FAMILIES, make_problem


@pytest.fixture(scope='module')
def tokenizer():
    return world_tokenizer()


def texts():
    """Questions and explanations of another seed than the vocabulary is made of."""
    for family in FAMILIES:
        for level in LEVELS:
            for index in range(16):
                question = make_problem(family, 9, index, level, index % 4, index % 2 == 0).question
                yield question, [explanation(solve(question), each) for each in Detail]


def test_few_entries_that_begin_with_the_special_ones():
    found = entries()
    assert found[:4] == ('<pad>', '<s>', '</s>', '<unk>')
    assert len(set(found)) == len(found) < 512
    assert set(string.printable[:95]) <= set(found)


def test_what_is_decoded_is_what_was_encoded(tokenizer):
    given = [text for question, told in texts() for text in (question, *told)]
    given += [each.text for each in world_messages().messages.values()]
    given += [REFUSAL, 'Zebra  77,\n\n  (B) <x>\t"Q"~ ', ' a', 'b\n']
    for text in given:
        ids = tokenizer(text)['input_ids']
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert tokenizer.unk_token_id not in ids


def test_every_word_of_the_world_is_one_token(tokenizer):
    given = [text for question, told in texts() for text in (question, *told)]
    given += [each.text for each in world_messages().messages.values()]
    for text in given:
        assert len(tokenizer.tokenize(text)) == len(
            re.findall(r'\n| ?\([A-D]\)| ?\w+| ?[^\w\s]', text)
        )


def test_questions_and_answers_are_short():
    count = Vocabulary().count
    for question, (short, states, full) in texts():
        assert count(question) <= (76 if '\nOptions:' in question else 60)
        assert count(short) <= 7 and count(states) <= 64 and count(full) <= 120


def test_saved_and_read_again_it_is_the_same(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = 'What is 3 + 4?\nOptions:\n(A) 7\n(B) 8'
    assert again(text)['input_ids'] == tokenizer(text)['input_ids']
    assert again.decode(again(text)['input_ids']) == text
    assert (again.pad_token_id, again.bos_token_id, again.eos_token_id) == (0, 1, 2)
    assert len(again) == len(entries()) and again.get_vocab() == tokenizer.get_vocab()
    assert again.chat_template == tokenizer.chat_template


def test_templates_of_prompts_have_words_of_the_world(tokenizer):
    pair = ('Give only the answer.', 'What is 3 + 4?')
    plain, chatml = (PromptEncoder(tokenizer, each)([pair])[0] for each in (PLAIN, CHATML))
    assert tokenizer.decode(plain) == (
        'System:\nGive only the answer.\n\nUser:\nWhat is 3 + 4?\n\nResponse:\n'
    )
    own = tokenizer.apply_chat_template(
        [dict(role='system', content=pair[0]), dict(role='user', content=pair[1])],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert tokenizer.decode(chatml) == own and len(plain) == 5 + 3 + 2 + 7 + 2 + 2 + 3
    assert tokenizer(own)['input_ids'] == chatml


def test_texts_are_cut_between_tokens():
    vocabulary = Vocabulary()
    assert vocabulary.first('red blue green', 2) == 'red blue'
    assert vocabulary.first('red', 0) == ''
    cuts = {vocabulary.shortened('red blue green', number) for number in range(6)}
    assert cuts == {'', 'red', 'red blue'}
