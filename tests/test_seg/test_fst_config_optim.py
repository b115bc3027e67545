"""Learning rates and parameter groups of FST's configs are those of the published code."""

import pytest
import torch
from config_cases import CITY, NAMES, NETWORKS, UDA, VOC, built, config
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import PARAM_SCHEDULERS

from mmdistill.core.optim_constructor import StudentOptimWrapperConstructor

pytestmark = pytest.mark.usefixtures('mmseg_scope')


@pytest.mark.parametrize('name', NAMES)
def test_optimizer(name):
    wrapper = config(name).optim_wrapper
    assert wrapper.type == 'OptimWrapper' and 'clip_grad' not in wrapper
    keys, optimizer = wrapper.paramwise_cfg.custom_keys, dict(wrapper.optimizer)
    assert keys.head == dict(lr_mult=10.0)
    if name in UDA:
        betas = (0.9, 0.999)
        assert optimizer == dict(type='AdamW', lr=6e-5, betas=betas, weight_decay=0.01)
        assert keys.norm == keys.pos_block == dict(decay_mult=0.0) and len(keys) == 3
    else:
        lr, decay = (0.01, 5e-4) if name in CITY else (0.001, 1e-4)
        assert optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=decay)
        assert len(keys) == 1


def rates(name, base, steps):
    """Learning rate of every iteration, by really stepping the schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=base)
    given = config(name).param_scheduler
    assert not any(each.by_epoch for each in given)
    schedulers = [PARAM_SCHEDULERS.build(dict(e, optimizer=optimizer)) for e in given]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.filterwarnings('ignore')
def test_learning_rate_of_adaptation():
    """Values that a training of DAFormer logged, and the formula everywhere."""
    found = rates(UDA[0], 6e-5, 40000)
    logged = {
        0: 6e-11, 49: 1.957657e-6, 99: 3.950255e-6, 149: 5.937853e-6, 199: 7.920451e-6,
        249: 9.898049e-6, 1500: 5.775e-5, 20000: 3e-5, 39999: 1.5e-9,
    }  # fmt: skip
    for iteration, rate in logged.items():
        assert found[iteration] == pytest.approx(rate, rel=1e-6), iteration
    for t in range(0, 40000, 37):
        warm = 1 - (1 - min(t / 1500, 1)) * (1 - 1e-6)
        assert found[t] == pytest.approx(6e-5 * (1 - t / 40000) * warm, rel=1e-6)
    assert all(config(n).param_scheduler == config(UDA[0]).param_scheduler for n in UDA)


@pytest.mark.parametrize('name', [VOC[0], CITY[0]])
@pytest.mark.filterwarnings('ignore')
def test_learning_rate_of_semi_supervised_training(name):
    cfg = config(name)
    base, total = cfg.optim_wrapper.optimizer.lr, cfg.train_cfg.max_iters
    for t, rate in enumerate(rates(name, base, total)):
        assert rate == pytest.approx(base * (1 - t / total) ** 0.9, rel=1e-4, abs=1e-12), t


@pytest.mark.parametrize('name', NETWORKS)
def test_few_groups_with_the_settings_of_mmengine(name):
    """Every tensor has the rate and decay that the host's constructor gives the plain network."""
    model, cfg = built(name), config(name).optim_wrapper.to_dict()
    del cfg['constructor']
    keys = cfg.pop('paramwise_cfg')
    ours = StudentOptimWrapperConstructor(cfg, keys)(model).optimizer
    host = DefaultOptimWrapperConstructor(cfg, keys)(model.student).optimizer

    def settings(optimizer):
        return {
            id(param): {key: value for key, value in group.items() if key != 'params'}
            for group in optimizer.param_groups
            for param in group['params']
        }

    assert settings(ours) == settings(host)
    assert len(settings(host)) == len(list(model.student.parameters()))
    assert len(ours.param_groups) <= 6 < len(host.param_groups)
