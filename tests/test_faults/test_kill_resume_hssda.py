"""HSSDA killed at ten instants, also inside a save, and resumed equals HSSDA left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from mmdistill.det3d.kitti_writer import Recipe, write_dataset

DRIVER = Path(__file__).with_name('hssda_kills.py')


def test_killed_and_resumed_equals_undisturbed(tmp_path):
    data = tmp_path / 'data'
    data.mkdir()
    write_dataset(data, Recipe(train=8, val=2, seed=5))
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(data), str(tmp_path), '10'],
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.strip().splitlines()[-1])
    assert report['stored'] > 0, 'the smoke run mines nothing, so the store is not tested'
    killed = [each['killed'] for each in report['faults'].values()]
    assert killed.count(-signal.SIGKILL) >= 7, report
    for fault, each in report['faults'].items():
        assert each['resumed'] == 0, (fault, each)
        assert each['differences'] == [], (fault, each)
