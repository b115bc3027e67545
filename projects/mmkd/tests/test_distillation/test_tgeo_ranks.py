"""On two ranks: the same pulls, networks and class means as one rank with both batches."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmdistill.testing import cpu_ranks, run_gloo
from mmdistill.testing.resume_check import run

SMOKE = Path(__file__).resolve().parents[2] / 'configs' / 'tgeo_kd' / 'tgeo_smoke.py'
SIZE, SOLVERS = 12, ('exact', 'unroll', 'finite_difference', 'last_layer')


def shard(values, rank, ranks):
    """Consecutive samples of a rank."""
    return values.chunk(ranks)[rank]


def pulls(rank, ranks):
    """Pulls ``(2, B)`` of a rank's samples by solver, in 64 bits, and the held-out loss."""
    from mmdistill.core.gradients import gradients, mean_over_ranks_
    from mmkd.distillation.hypergradient import Step, generators, head_inputs, influence
    from mmkd.models.tabular import TabularMLP

    torch.manual_seed(0)
    student = TabularMLP(6, (8,), 5, 'Tanh').double().train()
    params = list(student.parameters())
    optimizer = torch.optim.AdamW(params, lr=0.05, eps=1e-3)
    x, held_out = torch.randn(2, SIZE, 6).double()
    y, held_labels = torch.randint(5, (2, SIZE))
    teacher, ratio = torch.randn(SIZE, 5).double(), torch.rand(SIZE).double()
    parts = [shard(each, rank, ranks) for each in (x, y, teacher, ratio, held_out, held_labels)]
    x, y, teacher, ratio, held_out, held_labels = parts
    for _ in range(3):
        state = generators(torch.device('cpu'))
        with head_inputs(student) as seen:
            z = student(x).logits
        kd = F.kl_div(z.log_softmax(1), teacher.softmax(1), reduction='none').sum(1)
        ce = F.cross_entropy(z, y, reduction='none')
        grads = mean_over_ranks_(gradients((ratio * kd + (1 - ratio) * ce).mean(), params))
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        found = {}
        for solver in SOLVERS:
            batch = (dict(numeric=x), teacher, y, 1.0, state, seen[-1])
            step = Step(student, optimizer, params, grads, *batch)
            pair, loss = influence(step, dict(numeric=held_out), held_labels, solver)
            found[solver] = (torch.stack(pair).numpy(), loss.item())
        optimizer.step()
        optimizer.zero_grad()
    return found


def networks(rank, ranks):
    """All parameters of a model after some steps, by what its ratios are learned by."""
    from mmengine.optim import build_optim_wrapper

    import mmkd.components  # noqa: F401
    from mmkd.distillation.distiller import Distiller
    from mmkd.distillation.weighters.tgeo_kd import TGeoKD
    from mmkd.models.tabular import TabularMLP

    found = {}
    for kind in (*SOLVERS, 'direct', 'training'):
        torch.manual_seed(0)
        learned, solver = ('training', 'exact') if kind == 'training' else ('meta', kind)
        parts = TabularMLP(6, (8,), 5, 'Tanh'), TabularMLP(6, (9,), 5), TGeoKD(5, learned=learned)
        model = Distiller(*parts, solver=solver).train()
        model.progress = 0.0
        start = model.weighter.network[0].weight.detach().clone()
        student = dict(type='SGD', lr=0.2, momentum=0.9, nesterov=True)
        cfg = dict(student=dict(optimizer=student), fusion=dict(optimizer=dict(type='SGD', lr=5.0)))
        cfg['constructor'] = 'mmkd.StudentFusionConstructor'
        wrapper = build_optim_wrapper(model, cfg)
        for _ in range(3):
            x, y = torch.randn(2, SIZE, 6), torch.randint(5, (2, SIZE))
            train, meta = (
                dict(inputs=dict(numeric=shard(a, rank, ranks)), labels=shard(b, rank, ranks))
                for a, b in zip(x, y, strict=True)
            )
            model.train_step(dict(train=train, meta=meta), wrapper)
        assert not torch.equal(start, model.weighter.network[0].weight)
        found[kind] = {name: each.numpy() for name, each in model.state_dict().items()}
    return found


def means():
    """Class means of a set that two ranks cannot share evenly; class 2 has no sample."""
    from mmkd.distillation.hooks import class_means
    from mmkd.models.frozen_teacher import FrozenTeacher
    from mmkd.models.tabular import TabularMLP

    torch.manual_seed(0)
    teacher = FrozenTeacher(TabularMLP(6, (8,), 4))
    labels = torch.tensor([0, 1, 3])[torch.randint(3, (11,))].tolist()
    data = [
        dict(inputs=dict(numeric=row), labels=label)
        for row, label in zip(torch.randn(11, 6), labels, strict=True)
    ]
    found = class_means(teacher, data, torch.utils.data.default_collate, 4, 2)
    return [each.numpy() for each in found]


def everything(rank):
    """What a rank of two finds."""
    return dict(pulls=pulls(rank, 2), networks=networks(rank, 2), means=means())


@pytest.fixture(scope='module')
def found():
    """Of both ranks."""
    return run_gloo(everything, 2, timeout=300)


@pytest.mark.parametrize('solver', SOLVERS)
def test_pulls_are_those_of_one_rank_with_both_batches(solver, found):
    expected, loss = pulls(0, 1)[solver]
    parts = [torch.from_numpy(each['pulls'][solver][0]) for each in found]
    assert parts[0].shape == (2, SIZE // 2)
    # a rank counts by its own samples; whatever makes the weights takes the mean over ranks
    both = torch.cat(parts, 1) / 2
    error = (both - torch.from_numpy(expected)).norm() / torch.from_numpy(expected).norm()
    assert error < 1e-5
    assert sum(each['pulls'][solver][1] for each in found) / 2 == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize('kind', [*SOLVERS, 'direct', 'training'])
def test_networks_are_those_of_one_rank_with_both_batches(kind, found):
    first, second = (each['networks'][kind] for each in found)
    expected = networks(0, 1)[kind]
    near = 1e-2 if kind == 'finite_difference' else 1e-5
    assert first.keys() == expected.keys()
    for name, value in first.items():
        assert (value == second[name]).all(), name
        assert abs(value - expected[name]).max() < near, name


def test_class_means_are_those_of_one_rank(found):
    (first, counts), (second, others) = (each['means'] for each in found)
    expected, numbers = means()
    assert (first == second).all() and (counts == others).all()
    assert abs(first - expected).max() < 1e-7
    assert counts.tolist() == numbers.tolist() and numbers.sum() == 11 and numbers[2] == 0


def trained(rank, folder):
    """The short training on this rank: samples, and the state at the end."""
    from mmengine.hooks import Hook

    from mmdistill.core import launch
    from mmdistill.core.hooks.teacher_update import bare_model

    seen, held_out, states = [], [], []

    class Notes(Hook):
        """What was learned from."""

        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append(data_batch['train']['inputs']['numeric'].tolist())
            if data_batch['meta'] is not None:
                held_out.append(data_batch['meta']['inputs']['numeric'].tolist())

        def after_train(self, runner):
            states.append({k: v.numpy() for k, v in bare_model(runner).state_dict().items()})

    cfg = launch.read_config(SMOKE)
    cfg.work_dir, cfg.train_cfg.max_iters = folder, 6
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.merge_from_dict(cpu_ranks()['cfg'])
    cfg.launcher = 'pytorch'
    assert run(cfg.to_dict(), Notes()) == 0
    return dict(seen=seen, held_out=held_out, state=states[0])


def test_the_short_training_on_two_ranks(tmp_path):
    first, second = run_gloo(trained, 2, str(tmp_path / 'work'), timeout=600)
    for kind, count in (('seen', 6), ('held_out', 2)):
        assert len(first[kind]) == len(second[kind]) == count
        rows = [{tuple(row) for batch in each[kind] for row in batch} for each in (first, second)]
        assert not rows[0] & rows[1]
    for name, value in first['state'].items():
        assert (value == second['state'][name]).all(), name
    assert first['state']['class_count'].sum() > 500
    assert (tmp_path / 'work' / 'ratios.png').is_file()
