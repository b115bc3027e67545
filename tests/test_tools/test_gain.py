"""The gain benchmark: equal starts, whole results, exact resume, honest last line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gain(tools, tmp_path, fake_train, monkeypatch, capsys):
    """Runs the benchmark with the fake training; returns exit code, output and JSON."""
    from benchmark.methods import hssda

    from benchmark import gain

    monkeypatch.setattr(hssda, 'QUICK', hssda.Sizes(train=5, val=1, shorter=50))
    monkeypatch.setenv('FAKE_TRAIN', str(tmp_path))
    out = tmp_path / 'docs' / 'gain.json'

    def run(*args):
        (tmp_path / 'calls').write_text('')
        fixed = ['--quick', f'--out={out}', f'--work-dir={tmp_path}/work']
        code = gain.main(['hssda', *fixed, f'--train-script={fake_train}', *args])
        return code, capsys.readouterr().out, json.loads(out.read_text())

    run.calls = lambda: (tmp_path / 'calls').read_text().splitlines()
    run.home = tmp_path
    return run


def test_rows_summary_and_last_line(gain):
    code, said, found = gain('--seeds', '0', '4')
    assert code == 0
    assert said.splitlines()[-1] == (
        'gain hssda: HSSDA 42.0 vs supervised 32.0 (+10.0 mAP40_3D_moderate)'
    )
    keys = {'name', 'command', 'commit', 'versions', 'seeds', 'wall_seconds', 'hardware'}
    assert keys | {'rows', 'summary'} <= set(found)
    assert found['name'] == 'hssda' and found['seeds'] == [0, 4]
    assert all({'label', 'seed', 'metrics', 'seconds'} <= set(row) for row in found['rows'])
    labels = [row['label'] for row in found['rows'] if row['seed'] == 4]
    assert labels[:4] == ['burn-in', 'supervised', 'mean teacher', 'HSSDA'] and len(labels) == 9
    means = {(s['label'], s['metric']): (s['mean'], s['std']) for s in found['summary']}
    assert means['HSSDA', 'mAP40_3D_moderate'] == (42.0, pytest.approx(8**0.5))
    assert means['HSSDA', 'teacher/mAP40_3D_moderate'][0] == 43.0
    assert means['HSSDA without removal', 'Car_3D_AP40_moderate'][0] == 40.0
    assert 'HSSDA without dual thresholds' in said


def test_all_rows_of_a_seed_start_from_one_burn_in(tools, tmp_path):
    from benchmark.methods import hssda

    jobs = hssda.gain_jobs(tmp_path, 7, list(hssda.ROWS), quick=False)
    data, burn_in, *rows = jobs
    assert data.seed == 7 and len(rows) == 8
    for row in rows:
        assert row.options['load_from'] == burn_in.checkpoint
        assert row.needs == (burn_in.name,)
        assert row.iterations == rows[0].iterations
        assert row.options['train_dataloader.dataset.split_file'].parent.parent == data.out
    other = hssda.gain_jobs(tmp_path, 8, list(hssda.ROWS), quick=False)
    assert not {job.fingerprint() for job in jobs[1:]} & {job.fingerprint() for job in other[1:]}


@pytest.mark.parametrize('quick', [False, True])
def test_overrides_exist_in_the_configs(tools, tmp_path, quick):
    from benchmark.methods import hssda
    from benchmark.training import config_of, option_key
    from mmengine.config import Config

    from mmdistill.core.launch import checked_options

    for job in hssda.gain_jobs(tmp_path, 0, list(hssda.ROWS), quick)[1:]:
        known = config_of(job.config)
        options = {option_key(known, key): value for key, value in job.options.items()}
        cfg = Config(known.to_dict())
        cfg.merge_from_dict(checked_options(cfg, options))
        assert cfg.load_from is None or str(tmp_path) in str(cfg.load_from)
        assert str(tmp_path) in cfg.val_dataloader.dataset.data_root
        assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == job.iterations
        assert cfg.param_scheduler[0].total_steps == job.iterations
        assert cfg.train_dataloader.sampler.seed == 0


def test_without_dual_thresholds_means_one_fixed_threshold(tools):
    import torch
    from benchmark.methods import hssda

    from mmdistill.core.filters import DualThresholdFilter

    options = hssda.ROWS['no-dual'][2]
    init = {name: options[f'model.thresholds.init.{name}'] for name in ('cls', 'view_iou')}
    least = options['model.thresholds.min_pool']
    kept = DualThresholdFilter(['Car'], init=init, min_pool=least)
    kept.fit({(name, 0): torch.rand(1000) for name in init})
    assert torch.equal(kept.high, kept.low)
    levels = kept.levels(torch.rand(500, 2), torch.zeros(500, dtype=torch.long))
    assert set(levels.tolist()) == {0, 2}


def test_finished_rows_are_kept(gain):
    first = gain('--seeds', '0')[2]
    code, said, second = gain('--seeds', '0')
    assert code == 0 and gain.calls() == []
    assert second['rows'] == first['rows']
    assert said.count('(from an earlier call)') == 9
    gain('--seeds', '0', '1')
    assert len(gain.calls()) == 9 and all('seed_1' in call for call in gain.calls())


def test_other_data_or_burn_in_make_rows_anew(gain, monkeypatch):
    from benchmark.methods import hssda

    gain('--seeds', '0', '--rows', 'hssda')
    monkeypatch.setattr(hssda, 'QUICK', hssda.Sizes(train=6, val=1, shorter=50))
    gain('--seeds', '0', '--rows', 'hssda')
    assert len(gain.calls()) == 2


def test_a_failure_stops_only_its_own_rows(gain):
    (gain.home / 'fail').write_text('no-shuffle')
    code, said, found = gain('--seeds', '0')
    assert code == 1
    assert 'something is wrong with the weather' in said
    assert 'FAILED seed 0 HSSDA without shuffle: exit code 3' in said
    assert len(found['rows']) == 8
    (gain.home / 'fail').write_text('seed_0/supervised')
    code, said, _ = gain('--seeds', '0')
    assert code == 0 and len(gain.calls()) == 1  # the supervised row was done before


def test_no_verdict_without_both_rows(gain):
    (gain.home / 'fail').write_text('burn-in')
    code, said, _ = gain('--seeds', '0')
    assert code == 1
    assert 'FAILED seed 0 HSSDA: not started: seed 0 burn-in failed' in said
    assert said.splitlines()[-1] == 'gain hssda: no result for HSSDA and supervised'
    assert len(gain.calls()) == 1


def test_side_by_side_the_cores_are_shared(gain, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 6)
    assert gain('--seeds', '0', '1', '2', '--jobs', '3', '--rows', 'supervised')[0] == 0
    assert {call.split('threads=')[1] for call in gain.calls()} == {'2'}


def test_unknown_names_are_refused(gain, tools):
    from benchmark import methods

    with pytest.raises(SystemExit, match=r"'hsda'.*hssda"):
        methods.find('hsda')
    (gain.home / 'docs').mkdir()
    (gain.home / 'docs' / 'gain.json').write_text('{}')
    assert gain('--rows', 'hsda')[0] == 2


def test_interrupted_work_goes_on(tmp_path, fake_train):
    (tmp_path / 'slow').write_text('')
    script = ROOT / 'tools' / 'benchmark' / 'gain.py'
    options = ['--quick', '--seeds=0', '--rows=supervised', '--work-dir', tmp_path / 'work']
    options += ['--out', tmp_path / 'out.json', '--train-script', fake_train]
    command = [sys.executable, script, 'hssda', *options]
    env = {**os.environ, 'FAKE_TRAIN': str(tmp_path)}
    # a shell starts background jobs with the interrupt ignored, and children inherit that
    process = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    note = tmp_path / 'work' / 'quick' / 'seed_0' / 'burn-in'
    limit = time.monotonic() + 120
    while not list(note.glob('*/vis_data/scalars.json')) and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert 'goes on from here' in said and 'Traceback' not in said
    assert 'metrics' not in json.loads((note / 'run.json').read_text())
    (tmp_path / 'slow').unlink()
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].startswith('gain hssda: no result for HSSDA')
    result = json.loads((note / 'run.json').read_text())
    assert result['metrics']['mAP40_3D_moderate'] == 20.0
    assert len(list(note.glob('run_*'))) == 2  # went on in the same folder


def test_rows_are_added_to_those_of_the_file(gain):
    first = gain('--seeds', '0', '--rows', 'supervised', 'hssda')[2]
    out = gain.home / 'docs' / 'gain.json'
    other = {**first, 'wall_seconds': 1000.0}
    other['rows'] = [{**row, 'commit': 'earlier'} for row in first['rows']]
    out.write_text(json.dumps(other))
    code, said, found = gain('--seeds', '0', '1', '--rows', 'mean-teacher', '--add')
    assert code == 0 and found['seeds'] == [0, 1] and found['wall_seconds'] > 1000
    keys = [(row['seed'], row['key'], row['commit'] == 'earlier') for row in found['rows']]
    assert keys == [
        (0, 'burn-in', False),
        (0, 'supervised', True),
        (0, 'mean-teacher', False),
        (0, 'hssda', True),
        (1, 'burn-in', False),
        (1, 'mean-teacher', False),
    ]
    assert 'different commits' in said and 'HSSDA 40.0 vs supervised 30.0' in said
    # a row that is measured again replaces the one of the file; without --add all others go
    again = gain('--seeds', '0', '--rows', 'hssda', '--add')[2]
    assert [row['commit'] == 'earlier' for row in again['rows']].count(True) == 1
    assert len(gain('--seeds', '0', '--rows', 'hssda')[2]['rows']) == 2


def test_rows_of_another_comparison_are_not_added_to(gain):
    gain('--seeds', '0', '--rows', 'hssda')
    out = gain.home / 'docs' / 'gain.json'
    for wrong in ({'name': 'trs'}, {'quick': False}):
        there = {**json.loads(out.read_text()), **wrong}
        out.write_text(json.dumps(there))
        assert gain('--seeds', '0', '--rows', 'hssda', '--add')[0] == 2
        assert gain.calls() == [] and json.loads(out.read_text()) == there
