"""A method killed at random instants, also inside a save, and resumed equals one left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from smoke_runs import METHODS, data_of

DRIVER = Path(__file__).with_name('kills.py')


COUNTS = dict(hssda=10, trs=5, fst=5, ti=5, tgeo=5, datm=5, orca=5, cobra=3)


@pytest.mark.parametrize(('method', 'count'), COUNTS.items())
def test_killed_and_resumed_equals_undisturbed(method, count, tmp_path):
    data = data_of(method, tmp_path)
    words = [method, str(data), str(tmp_path), str(count)]
    done = subprocess.run(
        [sys.executable, str(DRIVER), *words],
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.strip().splitlines()[-1])
    assert report['remembered'], 'the smoke run remembers nothing, so a part of it is not tested'
    killed = [each['killed'] for each in report['faults'].values()]
    assert len(killed) == count and killed.count(-signal.SIGKILL) >= 0.7 * count, report
    for fault, each in report['faults'].items():
        assert each['resumed'] == 0, (fault, each)
        assert each['differences'] == [], (fault, each)


def test_every_method_with_a_smoke_config_is_killed():
    """One config of each method's folder."""
    root = DRIVER.parents[2]
    paths = [*root.glob('configs/*/*smoke.py'), *root.glob('projects/*/configs/*/*smoke.py')]
    killed = {root / method.config for method in METHODS.values()}
    assert killed <= set(paths)
    assert {path.parent for path in paths} == {path.parent for path in killed}
