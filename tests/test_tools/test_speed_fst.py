"""The speed benchmark of FST measures FST, against a published step that is the same method."""

import argparse
import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """A few drawn streets."""
    out = tmp_path_factory.mktemp('data') / 'streets'
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_synthetic.py'
    command = [sys.executable, tool, 'streets', f'--out={out}', '--train=12', '--val=2']
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture
def bench(tools, drawn):
    """The workbench on the CPU with some variants."""
    from benchmark.methods.fst_networks_speed import SMALL
    from benchmark.methods.fst_workbench_speed import PEER, STEP, Workbench
    from benchmark.steps import quiet_devices

    quiet_devices(argparse.Namespace(devices=['cpu']))
    variants = (PEER, STEP, 'published step, K=1', 'FST-W step, N=2')
    return Workbench(drawn, 'cpu', SMALL, 1, variants)


def values(network):
    """Copies of a network's parameters."""
    return [each.detach().clone() for each in network.parameters()]


def without_dropout(model):
    """A model whose passes draw nothing."""
    for part in model.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.p = 0.0
    return model


def test_the_workbench_repeats_one_step(bench):
    from benchmark.methods.fst_workbench_speed import PEER, STEP

    each = bench.contestants[STEP]
    before = values(each.model.student)
    each.step(each.batches[0])  # the first step looks not ahead
    first, second = each.step(each.batches[0]), each.step(each.batches[0])
    assert first.keys() == second.keys() and first['loss'] > 0
    assert {'sup_decode.loss_ce', 'sup_loss_feature_distance', 'unsup_decode.loss_ce'} <= set(first)
    assert all(map(torch.equal, before, values(each.model.student)))
    assert int(each.model.passes_done) == 1 + 2 * 2
    assert (each.model.ahead, bench.contestants[PEER].model.ahead) == (1, 0)
    assert bench.images(each.batches[0]).labeled.shape == (4, 3, 128, 128)
    assert {len(part) for part in each.batches[0]['inputs'].values()} == {4}
    wide = bench.contestants['FST-W step, N=2']
    assert {len(part) for part in wide.batches[0]['inputs'].values()} == {12}


def test_the_unavoidable_parts_have_the_gradient_of_the_loss(bench):
    from benchmark.methods.fst_workbench_speed import STEP

    model = without_dropout(bench.model)
    data = model.data_preprocessor(bench.contestants[STEP].batches[0], True)
    batch = model.read_batch(data['inputs'], data['data_samples'])
    targets, reference = model.pseudo_targets(batch), model.reference_features(batch)
    assert targets[1].max() > 0, 'mixed images must count'
    labelled = bench.labelled(batch, reference)
    mixed = bench.mixed(batch, model.student_view(batch, 0), targets)
    whole = sum(model.loss(data['inputs'], data['data_samples']).values())
    expected = torch.autograd.grad(whole, list(model.student.parameters()))
    for one, other, both in zip(labelled, mixed, expected, strict=True):
        torch.testing.assert_close(one + other, both)


@pytest.mark.parametrize('depth', [1, 2])
def test_the_published_step_is_the_same_method(bench, depth):
    """Three steps with a momentum that remembers the virtual ones, and running statistics."""
    from benchmark.methods.fst_published_speed import PublishedSteps
    from mmengine.optim import OptimWrapper

    each = bench.contestants['published step, K=1']
    models = [without_dropout(each.model), copy.deepcopy(each.model)]
    wrappers = []
    for model in models:
        model.ahead, model.teacher_buffers = depth, 'skip'
        sgd = torch.optim.SGD(model.student.parameters(), lr=0.01, momentum=0.9)
        wrappers.append(OptimWrapper(sgd))
    start = values(models[0].student)
    published = PublishedSteps(models[1], wrappers[1].optimizer, depth)
    for _ in range(3):
        models[0].train_step(each.batches[0], wrappers[0])
        published.step(each.batches[0])
    assert published.passes == int(models[0].passes_done) == 1 + 2 * (depth + 1)
    for name in ('student', 'teacher'):
        ours, theirs = (getattr(model, name).state_dict() for model in models)
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-5, msg=key)
    moved = [(a - b).abs().max() for a, b in zip(start, values(models[0].student), strict=True)]
    assert max(moved) > 1e-3


def test_bookkeeping_makes_the_same_teacher_and_leaves_the_student(tools):
    from benchmark.methods.fst_bookkeeping_speed import Bookkeeping

    shapes = [(3, 4), (5,), (2, 2, 3), (7,), (1,), (6,)]
    one, other = Bookkeeping(shapes, CPU), Bookkeeping(shapes, CPU)
    student, teacher = values(one.student), values(one.teacher)
    state = copy.deepcopy(one.optimizer.state_dict())
    one.ours()
    assert all(map(torch.equal, student, values(one.student)))
    assert all(map(torch.equal, student, values(other.student))), 'both start alike'
    for index, kept in state['state'].items():
        assert torch.equal(kept['exp_avg'], one.optimizer.state_dict()['state'][index]['exp_avg'])
    other.published()
    assert all(map(torch.equal, student, values(other.student)))
    for old, new, same in zip(teacher, one.teacher, other.teacher, strict=True):
        assert not torch.equal(old, new)
        torch.testing.assert_close(new, same)
    before = values(one.teacher)
    one.save_and_restore()
    assert all(map(torch.equal, before, values(one.teacher)))


def test_the_large_network_is_the_one_of_the_paper(bench):
    """DeepLab v2 with ResNet-101: 43.2 million parameters in 322 tensors."""
    from benchmark.methods.fst_networks_speed import LARGE
    from benchmark.methods.fst_speed import shapes_of

    shapes = shapes_of(LARGE, bench)
    assert len(shapes) == 322
    assert sum(torch.Size(each).numel() for each in shapes) == pytest.approx(43.22e6, rel=1e-3)


def test_images_take_the_size_of_the_network(bench):
    from benchmark.methods.fst_networks_speed import Network
    from benchmark.methods.fst_workbench_speed import STEP

    batch = copy.deepcopy(bench.contestants[STEP].batches[0])
    before = [each.gt_sem_seg.data.clone() for each in batch['data_samples']['sup']]
    larger = Network(size=256).sized(batch)
    for part in larger['inputs'].values():
        assert {(each.dtype, tuple(each.shape)) for each in part} == {(torch.uint8, (3, 256, 256))}
    for old, sample in zip(before, larger['data_samples']['sup'], strict=True):
        assert torch.equal(sample.gt_sem_seg.data[:, ::2, ::2], old)
    assert Network(size=256).sized(larger)['inputs'] == larger['inputs']


def test_the_file_and_the_last_line(bench, drawn, tmp_path, monkeypatch, capsys):
    from benchmark import speed
    from benchmark.methods import fst_speed

    monkeypatch.setattr(fst_speed, 'prepared', lambda job: drawn)
    monkeypatch.setattr(fst_speed, 'Workbench', lambda *args: bench)
    monkeypatch.setattr(fst_speed, 'LARGE', fst_speed.NARROW)
    out, threads = tmp_path / 'speed.json', torch.get_num_threads()
    options = ['--quick', '--rounds=1', '--devices=cpu', f'--work-dir={tmp_path}']
    assert speed.main(['fst', f'--out={out}', *options]) == 0
    assert torch.get_num_threads() == threads
    found = json.loads(out.read_text())
    assert capsys.readouterr().out.splitlines()[-1] == f'speed fst: {found["ratio"]:.2f} x'
    rows = {row['label']: row['metrics'] for row in found['rows']}
    least = sum(rows[f'cpu: {name}']['ms'] for name in fst_speed.UNAVOIDABLE)
    step, peer = rows['cpu: FST-D step, K=1'], rows['cpu: mean-teacher step']
    assert found['ratio'] == pytest.approx(step['ms'] / least)
    ratios = rows['cpu: K=1 over a mean teacher']
    assert ratios['x'] == pytest.approx(step['ms'] / peer['ms'])
    assert ratios['x_cpu_time'] == pytest.approx(step['cpu_ms'] / peer['cpu_ms'])
    assert 'cpu: K=1 over published' in rows and 'cpu: K=3 over published' not in rows
    parts = rows['cpu: parts of the step, ms']
    assert {'student: backward', 'virtual step', 'teacher: network', 'EMA'} <= set(parts)
    extra = rows['cpu: peak memory beyond a mean teacher, copies of the parameters']
    assert extra['FST-D step, K=1'] <= 1.1
    assert extra['published step, K=1'] > extra['FST-D step, K=1']
    assert sum(label.endswith('virtual step over published') for label in rows) == 2
