"""The comparison of contexts: the same network, frames and budget for all rows."""

import pytest


@pytest.fixture
def cobra(tools):
    """The module of the comparison."""
    from benchmark.methods import cobra

    return cobra


@pytest.mark.parametrize('quick', [False, True])
def test_rows_differ_in_what_is_shown_of_the_context_alone(cobra, config_of_job, tmp_path, quick):
    jobs = cobra.gain_jobs(tmp_path, 3, list(cobra.ROWS), quick)
    assert [job.key for job in jobs] == list(cobra.ROWS)
    shown, terms = [], []
    for job in jobs:
        cfg = config_of_job(job)
        train, val = (cfg[f'{each}_dataloader'].dataset.to_dict() for each in ('train', 'val'))
        keys = ('context', 'context_dropout')
        shown.append([(each.pop('context', 'all')) for each in (train, val)])
        shown[-1].append(train.pop('context_dropout', 0.0))
        assert not any(key in each for key in keys for each in (train, val))
        assert {train['frames']['seed'], val['frames']['seed'], cfg.randomness.seed} == {3}
        assert train['frames']['split'] == 'train' and val['frames']['split'] == 'test'
        terms.append(
            (train, val, cfg.model.to_dict(), cfg.optim_wrapper.to_dict(), cfg.train_cfg.to_dict())
        )
        assert job.iterations % cfg.train_cfg.max_epochs == 0 and job.iterations > 10
    assert shown == [['none', 'none', 0.0], ['all', 'all', 0.0], ['all', 'all', 0.33]]
    assert all(each == terms[0] for each in terms)


def test_scores_are_percentages(cobra):
    found = dict.fromkeys(cobra.METRICS, 0.25)
    assert cobra.clean({**found, 'n': 7}) == dict.fromkeys(cobra.METRICS, 25.0)
