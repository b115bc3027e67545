"""Means over seeds and tables."""

import pytest


@pytest.fixture
def tables(tools):
    """The module."""
    from benchmark import tables

    return tables


def test_mean_and_sample_deviation(tables):
    rows = [{'label': 'a', 'metrics': {'x': value}} for value in (1.0, 2.0, 6.0)]
    (found,) = tables.summarise(rows)
    assert found['mean'] == 3.0 and found['std'] == pytest.approx(7**0.5) and found['seeds'] == 3
    assert tables.summarise(rows[:1])[0]['std'] == 0.0


def test_text_columns_are_aligned(tables):
    lines = tables.text_table([['', 'long heading'], ['row', '1.0'], ['longer row', '12.0']])
    assert len({len(line) for line in lines.splitlines()}) == 1


def test_markdown(tables):
    text = tables.markdown_table([['', 'AP'], ['a', '1']])
    assert text.splitlines() == ['|  | AP |', '| --- | ---: |', '| a | 1 |']


def test_missing_metrics_stay_empty(tables):
    summary = tables.summarise([{'label': 'a', 'metrics': {'x': 1.0}}])
    assert tables.comparison(summary, {'X': 'x', 'Y': 'y'}) == [['', 'X', 'Y'], ['a', '1.0', '']]


def test_metrics_without_a_number_count_for_the_other_seeds_only(tables):
    """A class without objects has no AP; results hold null for it."""
    rows = [{'label': 'a', 'metrics': {'x': value, 'y': None}} for value in (1.0, None, 3.0)]
    rows[1]['metrics']['x'] = float('nan')
    (found,) = tables.summarise(rows)
    assert found['metric'] == 'x' and found['mean'] == 2.0 and found['seeds'] == 2
