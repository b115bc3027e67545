"""Binarizers: the table of the published rules, what ours make of it, and of more phrases."""

import io

import pandas as pd
import pytest

from mmdistill.core.errors import UserError
from mmkd.evaluation.frames.offensiveness import (
    BINARIZERS,
    binarizer,
    official_v1,
    official_v1_csv,
    ours_v2,
    unmatched,
)

NAN = float('nan')
TABLE = [
    # phrase, published rules in memory, through a file, right
    ('not racist', 1, 1, 0),
    ('harmless stereotype', 1, 1, 0),
    ('no offense', 1, 1, 0),
    ('inoffensive', 1, 1, 0),
    ('non-offensive', 1, 1, 0),
    ('unoffensive', 1, 1, 0),
    ('not at all offensive', 1, 1, 0),
    ('compliment', 1, 1, 0),
    ('', 1, 0, None),
    ('offensive, nonetheless', 0, 0, 1),
    ('none', 0, 0, 0),
    ('not offensive', 0, 0, 0),
    ('not very offensive', 0, 0, 0),
    (None, 0, 0, 0),
    (NAN, 0, 0, 0),
    ('harmless', 0, 0, 0),
    ('N/A', 1, 0, 0),
    ('None', 0, 0, 0),
    ('microaggression', 1, 1, 1),
    ('offensive generalization', 1, 1, 1),
]


@pytest.mark.parametrize(('phrase', 'memory', 'file', 'right'), TABLE)
def test_the_table(phrase, memory, file, right):
    assert official_v1(phrase) == memory
    assert official_v1_csv(phrase) == file
    assert ours_v2(phrase) == right and type(ours_v2(phrase)) is type(right)


TRICKY = ['', ' ', 'NA', 'n/a', 'null', 'NULL', 'nan', 'NaN', 'None', 'none', '<NA>', '#N/A', 'nil']


@pytest.mark.parametrize('phrase', [row[0] for row in TABLE if isinstance(row[0], str)] + TRICKY)
def test_the_form_of_files_is_that_of_a_file(phrase):
    file = io.StringIO()
    pd.DataFrame(dict(a=[phrase, 'x'], b=[1, 2])).to_csv(file, index=False)
    read = pd.read_csv(io.StringIO(file.getvalue()))['a'][0]
    assert official_v1_csv(phrase) == official_v1(read)


OURS = {
    1: [
        'Offensive',
        'mildly offensive',
        'Racism.',
        'stereotyping',
        'micro-aggression',
        'profanity; sexism',
        'not racist but sexist',
        'not offensive, but a stereotype',
        'not only sexist',
        'no doubt offensive',
        'not harmless',
        'not inoffensive',
        'backhanded compliment',
        '"sexist"',
        "it's a \u2018biased\u2019 generalisation",
        'none, yet offensive',
    ],
    0: [
        'No.',
        'n/a',
        'NONE',
        'Not\noffensive',
        "isn't offensive",
        'isn\u2019t racist',
        'never offensive',
        'neither racist nor sexist',
        'without bias',
        'nothing offensive',
        'none of it is racist',
        'non offensive',
        'unbiased',
        'a sincere compliment',
        'harmless, no offence',
        'non-offensive generalization',
    ],
    None: [
        ' ',
        '\n',
        'kind',
        'anti-racist',
        'not sure if offensive',
        'unclear',
        'not a compliment',
    ],
}


@pytest.mark.parametrize(('wanted', 'phrase'), [(k, each) for k, v in OURS.items() for each in v])
def test_negations(wanted, phrase):
    assert ours_v2(phrase) == wanted


def test_unmatched_phrases_are_listed():
    texts = ['kind', 'none', 'greeting', ' kind\n', '', ' ', 'racism', 'kind']
    assert list(unmatched(texts).items()) == [('kind', 3), ('greeting', 1)]


def test_binarizers_have_names():
    assert {name: binarizer(name) for name in BINARIZERS} == BINARIZERS
    assert binarizer('ours_v2') is ours_v2
    with pytest.raises(UserError, match="'ours_v3' is not known.*did you mean 'ours_v2'"):
        binarizer('ours_v3')
