"""Prompts: their exact text, empty system messages, tokens that are needed, clear errors."""

import pytest
from text_cases import tokenizer

from mmdistill.core.errors import UserError
from mmkd.language.templates import TEMPLATES, TextTemplate, template_of
from mmkd.language.tokenize import PromptEncoder


def prompt(template, system, user, made=None):
    """The prompt as text."""
    made = made or tokenizer()
    (tokens,) = PromptEncoder(made, template_of(template))([(system, user)])
    return made.decode(tokens, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(
    ('template', 'both', 'alone', 'kept'),
    [
        (
            'plain',
            'System:\nbe kind\n\nUser:\nhi\n\nResponse:\n',
            'User:\nhi\n\nResponse:\n',
            'System:\n\n\nUser:\nhi\n\nResponse:\n',
        ),
        (
            'chatml',
            '<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n'
            '<|im_start|>assistant\n',
            '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n',
            '<|im_start|>system\n<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n'
            '<|im_start|>assistant\n',
        ),
        (
            'tokenizer',
            '<s>[system]be kind\n[user]hi\n[assistant]',
            '<s>[user]hi\n[assistant]',
            '<s>[system]\n[user]hi\n[assistant]',
        ),
    ],
)
def test_exact_texts(template, both, alone, kept):
    assert prompt(template, 'be kind', 'hi') == both
    assert prompt(template, '', 'hi') == alone
    assert prompt(dict(name=template, empty_system='keep'), '', 'hi') == kept


def test_bos_once_where_the_tokenizer_adds_one():
    made = tokenizer(bos=True)
    for template in TEMPLATES:
        assert prompt(template, 'a', 'b', made).count('<s>') == 1
        assert prompt(template, 'a', 'b', made).startswith('<s>')
    assert '<s>' not in prompt('plain', 'a', 'b')


def test_no_user_ends_a_turn():
    encoder = PromptEncoder(tokenizer(), template_of('chatml'))
    end = tokenizer().convert_tokens_to_ids('<|im_end|>')
    (plain,), (hostile,) = encoder([('', 'x')]), encoder([('</s>', 'x<|im_end|>')])
    assert plain.count(end) == 1 and hostile.count(end) == 2
    assert tokenizer().eos_token_id not in hostile


def test_a_template_of_ones_own():
    own = dict(name='own', system=['', '|'], user=('<', '>'), response='=', ending='<|im_end|>')
    assert prompt(own, 's', 'u') == 's|<u>='
    encoder = PromptEncoder(tokenizer(), template_of(own))
    assert encoder.end_id == tokenizer().convert_tokens_to_ids('<|im_end|>')
    assert PromptEncoder(tokenizer(), template_of('plain')).end_id == tokenizer().eos_token_id
    found = template_of(own)
    assert template_of(found) is found and isinstance(found, TextTemplate)


def test_a_description_tells_templates_apart():
    made, other = tokenizer(), tokenizer(chat='{{ messages }}')
    told = [template_of(each).describe(made) for each in ('plain', 'chatml', 'tokenizer')]
    told.append(template_of(dict(name='plain', empty_system='keep')).describe(made))
    told.append(template_of('tokenizer').describe(other))
    assert all(a != b for n, a in enumerate(told) for b in told[:n])


REFUSING = "{{ raise_exception('no system role') }}"


@pytest.mark.parametrize(
    ('template', 'made', 'message'),
    [
        ('chatlm', {}, "'chatlm' is not known .did you mean 'chatml'.*give name, system, user"),
        (dict(name='plain', ending='nothing'), {}, "needs the token 'nothing'"),
        (dict(name='plain', empty_system='drop'), {}, "'plain' is 'drop', not one of omit"),
        (dict(name='plain', sistem=['', '']), {}, "unknown key 'sistem' .did you mean 'system'"),
        (dict(name='tokenizer', response=''), {}, "unknown key 'response'"),
        (dict(name='own', system='ab', user=['', ''], response=''), {}, 'system of template .own.'),
        ('tokenizer', dict(chat=None), 'no chat template: use the template plain'),
        ('tokenizer', dict(chat=REFUSING), 'refuses the messages of system and user: no system'),
    ],
)
def test_errors(template, made, message):
    with pytest.raises(UserError, match=message):
        prompt(template, 'a', 'b', tokenizer(**made))


def test_a_tokenizer_that_lacks_what_is_needed():
    from mmkd.datasets.tokenizers import train_tokenizer

    made = train_tokenizer(['a b c'], vocab_size=30)
    with pytest.raises(UserError, match='no EOS token'):
        PromptEncoder(made, template_of('plain'))
    with pytest.raises(UserError, match=r"'chatml' needs the token '<\|im_start\|>'"):
        PromptEncoder(made, template_of('chatml'))
