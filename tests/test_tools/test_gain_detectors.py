"""Rows of further detectors in HSSDA's comparison: equal terms, tables of their own."""

import json
from collections import Counter

import pytest

KINDS = ['burn-in', 'supervised', 'mean-teacher', 'hssda']
ROWS = {
    'second': KINDS,
    'centerpoint': KINDS,
    'pv_rcnn': [*KINDS[:3], 'iou-match', 'hssda'],
}
PARTS = ['no-shuffle', 'no-dual', 'no-removal']
POINTPILLARS = ['supervised', 'mean-teacher', 'hssda', *PARTS, 'rounds', 'buffer']


@pytest.fixture
def hssda(tools, monkeypatch):
    """The module of the comparison with few frames."""
    from benchmark.methods import hssda

    monkeypatch.setattr(hssda, 'QUICK', hssda.Sizes(train=5, val=1, shorter=50))
    return hssda


@pytest.fixture
def gain(gain_of, hssda):
    """Runs the benchmark with the fake training; returns exit code, output and JSON."""
    return gain_of('hssda')


def own(job, cfg):
    """What rows of a detector share: data, sampling, budget, schedule, network, evaluation."""
    detector = cfg.model.get('detector', cfg.model).to_dict()
    detector.pop('_scope_', None)
    return dict(
        detector=detector,
        iterations=job.iterations,
        schedule=cfg.param_scheduler,
        optimizer=cfg.optim_wrapper,
        data=cfg.kitti_train,
        split=cfg.train_dataloader.dataset.split_file,
        batch=cfg.train_dataloader.batch_size,
        val=(cfg.val_dataloader, cfg.val_evaluator),
        needs=job.needs,
        start=cfg.load_from,
    )


@pytest.mark.parametrize('detector', list(ROWS))
@pytest.mark.parametrize('quick', [False, True])
def test_rows_of_a_detector_have_equal_terms(hssda, tmp_path, detector, quick):
    from benchmark.training import config_of, option_key
    from mmengine.config import Config

    from mmdistill.core.launch import checked_options

    keys = hssda.GAIN.keys(detector)
    assert keys == [f'{detector}-{kind}' for kind in ROWS[detector]]
    data, burn_in, *rows = hssda.gain_jobs(tmp_path, 3, keys, quick)
    assert [job.key for job in (burn_in, *rows)] == keys and data.seed == 3
    terms, batches = [], []
    for job in (burn_in, *rows):
        known = config_of(job.config)
        cfg = Config(known.to_dict())
        options = {option_key(known, key): value for key, value in job.options.items()}
        cfg.merge_from_dict(checked_options(cfg, options))
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].total_steps == job.iterations
        assert str(data.out) in cfg.val_dataloader.dataset.data_root
        assert cfg.train_dataloader.sampler.seed == cfg.randomness.seed == 3
        terms.append(own(job, cfg))
        batches.append((job.key.removeprefix(f'{detector}-'), cfg))
    for other in terms[2:]:
        assert other == terms[1]
    assert terms[1]['start'] == burn_in.checkpoint
    assert terms[1]['needs'] == (burn_in.name,) and burn_in.needs == (data.name,)
    assert terms[0]['start'] is None and terms[0]['detector'] == terms[1]['detector']
    assert burn_in.iterations == 2 * rows[0].iterations or quick
    # methods differ from the mean teacher in the method alone
    semi = {kind: cfg.model for kind, cfg in batches if kind not in KINDS[:2]}
    for model in semi.values():
        shared = ('class_names', 'student_view', 'object_bank', 'head_cfg', 'seed')
        assert all(model[key] == semi['hssda'][key] for key in shared)


def test_budgets_are_those_of_pointpillars(hssda, tmp_path):
    keys = [key for key in hssda.GAIN.rows if key.endswith('hssda')]
    jobs = hssda.gain_jobs(tmp_path, 0, keys, quick=False)[1:]
    lengths = {job.key: job.iterations for job in jobs}
    assert {lengths[key] for key in keys} == {450} and len(keys) == 4
    assert {lengths[key] for key in lengths if key.endswith('burn-in')} == {900}
    assert max(Counter(job.name for job in jobs).values()) == 1
    assert len({job.work_dir for job in jobs}) == len(jobs)
    # one burn-in for each detector, which its rows start from
    for job in jobs:
        if not job.key.endswith('burn-in'):
            start = job.options['load_from'].parent.name
            assert start == job.key.removesuffix('hssda') + 'burn-in'


def test_a_call_without_a_detector_runs_pointpillars_as_before(gain, hssda):
    code, said, found = gain('--seeds', '0')
    assert code == 0 and hssda.GAIN.keys() == hssda.GAIN.keys('pointpillars') == POINTPILLARS
    assert [row['key'] for row in found['rows']] == ['burn-in', *POINTPILLARS]
    assert said.splitlines()[-1] == (
        'gain hssda: HSSDA 40.0 vs supervised 30.0 (+10.0 mAP40_3D_moderate)'
    )
    assert 'SECOND' not in said and 'PV-RCNN' not in said


def test_rows_of_a_detector_are_added_as_a_table(gain):
    first = gain('--seeds', '0', '--rows', 'supervised', 'hssda')[2]
    code, said, found = gain('--seeds', '0', '--detector', 'second', '--add')
    assert code == 0
    assert said.splitlines()[-1] == (
        'gain hssda: HSSDA, SECOND 45.0 vs supervised, SECOND 35.0 (+10.0 mAP40_3D_moderate)'
    )
    assert found['rows'][:3] == first['rows']
    assert [row['key'] for row in found['rows'][3:]] == [f'second-{kind}' for kind in KINDS]
    pillars, second = said.split('hssda, seeds 0')[1:]
    assert 'SECOND' not in pillars and 'HSSDA' in pillars
    assert second.startswith(', SECOND') and 'burn-in, SECOND' in second
    code, said, found = gain('--seeds', '0', '--detector', 'pv_rcnn', '--add')
    assert code == 0 and len(found['rows']) == 12
    assert "mean teacher, 3DIoUMatch's filter, PV-RCNN" in said


def test_documents_show_a_table_for_each_detector(gain, tmp_path, monkeypatch):
    from benchmark import report

    found = gain('--seeds', '0', '--rows', 'supervised', 'hssda', 'second-hssda')[2]
    text = report.gain_table(json.loads(json.dumps(found)))
    main, second = text.split('all rows go on from the same burn-in')
    assert '**HSSDA**' in main and 'SECOND' not in main
    assert '**HSSDA, SECOND**' in second and 'a burn-in of its own' in second
    drawn = []
    monkeypatch.setattr(report, 'save_bars', lambda path, title, bars, *more: drawn.extend(bars))
    report.plot(found, tmp_path / 'x.png', '')
    assert [bar[0] for bar in drawn] == ['burn-in', 'supervised', 'HSSDA']


def test_wrong_detectors_are_refused(tools, tmp_path, capsys):
    from benchmark import gain

    out = f'--out={tmp_path}/x.json'
    assert gain.main(['hssda', out, '--detector', 'voxelnet']) == 2
    said = capsys.readouterr().err
    assert "no detector 'voxelnet'; they are pointpillars, second, centerpoint, pv_rcnn" in said
    assert gain.main(['fst', out, '--detector', 'second']) == 2
    assert 'not to choose' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gain.main(['hssda', out, '--detector', 'second', '--rows', 'second-hssda'])


@pytest.mark.parametrize('quick', [False, True])
def test_sources_of_rounds_differ_in_nothing_else(hssda, tmp_path, quick):
    """Both have three rounds, whatever the length of the training."""
    jobs = {job.key: job for job in hssda.gain_jobs(tmp_path, 0, hssda.MINING, quick)[2:]}
    rounds, buffer = (dict(jobs[key].options) for key in hssda.MINING)
    source = {key: buffer.pop(key) for key in list(buffer) if key.startswith('model.mining')}
    assert buffer == rounds and source['model.mining.source'] == 'training_buffer'
    for job in jobs.values():
        interval = job.options[hssda.ROUNDS]
        assert len(range(0, job.iterations, interval)) == 3
        hook = hssda.config_of(job.config).custom_hooks[3]
        assert hook.type == 'mmdistill.PseudoMiningHook' and hook.interval == 450
