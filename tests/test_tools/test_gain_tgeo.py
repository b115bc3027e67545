"""The comparison of ratios: equal terms for all students, one table per seed, an honest choice."""

import pytest


@pytest.fixture
def tgeo(tools, tmp_path, monkeypatch):
    """The module of the comparison, with a file that looks like its data."""
    from benchmark.methods import tgeo
    from benchmark.rows import RealData

    (tmp_path / 'cifar10_subset.zip').write_text('images')
    monkeypatch.setattr(RealData, 'folder', tmp_path)
    return tgeo


@pytest.mark.parametrize('quick', [False, True])
def test_all_students_of_a_task_have_equal_terms(tgeo, config_of_job, tmp_path, quick):
    jobs = tgeo.gain_jobs(tmp_path, 3, list(tgeo.ROWS), quick)
    terms: dict[str, list] = {}
    for job in jobs:
        if isinstance(job, tgeo.Chosen):
            continue
        cfg, (task, row) = config_of_job(job), tgeo.ROWS[job.key]
        assert cfg.randomness.seed == cfg.train_dataloader.sampler.seed == 3
        assert cfg.train_cfg.max_iters == job.iterations
        if row.config == 'teacher':
            continue
        wrapper = cfg.optim_wrapper.get('student', cfg.optim_wrapper)
        schedule = cfg.param_scheduler
        schedule = schedule.student if isinstance(schedule, dict) else schedule
        assert schedule[0].end == job.iterations
        terms.setdefault(task, []).append(
            (
                job.iterations,
                cfg.model.student.to_dict(),
                cfg.model.teacher.to_dict(),
                wrapper.optimizer.to_dict(),
                cfg.train_dataloader.to_dict(),
                cfg.val_dataloader.to_dict(),
                cfg.model.temperature,
            )
        )
    assert set(terms) == {tgeo.DIGITS, tgeo.TABLE, tgeo.IMAGES}
    for found in terms.values():
        assert len(found) > 5 and all(each == found[0] for each in found)


def test_a_seed_has_one_table_in_all_data_sets(tgeo, config_of_job, tmp_path):
    def seeds(node):
        if isinstance(node, dict):
            own = [node.get('seed', 0)] if node.get('type') == 'mmkd.DrawnTable' else []
            return own + [each for value in node.values() for each in seeds(value)]
        return [e for v in node for e in seeds(v)] if isinstance(node, (list, tuple)) else []

    for job in tgeo.gain_jobs(tmp_path, 5, ['table-tgeo', 'table-kd-0.5'], quick=False):
        cfg = config_of_job(job).to_dict()
        parts = ('train_dataloader', 'val_dataloader', 'train_cfg', 'custom_hooks')
        found = [each for part in parts for each in seeds(cfg.get(part, {}))]
        assert len(found) >= 2 and set(found) == {5}


def test_the_best_ratio_is_chosen_by_held_out_samples(tgeo, tmp_path, monkeypatch):
    jobs = {job.key: job for job in tgeo.gain_jobs(tmp_path, 0, ['kd-best'], quick=False)}
    grid = [tgeo.fixed(each) for each in tgeo.GRID[tgeo.DIGITS]]
    assert list(jobs) == ['teacher', *grid, 'kd-best']
    best = jobs['kd-best']
    assert set(best.needs) == {jobs[key].name for key in grid} and not best.result()
    notes = {
        key: dict(metrics={'accuracy': 90.0 - n, tgeo.HELD_OUT: 80.0 + n}, seconds=1.0)
        for n, key in enumerate(grid)
    }
    monkeypatch.setattr(tgeo.Training, 'result', lambda self: notes.get(self.key, {}))
    found = best.result()
    assert found['metrics'] == {'accuracy': 86.0, tgeo.HELD_OUT: 84.0, 'ratio': 0.9}
    assert found['seconds'] == 5.0 and best.is_done()
    del notes[grid[0]]
    assert not best.is_done()
