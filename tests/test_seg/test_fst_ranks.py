"""Several ranks: one student, one teacher, the gradient of all images, and no step left out."""

import numpy as np
import pytest
import torch
from fst_cases import batch_of, fst, run, segmentor_config, state_of, wrapper_of
from fst_probes import joined
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmdistill.testing import cpu_ranks, run_gloo, toy_runner

ISOLATED = dict(optimizer_state='isolated', buffers='isolated')
FORMS = dict(
    deep=dict(depth=2),
    wide=dict(policy='official_w', depth=1, width=2, teacher_buffers='ema'),
    share=dict(depth=1, draws='share', reuse=True, **ISOLATED),
    clean=dict(policy='ephemeral', depth=2, virtual_keep=0.3, **ISOLATED),
)
SPLIT = dict(
    segmentor=segmentor_config('GN'), mix=None, pseudo=dict(rule='all'), depth=2,
    virtual_keep=0.3, policy='ephemeral', **ISOLATED,
)  # fmt: skip


class Streets(Dataset):
    """Samples with a labelled and an unlabelled image."""

    branches = ('sup', 'unsup_teacher')
    metainfo = dict(classes=('a', 'b', 'c', 'd'))

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict:
        data = batch_of(index, 1, 1)
        return {key: {name: values[0] for name, values in data[key].items()}
                for key in ('inputs', 'data_samples')}  # fmt: skip


def sgd(groups):
    """Gradients show in the parameters as large as they are."""
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


def arrays(state):
    """A state that can be sent."""
    return {name: value.numpy() for name, value in state.items()}


def half_batch(rank):
    """Every second image of batches of four."""
    return lambda seed: batch_of(2 * seed + rank)


def a_rank(rank, folder):
    """Trainings of this rank."""
    found = {}
    for name, options in FORMS.items():
        model = fst(**options)
        optim = wrapper_of(model)
        run(model, optim, 3, batch=lambda seed: batch_of(100 * rank + seed))
        found[name] = arrays(state_of(model, optim.optimizer))
    model = fst(**SPLIT)
    run(model, wrapper_of(model, sgd), 3, batch=half_batch(rank))
    found['split'] = arrays(model.state_dict())
    for loop in ('mmdistill.IterTrainLoop', 'mmdistill.EpochTrainLoop', 'IterBasedTrainLoop'):
        train_cfg = dict(type=loop)
        train_cfg |= dict(max_epochs=1) if 'Epoch' in loop else dict(max_iters=3)
        model = fst(depth=1)
        loader = dict(
            dataset=Streets(), batch_size=2, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='mmdistill.branch_collate'),
        )  # fmt: skip
        runner = toy_runner(
            f'{folder}/{rank}', model, train_dataloader=loader, train_cfg=train_cfg,
            default_scope='mmseg', **cpu_ranks(),
        )  # fmt: skip
        try:
            runner.train()
            found[loop] = arrays(model.state_dict())
        except UserError as error:
            found[loop] = str(error)
    return found


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What both ranks found."""
    return run_gloo(a_rank, 2, str(tmp_path_factory.mktemp('ranks')))


def assert_replicas(first, second):
    """All is the same but the student's running statistics, which are those of own images."""
    different = [name for name in first if not np.array_equal(first[name], second[name])]
    assert all(name.startswith('student.') and 'running_' in name for name in different), different
    assert different


@pytest.mark.parametrize('name', list(FORMS))
def test_replicas_stay_the_same_bit_for_bit(ranks, name):
    first, second = (each[name] for each in ranks)
    assert_replicas(first, second)
    weight = 'decode_head.conv_seg.weight'
    assert not np.array_equal(first[f'teacher.{weight}'], first[f'student.{weight}'])


def test_two_halves_are_the_whole(ranks):
    """Gradients of virtual and real steps are those of all images together."""
    model = fst(**SPLIT)
    both = [half_batch(rank) for rank in range(2)]
    run(model, wrapper_of(model, sgd), 3, batch=lambda seed: joined([each(seed) for each in both]))
    start = arrays(fst(**SPLIT).state_dict())
    for name, value in arrays(model.state_dict()).items():
        np.testing.assert_allclose(ranks[0]['split'][name], value, rtol=1e-4, atol=1e-5)
        if name == 'student.decode_head.conv_seg.weight':
            assert np.abs(value - start[name]).max() > 1e-2


def test_our_loops_look_ahead_inside_the_wrapper_of_mmengine(ranks):
    for loop in ('mmdistill.IterTrainLoop', 'mmdistill.EpochTrainLoop'):
        first, second = (each[loop] for each in ranks)
        assert_replicas(first, second)
        # the first step has one pass, the others two
        assert int(first['passes_done']) == 5 and int(first['steps_done']) == 3
        assert int(first['teacher_steps']) == 2 * 3


def test_mmengines_own_loop_is_refused(ranks):
    for each in ranks:
        assert 'train_cfg.type to mmdistill.IterTrainLoop' in each['IterBasedTrainLoop']


def test_on_one_rank_every_loop_looks_ahead(tmp_path):
    model = fst(depth=1)
    runner = toy_runner(
        tmp_path, model, 3, Streets(), batch_size=2, default_scope='mmseg',
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
    )  # fmt: skip
    runner.train()
    assert int(model.passes_done) == 5
