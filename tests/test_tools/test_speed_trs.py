"""The speed benchmark of TRS times the step's own parts on the data it claims."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

UNAVOIDABLE = ('student forward + backward', 'teacher forward', 'reviewer forward')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Enough drawn people for the 100 labelled ones of the config."""
    out = tmp_path_factory.mktemp('data') / 'people'
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_synthetic.py'
    command = [sys.executable, tool, 'people', f'--out={out}', '--train=90', '--val=2']
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture
def bench(tools, drawn):
    """The workbench on the CPU."""
    from benchmark.methods.trs import config_path
    from benchmark.methods.trs_workbench_speed import Workbench

    return Workbench(config_path('trs'), drawn, None, 'cpu', batches=1)


def test_the_workbench_repeats_one_step(bench):
    import torch

    batch = bench.batches[0]
    before = [value.clone() for value in bench.model.student.parameters()]
    first, second = bench.step(batch), bench.step(batch)
    assert first['loss'] > 0 and first.keys() == second.keys()
    assert any(key.startswith('unsup_loss') for key in first)
    after = bench.model.student.parameters()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    labeled, hard, _, pseudo = bench.student_inputs(batch)
    assert len(labeled) == len(hard) == 16 and pseudo.images is hard
    assert len(bench.crops(batch).easy) == 16


def test_the_students_part_has_the_gradient_of_the_step(bench):
    """What counts as unavoidable is neither more nor less than the step's own losses."""
    import torch

    batch, model = bench.batches[0], bench.model
    inputs = bench.student_inputs(batch)
    bench.clear()
    bench.student(*inputs)
    alone = [value.grad.clone() for value in model.student.parameters()]
    bench.clear()
    data = model.data_preprocessor(batch, True)
    model.parse_losses(model.loss(data['inputs'], data['data_samples']))[0].backward()
    for one, other in zip(alone, model.student.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)


def test_the_file_and_the_last_line(bench, drawn, tmp_path, monkeypatch, capsys):
    from benchmark import speed
    from benchmark.methods import trs_speed

    monkeypatch.setattr(trs_speed, 'prepare', lambda args: drawn)
    asked = []
    monkeypatch.setattr(trs_speed, 'Workbench', lambda *args: asked.append(args[0]) or bench)
    out = tmp_path / 'speed.json'
    options = ['--quick', '--rounds=1', '--devices=cpu', f'--work-dir={tmp_path}']
    assert speed.main(['trs', f'--out={out}', *options]) == 0
    found = json.loads(out.read_text())
    assert capsys.readouterr().out.splitlines()[-1] == f'speed trs: {found["ratio"]:.2f} x'
    rows = {row['label']: row['metrics'] for row in found['rows']}
    least = sum(rows[f'cpu: {name}']['ms'] for name in UNAVOIDABLE)
    assert found['ratio'] == pytest.approx(rows['cpu: train step']['ms'] / least)
    assert [path.stem for path in asked] == [
        'trs_hrnet-tiny_people', 'dualpose_hrnet-tiny_people',
    ]  # fmt: skip
    assert all(path.is_file() for path in asked)
    peer = rows['cpu: train step']['ms'] / rows['cpu: DualPose step']['ms']
    assert rows['cpu: TRS over DualPose']['x'] == pytest.approx(peer)
    assert {'cpu: EMA update', 'cpu: reviewer update', 'cpu: warp', 'cpu: Keypoint-Mix'} <= set(
        rows
    )
    assert {'cpu: warp, image by image', "cpu: targets, mmpose's codec"} <= set(rows)
    parts = rows['cpu: parts of the step, ms']
    assert {'student: backward', 'hard view: warp', 'collapse statistics'} <= set(parts)
