"""The comparison of pose methods: equal terms for all rows, a table of its own for the mouse."""

from pathlib import Path

import pytest

PEOPLE_ROWS = ['supervised', 'posecons', 'dualpose', 'trs', 'no-reviewer', 'no-levels', 'no-mix']


@pytest.fixture
def trs(tools, monkeypatch):
    """The module of the comparison with few images."""
    from benchmark.methods import trs

    monkeypatch.setattr(trs, 'QUICK', trs.Sizes(train=3, val=1, shorter=50))
    return trs


@pytest.fixture
def mouse(trs, tmp_path, monkeypatch):
    """A folder that looks like the frames of the mouse."""
    from benchmark.rows import RealData

    annotations = tmp_path / 'mouse' / 'annotations'
    annotations.mkdir(parents=True)
    (annotations / 'train.json').write_text('{}')
    monkeypatch.setattr(RealData, 'folder', tmp_path / 'mouse')
    return annotations / 'train.json'


@pytest.fixture
def gain(gain_of, trs):
    """Runs the benchmark with the fake training; returns exit code, output and JSON."""
    return gain_of('trs')


def test_rows_summary_and_last_line(gain, mouse):
    code, said, found = gain('--seeds', '0', '4')
    assert code == 0
    assert said.splitlines()[-1] == 'gain trs: TRS 42.0 vs supervised 32.0 (+10.0 coco/AP)'
    assert {'name', 'command', 'commit', 'versions', 'rows', 'summary'} <= set(found)
    assert all({'label', 'seed', 'metrics', 'seconds'} <= set(row) for row in found['rows'])
    assert [row['key'] for row in found['rows'] if row['seed'] == 4] == [
        *PEOPLE_ROWS, 'mouse-supervised', 'mouse-trs',
    ]  # fmt: skip
    means = {(s['label'], s['metric']): s['mean'] for s in found['summary']}
    assert means['TRS', 'teacher/coco/AP'] == means['TRS', 'reviewer/coco/AP'] == 42.0
    assert ('TRS without reviewer', 'reviewer/coco/AP') not in means
    assert means['TRS without Keypoint-Mix', 'coco/AP'] == pytest.approx(40.0)
    assert (means['TRS, mouse', 'PCK'], means['TRS, mouse', 'EPE']) == (42.0, pytest.approx(8.4))
    assert all(
        row['metrics']['coco/AR'] is None for row in found['rows'] if 'mouse' not in row['key']
    )
    people, other = said.split('trs, seeds 0 4 ')[1].split('trs, seeds 0 4, mouse')
    assert 'PoseCons' in people and 'PCK' not in people
    assert 'EPE, pixels' in other and 'DualPose' not in other


def test_without_the_mouse_its_rows_are_skipped(gain, tmp_path, monkeypatch):
    from benchmark.rows import RealData

    monkeypatch.setattr(RealData, 'folder', tmp_path / 'nowhere')
    code, said, found = gain('--seeds', '0', '--rows', 'supervised', 'trs', 'mouse-trs')
    assert code == 0 and [row['key'] for row in found['rows']] == ['supervised', 'trs']
    skipped = [line for line in said.splitlines() if line.startswith('skipped')]
    assert len(skipped) == 1
    assert 'TRS, mouse: no frames' in skipped[0] and 'MMDISTILL_DATA' in skipped[0]


def test_the_mouse_alone_needs_no_people(gain, mouse, trs):
    code, said, found = gain('--seeds', '0', '--rows', 'mouse-trs')
    assert code == 0 and len(gain.calls()) == 1 and 'training and validation' not in said
    assert said.splitlines()[-1] == 'gain trs: no result for TRS and supervised'
    mouse.write_text('{"other": 1}')
    gain('--seeds', '0', '--rows', 'mouse-trs')
    assert len(gain.calls()) == 1
    gain('--seeds', '0', '--rows', 'mouse-trs')
    assert gain.calls() == []


@pytest.mark.parametrize('quick', [False, True])
def test_overrides_exist_and_all_rows_have_equal_terms(trs, mouse, config_of_job, tmp_path, quick):
    from benchmark.training import Training

    terms: dict[str, set] = {}
    jobs = trs.gain_jobs(tmp_path, 3, list(trs.ROWS), quick)
    data, *rows = jobs
    assert (data.kind, data.seed) == ('people', 3)
    assert quick or (data.train, data.val) == (1000, 300)
    for job in rows:
        assert isinstance(job, Training)
        cfg = config_of_job(job)
        loader, source = cfg.train_dataloader, trs.ROWS[job.key].data
        assert loader.sampler.seed == cfg.randomness.seed == cfg.model.seed == 3
        ratios = loader.sampler.ratios
        labeled = loader.sampler.batch_size * ratios[0] // sum(ratios)
        estimator = cfg.model.estimator.to_dict()
        terms.setdefault(source, []).append(
            (estimator, labeled, cfg.train_cfg, cfg.param_scheduler)
        )
        assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == job.iterations
        if source == trs.PEOPLE:
            assert job.needs == (data.name,)
            for part in (
                loader.dataset.labeled.dataset, loader.dataset.unlabeled, cfg.val_dataloader.dataset
            ):  # fmt: skip
                assert Path(part.data_root) == data.out
            assert Path(cfg.val_evaluator.ann_file).is_relative_to(data.out)
    assert len(terms[trs.PEOPLE]) == 7 and len(terms[trs.MOUSE]) == 2
    for found in terms.values():
        assert all(each == found[0] for each in found)


def test_a_row_without_a_part_has_all_the_others(trs, tmp_path):
    from benchmark.training import config_of
    from mmengine.config import Config

    jobs = {job.key: job for job in trs.gain_jobs(tmp_path, 0, PEOPLE_ROWS, quick=False)[1:]}
    models = {}
    for key in ('trs', 'no-reviewer', 'no-levels', 'no-mix'):
        cfg = Config(config_of(jobs[key].config).to_dict())
        cfg.merge_from_dict(jobs[key].options)
        models[key] = cfg.model.to_dict()
    for key, part in (('no-reviewer', 'reviewer'), ('no-levels', 'aux')):
        assert not models[key].pop(part)
        assert models[key] == {k: v for k, v in models['trs'].items() if k != part}
    assert list(models['no-mix']['mix'][0].pop('mix_weight')) == [0, 0]
    assert 'mix_weight' not in models['trs']['mix'][0]  # the default, which mixes
    assert models['no-mix'] == models['trs']


def test_a_shorter_training_shrinks_everything(trs, tmp_path):
    from benchmark.overrides import length_options

    options = length_options(trs.config_path('trs'), 20)
    assert options['train_cfg.max_iters'] == 65
    assert options['param_scheduler.0.total_steps'] == 65
    begin = next(key for key in options if key.endswith('.begin') and 'custom_hooks' in key)
    assert options[begin] == 12 and options[begin.replace('begin', 'ramp_iters')] == 5
    assert length_options(trs.config_path('trs'), 1) == {}
