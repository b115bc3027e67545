"""The speed benchmark measures a step that does all its work, on the data and views it claims."""

import json

import pytest

TIMED = ('train step', 'student forward + backward', 'two teacher forwards', 'EMA update')


@pytest.fixture
def bench(tools, tiny_kitti, plain_checkpoint):
    """The workbench on the tiny data set."""
    from benchmark.methods.hssda_speed import Workbench

    return Workbench(tiny_kitti, plain_checkpoint(), 'cpu', batches=1)


def test_the_workbench_repeats_one_step(bench):
    import torch

    before = {name: value.clone() for name, value in bench.model.student.named_parameters()}
    first = bench.step(bench.batches[0])
    second = bench.step(bench.batches[0])
    assert first.keys() == second.keys() and first['loss'] > 0
    after = dict(bench.model.student.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    clouds, samples = bench.student_inputs(bench.batches[0])
    again, _ = bench.student_inputs(bench.batches[0])
    assert all(torch.equal(a, b) for a, b in zip(clouds, again, strict=True))
    assert len(samples) == len(clouds)


def test_teacher_work_is_two_views_of_the_frames(bench):
    batch = bench.batches[0]
    unlabeled = sum(not each.metainfo['labeled'] for each in batch['data_samples'])
    views = bench.teacher_views(batch, unlabeled=True)
    assert [len(view) for view in views] == ([unlabeled] * 2 if unlabeled else [])
    whole = bench.teacher_views(batch, unlabeled=False)
    assert [len(view) for view in whole] == [len(batch['data_samples'])] * 2


def test_steps_with_a_buffer_judge_labelled_frames_too(bench):
    """And leave the model without it."""
    buffer = bench.filled_buffer()
    assert len(buffer) == len(bench.dataset)
    bench.filled_buffer = lambda: buffer
    (steps, _), written = bench.sources(), int(buffer.written)
    steps['train step, rounds read the buffer'].run()
    frames = sum(len(batch['data_samples']) for batch in bench.batches)
    assert int(buffer.written) == written + frames and bench.model.buffer is None
    found = buffer.newest()
    assert any(found[2]) and not all(found[2])


def test_the_file_and_the_last_line(bench, tiny_kitti, tmp_path, monkeypatch, capsys):
    from benchmark.methods import hssda_speed

    from benchmark import speed

    monkeypatch.setattr(hssda_speed, 'prepare', lambda args: (tiny_kitti, None))
    monkeypatch.setattr(hssda_speed, 'Workbench', lambda *args: bench)
    monkeypatch.setattr(bench.model, 'shuffle_prob', 1.0)  # else a batch may have no such part
    out = tmp_path / 'speed.json'
    options = ['--quick', '--rounds=1', '--devices=cpu', f'--work-dir={tmp_path}']
    assert speed.main(['hssda', f'--out={out}', *options]) == 0
    found = json.loads(out.read_text())
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f'speed hssda: {found["ratio"]:.2f} x'
    rows = {row['label']: row['metrics'] for row in found['rows']}
    assert {f'cpu: {name}' for name in TIMED} <= set(rows)
    step, student, teacher = (rows[f'cpu: {name}']['ms'] for name in TIMED[:3])
    assert found['ratio'] == pytest.approx(step / (student + teacher))
    parts = rows['cpu: parts of the step, ms']
    assert {'teacher: network', 'student: backward', 'pasting', 'shuffle'} <= set(parts)
    assert rows['KITTI evaluation, one core']['frames'] == 500
    mining = rows[f'cpu: mining, {len(bench.dataset)} frames']
    passes, buffer = (rows[f'cpu: {label}']['ms'] for label in bench.sources()[1])
    assert mining['round in steps'] / mining['buffered round in steps'] == pytest.approx(
        passes / buffer
    )
    assert {'name', 'command', 'commit', 'versions', 'hardware', 'summary'} <= set(found)
