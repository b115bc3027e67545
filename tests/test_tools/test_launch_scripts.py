"""The bash scripts, with doubles of slurm's programs that write down how they are called."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which('bash') is None, reason='needs bash')


@pytest.fixture
def slurm(tmp_path):
    """Runs a script; returns (result, log of calls)."""
    doubles = tmp_path / 'bin'
    doubles.mkdir()
    log = tmp_path / 'calls'
    bodies = dict(
        sbatch=f'echo "sbatch $*" >> {log}\nSLURM_JOB_ID=77 exec bash -s',
        srun=f'echo "srun $*" >> {log}\n[ -z "$LEAVE" ] || touch "$LEAVE"\nexit ${{STATUS:-0}}',
        scontrol=f'echo "scontrol $*" >> {log}',
    )
    for name, body in bodies.items():
        path = doubles / name
        path.write_text(f'#!/usr/bin/env bash\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def _run(script, *args, **env):
        done = subprocess.run(
            ['bash', str(ROOT / 'tools' / script), *map(str, args)],
            env=dict(os.environ, PATH=f'{doubles}:{os.environ["PATH"]}', **env),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        calls = log.read_text().splitlines() if log.exists() else []
        return done, calls

    return _run


def test_a_preempted_job_is_requeued(slurm, tmp_path):
    work_dir = tmp_path / 'work dir'
    done, calls = slurm(
        'slurm_train.sh', 'gpu', 'name', 'c.py', work_dir, '--cfg-options', 'a.b="x y"',
        LEAVE=str(work_dir / 'preempted'), GPUS='16', SBATCH_ARGS='--time=1:00:00', PYTHON='py',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(calls) == 3 and calls[2] == 'scontrol requeue 77'
    for part in ('--requeue', '--signal=USR1@120', '--partition=gpu', '--ntasks=16', '--time=1:0'):
        assert part in calls[0]
    assert '--launcher slurm --resume --cfg-options a.b="x y"' in calls[1]
    assert calls[1].startswith('srun --kill-on-bad-exit=1 py -u /')
    assert f'--work-dir {work_dir} ' in calls[1]


def test_a_finished_job_is_not_requeued_and_an_old_marker_is_removed(slurm, tmp_path):
    (tmp_path / 'w').mkdir()
    (tmp_path / 'w' / 'preempted').touch()
    done, calls = slurm('slurm_train.sh', 'gpu', 'name', 'c.py', tmp_path / 'w')
    assert done.returncode == 0 and [c.split()[0] for c in calls] == ['sbatch', 'srun']


def test_a_failed_job_is_not_requeued(slurm, tmp_path):
    marker = str(tmp_path / 'w' / 'preempted')
    done, calls = slurm(
        'slurm_train.sh', 'gpu', 'name', 'c.py', tmp_path / 'w', LEAVE=marker, STATUS='3'
    )
    assert done.returncode == 3 and [c.split()[0] for c in calls] == ['sbatch', 'srun']


def test_slurm_test(slurm):
    done, calls = slurm(
        'slurm_test.sh', 'gpu', 'name', 'c.py', 'a.pth', '--branch', 'both', GPUS='4'
    )
    assert done.returncode == 0
    assert '--ntasks=4 --ntasks-per-node=4' in calls[0]
    assert calls[0].endswith('c.py a.pth --launcher slurm --branch both')


@pytest.mark.parametrize('name', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_usage(slurm, name):
    done, calls = slurm(f'{name}.sh', 'one')
    assert done.returncode != 0 and f'usage: {name}.sh' in done.stderr and not calls
