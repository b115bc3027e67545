"""The comparison of teachers: the same network, questions and budget for all rows of a table."""

import pytest


@pytest.fixture
def orca(tools):
    """The module of the comparison."""
    from benchmark.methods import orca

    return orca


@pytest.mark.parametrize('quick', [False, True])
def test_all_rows_have_equal_terms(orca, config_of_job, tmp_path, quick):
    jobs = orca.gain_jobs(tmp_path, 3, list(orca.ROWS), quick)
    assert len({job.name for job in jobs}) == len(orca.ROWS) == 6
    terms, budgets = [], {'examples': set(), 'tokens': set()}
    for job in jobs:
        cfg, row = config_of_job(job), orca.ROWS[job.key]
        assert cfg.randomness.seed == 3
        stages = cfg.train_dataloader.dataset.stages
        packs = [stage.dataset for stage in stages]
        assert [each.persona for each in packs] == list(row.personas)
        assert {each.seed for each in packs} == {3}
        seen = [stage.dataset.get('tokens') or stage.dataset.count for stage in stages]
        budget = sum(n * stage.epochs for n, stage in zip(seen, stages, strict=True))
        budgets[row.same].add(budget)
        assert all(('tokens' in each) == (row.same == 'tokens') for each in packs)
        assert {each.cap for each in packs} == {cfg.cap}
        terms.append(
            (
                cfg.model.to_dict(),
                cfg.optim_wrapper.to_dict(),
                cfg.param_scheduler,
                cfg.val_dataloader.to_dict(),
                cfg.val_cfg.to_dict(),
                {str(each.families) + str(each.system_ids) + str(each.choices) for each in packs},
            )
        )
    assert all(each == terms[0] for each in terms)
    for found in budgets.values():
        assert max(found) - min(found) <= 4
    # the seed draws the training alone; all seeds have the same test
    assert terms[0][3]['dataset']['seed'] == 0


def test_questions_of_a_budget_suffice(orca, config_of_job, tmp_path):
    from mmkd.registry import DATASETS

    for job in orca.gain_jobs(tmp_path, 0, [f'{orca.PREFIX}{key}' for key in orca._KINDS], True):
        for stage in config_of_job(job).train_dataloader.dataset.stages:
            packs = DATASETS.build(stage.dataset)
            used = int(packs.table.offsets[-1])
            assert 0 < stage.dataset.tokens - used < 200


def test_a_row_has_the_four_scores_and_ends_with_its_export(orca, tmp_path):
    found = {f'answer/{name}': 1.0 for name in (*orca.FILES, 'mean')}
    assert set(orca.clean({**found, 'n/test': 5})) == set(orca.METRICS)
    job = orca.gain_jobs(tmp_path, 0, ['answers'], False)[0]
    assert job.checkpoint.name == 'hf' and job.iterations > 100
