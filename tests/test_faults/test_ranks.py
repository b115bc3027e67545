"""TRS on two ranks: one teacher, one reviewer, other people and other draws on each."""

from pathlib import Path

import pytest
import torch
from smoke_runs import LAST, config, data_of, load_host

from mmdistill.core.compat import safe_load
from mmdistill.testing import assert_same_state, cpu_ranks, run_gloo
from mmdistill.testing.resume_check import run, training_state

FOLLOWERS = ('teacher', 'reviewer')


def three_runs(rank: int, name: str, data: Path, folder: Path) -> dict:
    """A whole training on this rank, half of one, and its rest, which a resume gives."""
    load_host(name)
    return dict(
        whole=trained(name, data, folder / 'whole', 8, False),
        half=trained(name, data, folder / 'cut', 4, False),
        rest=trained(name, data, folder / 'cut', 8, True),
    )


def trained(name: str, data: Path, work_dir: Path, iterations: int, resume: bool) -> dict:
    """Trains on this rank: which people were seen, the draws, and the state at the end."""
    from mmengine.hooks import Hook

    from mmdistill.core.hooks.teacher_update import bare_model

    seen, numbers, states, sizes = [], [], [], []

    class Notes(Hook):
        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            people = [(s.labeled, int(s.id)) for s in data_batch['data_samples']]
            seen.append((runner.iter, people))
            numbers.append(float(torch.rand(1, generator=bare_model(runner).generator(0))))

        def after_train(self, runner):
            sizes.extend(runner.train_dataloader.dataset.source_sizes)
            states.append({k: v.numpy() for k, v in bare_model(runner).state_dict().items()})

    cfg = config(name, data, work_dir, resume)
    cfg.train_cfg.max_iters = iterations
    cfg.merge_from_dict(cpu_ranks()['cfg'])
    cfg.launcher = 'pytorch'
    settings = cfg.to_dict()
    assert run(settings, Notes()) == 0
    return dict(seen=seen, numbers=numbers, sizes=sizes, state=states[0])


@pytest.mark.parametrize('method', ['trs'])
def test_two_ranks(method, tmp_path):
    data = data_of(method, tmp_path)
    ranks = run_gloo(three_runs, 2, method, data, tmp_path, timeout=900)
    first, second = (each['whole'] for each in ranks)
    rest, whole, cut = ranks[0]['rest'], tmp_path / 'whole', tmp_path / 'cut'
    for name in first['state']:
        if name.startswith((*FOLLOWERS, 'student', 'levels')):
            same = (first['state'][name] == second['state'][name]).all()
            # the student's statistics are those of a rank's own people
            assert same or (name.startswith(('student', 'levels')) and 'running' in name), name
    for key in ('teacher', 'reviewer'):
        weight = f'{key}.head.final_layer.weight'
        assert (first['state'][weight] != first['state'][f'student.{weight[len(key) + 1 :]}']).any()
    assert len(first['seen']) == len(second['seen']) == 8
    assert set(first['numbers']).isdisjoint(second['numbers']) and len(set(first['numbers'])) == 8
    for (step, mine), (other_step, theirs) in zip(first['seen'], second['seen'], strict=True):
        assert step == other_step and [flag for flag, _ in mine] == [True, True, False, False]
        assert [flag for flag, _ in theirs] == [True, True, False, False]
    for kind, size in zip((True, False), first['sizes'], strict=True):
        steps = size // 4  # in which the ranks together take nobody twice
        taken = [i for part in (first, second) for _, people in part['seen'][:steps]
                 for flag, i in people if flag == kind]  # fmt: skip
        assert steps and len(set(taken)) == len(taken) == 4 * steps
    assert rest['seen'] == first['seen'][4:] and rest['numbers'] == first['numbers'][4:]
    wanted, found = (safe_load(folder / LAST) for folder in (whole, cut))
    assert_same_state(found['reviewer'], wanted['reviewer'])
    whole_state, cut_state = (training_state(folder / LAST) for folder in (whole, cut))
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same_state(cut_state[key], whole_state[key])
