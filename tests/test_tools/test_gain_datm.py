"""The comparison of ranges: equal terms for all rows of a seed, nothing chosen by the test set."""

import pytest


@pytest.fixture
def datm(tools, tmp_path, monkeypatch):
    """The module of the comparison, with a file that looks like its data."""
    from benchmark.methods import datm
    from benchmark.rows import RealData

    (tmp_path / 'cifar10_subset.zip').write_text('images')
    monkeypatch.setattr(RealData, 'folder', tmp_path)
    return datm


@pytest.mark.parametrize('quick', [False, True])
def test_all_rows_have_equal_terms(datm, config_of_job, tmp_path, quick):
    jobs = datm.gain_jobs(tmp_path, 3, list(datm.ROWS), quick)
    stores = {job.key: str(job.checkpoint) for job in jobs if isinstance(job, datm.Experts)}
    assert set(stores) == {'experts', 'cifar-experts'}
    terms: dict[tuple, list] = {}
    for job in jobs:
        if isinstance(job, datm.Beside):
            continue
        cfg = config_of_job(job)
        assert cfg.randomness.seed == 3
        if isinstance(job, datm.Experts):
            continue
        row, segments = datm.ROWS[job.key], cfg.train_dataloader.dataset
        store = stores[('cifar-' if row.task == datm.IMAGES else '') + 'experts']
        assert cfg.model.experts == segments.experts == store
        assert cfg.model.seed == segments.seed == cfg.val_cfg.seed == 3
        # one evaluation, at the end
        assert cfg.train_cfg.val_interval == cfg.train_cfg.max_iters == segments.iterations
        assert cfg.val_cfg.parity and 0 <= segments.lower < segments.upper
        last = segments.get('upper_max') or segments.upper
        assert last - 1 + segments.get('length', 2) <= epochs_of(jobs, row.task, config_of_job)
        same = (
            job.iterations,
            cfg.model.steps,
            cfg.model.batch if 'batch' in cfg.model else None,
            cfg.model.inner_lr,
            cfg.optim_wrapper.to_dict(),
            cfg.val_cfg.epochs,
            cfg.val_cfg.runs,
            cfg.test_dataloader.to_dict(),
        )
        terms.setdefault((row.task, row.ipc), []).append(same)
    assert set(terms) == {(t, ipc) for t in (datm.DIGITS, datm.IMAGES) for ipc in (1, 10)}
    for found in terms.values():
        assert len(found) >= 4 and all(each == found[0] for each in found)


def epochs_of(jobs, task, config_of_job):
    """Epochs of the experts of a task."""
    (experts,) = [j for j in jobs if j.key.endswith('experts') and j.config.stem.endswith(task)]
    return config_of_job(experts).train_cfg.epochs


def test_scores_beside_a_row_are_those_of_its_evaluation(datm, tmp_path, monkeypatch):
    jobs = {job.key: job for job in datm.gain_jobs(tmp_path, 0, ['ipc10-random', 'full'], False)}
    assert list(jobs) == ['experts', 'ipc10-late', 'ipc10-random', 'full']
    for key in ('ipc10-random', 'full'):
        assert jobs[key].needs == (jobs['ipc10-late'].name,) and not jobs[key].result()
    scores = {datm.SOFT: 97.0, datm.HARD: 96.0, datm.RANDOM: 90.0, datm.FULL: 98.0}
    note = dict(metrics=scores, seconds=5.0, commit='abc')
    monkeypatch.setattr(
        datm.Training, 'result', lambda self: note if self.key == 'ipc10-late' else {}
    )
    assert jobs['ipc10-random'].result()['metrics'] == {datm.SOFT: 90.0}
    assert jobs['full'].result()['metrics'] == {datm.SOFT: 98.0}
    assert jobs['full'].is_done()


def test_rows_need_their_experts_and_go_on_with_others(datm, tmp_path):
    jobs = {job.key: job for job in datm.gain_jobs(tmp_path, 1, ['ipc1-early'], False)}
    row, experts = jobs['ipc1-early'], jobs['experts']
    assert row.needs == (experts.name,)
    before = row.fingerprint()
    other = {job.key: job for job in datm.gain_jobs(tmp_path, 2, ['ipc1-early'], False)}
    assert other['ipc1-early'].fingerprint() != before
    assert row.based_on == experts.fingerprint()
