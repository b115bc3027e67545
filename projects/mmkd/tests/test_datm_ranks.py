"""Matching on two ranks: shares of each batch, the result of one rank."""

from pathlib import Path

import pytest
import torch

from mmdistill.core.errors import UserError
from mmdistill.testing import cpu_ranks, run_gloo

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'datm'


def matched(rank: int, norm: str = 'instance') -> dict:
    """Loss and gradients of a segment with seven images per step, in float64."""
    import mmkd.components  # noqa: F401
    from mmkd.augment.dsa import DSA
    from mmkd.experts.flat_network import FlatNetwork
    from mmkd.matching.trajectory_matching import Matcher, draw_plan
    from mmkd.registry import MODELS

    torch.manual_seed(0)
    net = dict(
        type='mmkd.CondensationNet',
        name='ConvNet',
        num_classes=3,
        image_size=8,
        width=4,
        depth=1,
        norm=norm,
    )
    flat = FlatNetwork(MODELS.build(net).double())
    images, labels = torch.randn(9, 3, 8, 8).double(), torch.randn(9, 3).double()
    start = flat.theta()
    target = start + 0.05 * torch.randn_like(start)
    augment = DSA()
    plan = draw_plan(9, 7, 5, torch.Generator().manual_seed(0), augment, (8, 8))
    lr = torch.tensor(0.1).double()
    found = Matcher(flat, augment=augment)(images, labels, lr, start, target, plan)
    return {name: getattr(found, name).numpy() for name in ('loss', 'images', 'labels', 'lr')}


def test_two_ranks_give_the_gradients_of_one():
    alone, ranks = matched(0), run_gloo(matched, 2, timeout=300)
    for name, wanted in alone.items():
        assert (ranks[0][name] == ranks[1][name]).all(), name
        gap = abs(ranks[0][name] - wanted).max() / abs(wanted).max()
        assert gap < 1e-12, name


def refused(rank: int) -> str:
    """What a network with batch norm is told."""
    with pytest.raises(UserError) as found:
        matched(rank, 'batch')
    return str(found.value)


def test_batch_norm_is_refused_on_two_ranks():
    assert 'batch norm' in run_gloo(refused, 2, timeout=300)[0]


def trained(rank: int, folder: str, experts: str, ranks: int) -> dict:
    """Experts, then images, on this rank; what was seen, and the state at the end."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    import mmkd.components  # noqa: F401
    from mmdistill.core import launch
    from mmdistill.core.hooks.teacher_update import bare_model

    seen, states = [], []

    class Notes(Hook):
        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append((data_batch['position'], data_batch['expert'], data_batch['epoch']))

        def after_train(self, runner):
            states.append({k: v.numpy() for k, v in bare_model(runner).state_dict().items()})

    for name in ('experts_tiny_digits', 'datm_smoke'):
        cfg = launch.read_config(CONFIGS / f'{name}.py')
        cfg.work_dir = f'{folder}/{name}'
        cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
        if name.startswith('experts'):
            cfg.train_cfg.folder = experts
        else:
            cfg.model.experts = cfg.train_dataloader.dataset.experts = experts
        if ranks > 1:
            cfg.merge_from_dict(cpu_ranks()['cfg'])
            cfg.launcher = 'pytorch'
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Notes())
        runner.train()
    return dict(seen=seen, state=states[-1])


def test_a_training_on_two_ranks_is_that_of_one(tmp_path):
    first, second = run_gloo(
        trained, 2, str(tmp_path / 'two'), str(tmp_path / 'experts'), 2, timeout=600
    )
    # the experts are there: only images are learned anew
    alone = trained(0, str(tmp_path / 'one'), str(tmp_path / 'experts'), 1)
    assert first['seen'] == second['seen'] == alone['seen']
    assert len(alone['seen']) == 8
    for name, wanted in alone['state'].items():
        assert (first['state'][name] == second['state'][name]).all(), name
        assert abs(first['state'][name] - wanted).max() <= 1e-4 * abs(wanted).max(), name
