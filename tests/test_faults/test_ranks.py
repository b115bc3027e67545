"""Methods on two ranks: one teacher (and reviewer), other samples and other draws on each."""

from pathlib import Path

import pytest
import torch
from smoke_runs import LAST, config, data_of, load_host

from mmdistill.core.compat import safe_load
from mmdistill.testing import assert_same_state, cpu_ranks, run_gloo
from mmdistill.testing.resume_check import run, training_state


def three_runs(rank: int, name: str, data: Path, folder: Path) -> dict:
    """A whole training on this rank, half of one, and its rest, which a resume gives."""
    load_host(name)
    return dict(
        whole=trained(name, data, folder / 'whole', 8, False),
        half=trained(name, data, folder / 'cut', 4, False),
        rest=trained(name, data, folder / 'cut', 8, True),
    )


def samples_of(batch: dict) -> list[tuple[bool, str]]:
    """Of a batch: whether a sample is labelled, and which one it is."""
    samples = batch['data_samples']
    if isinstance(samples, dict):
        return [(name == 'sup', each.img_path) for name, part in samples.items() for each in part]
    return [(each.labeled, str(each.id)) for each in samples]


def trained(name: str, data: Path, work_dir: Path, iterations: int, resume: bool) -> dict:
    """Trains on this rank: which samples were seen, the draws, and the state at the end."""
    from mmengine.hooks import Hook

    from mmdistill.core.hooks.teacher_update import bare_model

    seen, numbers, states, sizes = [], [], [], []

    class Notes(Hook):
        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append((runner.iter, samples_of(data_batch)))
            numbers.append(float(torch.rand(1, generator=bare_model(runner).generator(0))))

        def after_train(self, runner):
            dataset = runner.train_dataloader.dataset
            parts = getattr(dataset, 'datasets', ())
            sizes.extend([len(each) for each in parts] or dataset.source_sizes)
            states.append({k: v.numpy() for k, v in bare_model(runner).state_dict().items()})

    cfg = config(name, data, work_dir, resume)
    cfg.train_cfg.max_iters = iterations
    cfg.merge_from_dict(cpu_ranks()['cfg'])
    cfg.launcher = 'pytorch'
    settings = cfg.to_dict()
    assert run(settings, Notes()) == 0
    return dict(seen=seen, numbers=numbers, sizes=sizes, state=states[0])


@pytest.mark.parametrize(
    ('method', 'followers', 'weight', 'shared'),
    [
        ('trs', ('teacher', 'reviewer'), 'head.final_layer.weight', (True, False)),
        # rare class sampling draws labelled images anew
        ('fst', ('teacher',), 'decode_head.conv_seg.weight', (False,)),
    ],
    ids=['trs', 'fst'],
)
def test_two_ranks(method, followers, weight, shared, tmp_path):
    data = data_of(method, tmp_path)
    ranks = run_gloo(three_runs, 2, method, data, tmp_path, timeout=900)
    first, second = (each['whole'] for each in ranks)
    rest, whole, cut = ranks[0]['rest'], tmp_path / 'whole', tmp_path / 'cut'
    for name in first['state']:
        if name.startswith((*followers, 'student', 'levels')):
            same = (first['state'][name] == second['state'][name]).all()
            # the student's statistics are those of a rank's own samples
            assert same or (name.startswith(('student', 'levels')) and 'running' in name), name
    for key in followers:
        assert (first['state'][f'{key}.{weight}'] != first['state'][f'student.{weight}']).any()
    assert len(first['seen']) == len(second['seen']) == 8
    assert set(first['numbers']).isdisjoint(second['numbers']) and len(set(first['numbers'])) == 8
    for (step, mine), (other_step, theirs) in zip(first['seen'], second['seen'], strict=True):
        assert step == other_step and [flag for flag, _ in mine] == [True, True, False, False]
        assert [flag for flag, _ in theirs] == [True, True, False, False]
    for kind, size in zip((True, False), first['sizes'], strict=True):
        if kind not in shared:
            continue
        steps = size // 4  # in which the ranks together take nobody twice
        taken = [i for part in (first, second) for _, some in part['seen'][:steps]
                 for flag, i in some if flag == kind]  # fmt: skip
        assert steps and len(set(taken)) == len(taken) == 4 * steps
    assert rest['seen'] == first['seen'][4:] and rest['numbers'] == first['numbers'][4:]
    wanted, found = (safe_load(folder / LAST) for folder in (whole, cut))
    if 'reviewer' in followers:
        assert_same_state(found['reviewer'], wanted['reviewer'])
    whole_state, cut_state = (training_state(folder / LAST) for folder in (whole, cut))
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same_state(cut_state[key], whole_state[key])
