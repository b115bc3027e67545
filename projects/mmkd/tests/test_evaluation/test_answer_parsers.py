"""Parsers of answers: a table of replies, the known flaw of the first capital, free text."""

import pytest

from mmkd.evaluation.language.parsers import anchored, first_capital, free_text, normalised

FIVE = tuple('ABCDE')
TABLE = [
    # reply, first_capital, anchored
    ('Based on the passage, the answer is C.', 'B', 'C'),
    ('(B)', 'B', 'B'),
    ('B.', 'B', 'B'),
    ('B', 'B', 'B'),
    ('The answer is C', 'C', 'C'),
    ('the answer is (d).', None, 'D'),
    ('the answer is d', None, 'D'),
    ('b', None, 'B'),
    ('(b) because it fits', None, 'B'),
    ('', None, None),
    ('   \n', None, None),
    ('All of them seem plausible.', 'A', None),
    ('A cat sat on the mat.', 'A', None),
    ('A', 'A', 'A'),
    ('A. The cat', 'A', 'A'),
    ('Because of the rain, (E) is right', 'B', 'E'),
    ('The answer is A. Wait: the answer is E.', 'A', 'E'),
    ('Answer: **D**', 'A', 'D'),
    ('**Answer:** D', 'A', 'D'),
    ('The correct answer is option B, as shown.', 'B', 'B'),
    ('The answer is: \\boxed{C}', 'C', 'C'),
    ('Each statement is wrong but D', 'E', 'D'),
    ('Option A is right', 'A', 'A'),
    ('The answer is a matter of taste', None, None),
    ('The answer is F', None, None),
    ('(F)', None, None),
    ('Dr. Evans said so', 'D', None),
    ("C's claim, and D-day, are not answers", 'C', None),
    ('Vitamin (C) first, then (A)', 'C', 'C'),
    ('The answer should be\n[B]', 'B', 'B'),
    ('no letter here', None, None),
]


@pytest.mark.parametrize(('reply', 'paper', 'own'), TABLE)
def test_table_of_replies(reply, paper, own):
    assert first_capital(reply, FIVE) == paper
    assert anchored(reply, FIVE) == own


def test_only_given_letters_are_answers():
    assert first_capital('Based on it: C', tuple('AC')) == 'C'
    letters = tuple('ABCDEFGHIJK')
    assert first_capital('I think the answer is (J)', letters) == 'I'
    assert anchored('I think it could be (J)', letters) == 'J'
    assert anchored('I think so', letters) is None and anchored('I.', letters) == 'I'


@pytest.mark.parametrize(
    ('reply', 'paper', 'own'),
    [
        ('No', 'No', 'No'),
        ('yes.', 'Yes', 'Yes'),
        ('No doubt: the answer is Yes', 'No', 'Yes'),
        ('The answer is "no"', 'No', 'No'),
        ('Yes, because no wire touched it', 'Yes', 'Yes'),
        ('It is not known: none', None, None),
        ('One may say yes or no', 'Yes', None),
        ('I would say yes', 'Yes', 'Yes'),
        ('', None, None),
    ],
)
def test_words_are_labels(reply, paper, own):
    assert first_capital(reply, ('Yes', 'No')) == paper
    assert anchored(reply, ('Yes', 'No')) == own


def test_a_word_within_a_word_is_none():
    assert anchored('The argument is invalid.', ('valid', 'invalid')) == 'invalid'
    assert first_capital('deductively valid', ('valid', 'invalid')) == 'valid'


@pytest.mark.parametrize(
    ('reply', 'found'),
    [
        ('24', '24'),
        ('So 3 + 5.\nThe answer is 8. It is even.', '8'),
        ('The answer is 3. No, the answer is -3.5.', '-3.5'),
        ('the ANSWER IS   "Percolate  Sioux"', 'percolate sioux'),
        ('Answer: ] ) }', '] ) }'),
        ('Several lines\nwithout one', None),
        ('The answer is', None),
        ('The answer is:\n8', '8'),
        ('The answer is .\nno', None),
        ('', None),
    ],
)
def test_free_text(reply, found):
    assert free_text(reply) == found


def test_normalised_twice_is_normalised_once():
    for text in ('  A "b"  C. ', '**x**.', '“Ünïcode”', '] ]', '-35'):
        assert normalised(normalised(text)) == normalised(text)
    assert normalised('**X**.') == 'x' and normalised('] ]') == '] ]'
