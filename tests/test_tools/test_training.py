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


def test_the_hash_of_the_code_is_that_of_its_python_files(training, tmp_path):
    def library(name, text='x = 1\n', more='a.py'):
        folder = tmp_path / name / 'deep'
        folder.mkdir(parents=True)
        (folder / more).write_text(text)
        (folder / 'note.txt').write_text(name)
        return training.code_hash(folder.parent)

    first = library('first')
    assert library('second') == first
    assert first not in (library('third', 'x = 2\n'), library('fourth', more='b.py'))


def test_other_code_makes_a_training_anew(training, tmp_path, monkeypatch):
    from benchmark.methods import hssda

    def fingerprints():
        jobs = hssda.gain_jobs(tmp_path, 0, ['hssda'], quick=True)[1:]
        return [job.fingerprint() for job in jobs]

    before = fingerprints()
    assert fingerprints() == before
    code = tmp_path / 'mmdistill'
    for name in ('core', 'det3d', 'pose'):
        (code / name).mkdir(parents=True)
        (code / name / 'new.py').write_text('x = 1\n')
    monkeypatch.setattr(training, 'LIBRARY', code)
    other = fingerprints()
    assert not set(before) & set(other)
    for changed, name in enumerate(('pose', 'core', 'det3d')):  # pose is not imported
        (code / name / 'new.py').write_text('x = 2\n')
        training.code_hash.cache_clear()
        assert (fingerprints() == other) == (changed == 0)
        other = fingerprints()
