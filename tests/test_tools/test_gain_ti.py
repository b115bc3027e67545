"""The comparison of ternary students: equal budgets, teachers first, curves over iterations."""

import pytest

STUDENTS = ['qat', 'qat-kd', 'ti-o', 'ti-m', 'ti-g']


@pytest.fixture
def ti(tools, tmp_path, monkeypatch):
    """The module of the comparison, with files that look like its data."""
    from benchmark.methods import ti
    from benchmark.rows import RealData

    for name in ('train.tsv', 'dev.tsv', 'cifar10_subset.zip'):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(RealData, 'folder', tmp_path)
    return ti


@pytest.fixture
def gain(gain_of, ti):
    """Runs the benchmark with the fake training; returns exit code, output and JSON."""
    return gain_of('ti')


def test_rows_curves_and_last_line(gain):
    code, said, found = gain('--seeds', '0', '2')
    assert code == 0
    assert said.splitlines()[-1] == 'gain ti: TI-G 70.9 vs QAT + KD 60.9 (+10.0 accuracy)'
    rows = {(row['key'], row['seed']): row for row in found['rows']}
    assert len(rows) == len(found['rows']) == 2 * 24
    for (key, _), row in rows.items():
        (early, half), (last, value) = row['curve']
        assert half == value / 2 and value == row['metrics']['accuracy'] and early == last // 2, key
    means = {each['label']: each['mean'] for each in found['summary']}
    assert means['TI-O'] == pytest.approx(means['TI-G'] - 5)
    assert means['TI-G, 1/4'] < means['TI-G, 1/2'] < means['TI-G']
    titles = [line for line in said.splitlines() if line.startswith('ti, seeds 0 2')]
    assert ['shorter budgets' in line for line in titles] == [False, True, False]
    assert 'CIFAR-10' in titles[2]


def test_teachers_come_first_and_students_start_from_their_seeds(ti, tmp_path):
    jobs = ti.gain_jobs(tmp_path, 3, ['ti-g', 'cifar-qat-kd'], quick=False)
    assert [job.key for job in jobs] == ['teacher', 'ti-g', 'cifar-teacher', 'cifar-qat-kd']
    for teacher, student in (jobs[:2], jobs[2:]):
        assert student.needs == (teacher.name,) and teacher.needs == ()
        assert student.options['model.teacher.checkpoint'] == teacher.checkpoint
        assert student.based_on == teacher.fingerprint()


@pytest.mark.parametrize('quick', [False, True])
def test_all_students_of_a_budget_have_equal_terms(ti, config_of_job, tmp_path, quick):
    jobs = ti.gain_jobs(tmp_path, 3, list(ti.ROWS), quick)
    terms: dict[tuple, list] = {}
    for job in jobs:
        cfg, (task, row) = config_of_job(job), ti.ROWS[job.key]
        assert cfg.randomness.seed == cfg.train_dataloader.sampler.seed == 3
        assert cfg.train_cfg.max_iters == job.iterations
        if row.config == 'teacher':
            continue
        model = cfg.model
        teacher = model.teacher.to_dict()
        terms.setdefault((task, row.budget), []).append(
            (job.iterations, teacher, cfg.optim_wrapper.to_dict(), cfg.train_dataloader.to_dict())
        )
        phases = [(cfg.param_scheduler, job.iterations)]
        if row.config == 'ti-g':
            first = cfg.train_cfg.first_iters
            assert model.intervention_steps == first == (6 if quick else 60)
            second = cfg.train_cfg.second_scheduler
            phases = [(cfg.param_scheduler, first), (second, job.iterations - first)]
        for schedule, length in phases:
            assert schedule[0].begin == 0 and schedule[0].end == schedule[1].begin
            assert schedule[1].end == length
    assert {len(found) for found in terms.values()} == {2, 5} and len(terms) == 8
    for found in terms.values():
        assert all(each == found[0] for each in found)


def test_labels_alone_need_no_signal_of_the_teacher(ti, config_of_job, tmp_path):
    from mmengine.config import Config

    from mmkd.registry import MODELS

    job = next(job for job in ti.gain_jobs(tmp_path, 0, ['qat'], quick=True) if job.key == 'qat')
    given = Config(config_of_job(job).model.to_dict())
    del given.teacher['checkpoint']
    model = MODELS.build(given)
    assert model.mode is None and model.needed(None) == set()
    assert {name for name, weight in model.weights.items() if weight} == {'labels'}


def test_changed_data_or_teachers_count_as_other_rows(gain, tmp_path):
    gain('--seeds', '0', '--rows', 'teacher', 'ti-g')
    gain('--seeds', '0', '--rows', 'teacher', 'ti-g')
    assert gain.calls() == []
    (tmp_path / 'train.tsv').write_text('other')
    gain('--seeds', '0', '--rows', 'teacher', 'ti-g')
    assert len(gain.calls()) == 2


def test_the_picture_has_a_curve_per_row_and_a_chart_per_table(gain, ti):
    from benchmark import report

    _, _, found = gain('--seeds', '0', '2', '--rows', 'qat-kd', 'ti-g', 'cifar-ti-g')
    charts = report.curves(found, ti.GAIN)
    assert list(charts) == ['accuracy', 'CIFAR-10']
    steps, mean = charts['accuracy']['TI-G']
    assert steps == [50, 100] and mean == [pytest.approx(35.45), pytest.approx(70.9)]
