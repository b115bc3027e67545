"""Results are strict JSON, and belong to the code that made them."""

import json

import pytest


@pytest.fixture
def training(tools):
    """The module."""
    from benchmark import training

    return training


def test_files_hold_null_for_numbers_that_are_not_finite(training, tmp_path):
    path = tmp_path / 'deep' / 'x.json'
    nan, inf = float('nan'), float('inf')
    training.write_json(path, {'a': [1.5, nan, (inf, -inf)], 'b': {'c': nan, 'd': 2, 'e': 'nan'}})

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(path.read_text(), parse_constant=refuse)
    assert found == {'a': [1.5, None, [None, None]], 'b': {'c': None, 'd': 2, 'e': 'nan'}}
    assert training.read_json(path) == found
    assert [each.name for each in path.parent.iterdir()] == ['x.json']
