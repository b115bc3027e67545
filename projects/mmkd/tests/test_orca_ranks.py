"""A curriculum on two ranks: other packs, the same student as on one rank with larger batches."""

from pathlib import Path

import numpy as np

from mmdistill.testing import cpu_ranks, run_gloo
from mmdistill.testing.resume_check import run

SMOKE = Path(__file__).resolve().parents[1] / 'configs' / 'orca' / 'orca_smoke.py'


def trained(rank: int, folder: str, batch: int, ranks: bool = True) -> dict:
    """Trains on this rank: first tokens of the packs, losses, and the state at the end."""
    from mmengine.hooks import Hook

    from mmdistill.core import launch
    from mmdistill.core.hooks.teacher_update import bare_model

    packs, states, scores = [], [], []

    class Notes(Hook):
        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            rows = [row.tolist() for each in data_batch for row in each['input_ids']]
            packs.append([tuple(row[:60]) for row in rows if any(row)])

        def after_val_epoch(self, runner, metrics=None):
            scores.append(metrics)

        def after_train(self, runner):
            states.append({k: v.numpy() for k, v in bare_model(runner).state_dict().items()})

    cfg = launch.read_config(SMOKE)
    cfg.work_dir = folder
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.train_dataloader.update(batch_size=batch, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.batch_size = batch
    # plain steps: Adam turns rounding of tiny gradients into whole steps
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.5)
    cfg.custom_hooks = []
    if ranks:
        cfg.merge_from_dict(cpu_ranks()['cfg'])
        cfg.launcher = 'pytorch'
    assert run(cfg.to_dict(), Notes()) == 0
    return dict(packs=packs, state=states[0], scores=scores)


def test_two_ranks_train_the_student_of_one(tmp_path):
    first, second = run_gloo(trained, 2, str(tmp_path / 'two'), 1, timeout=600)
    alone = trained(0, str(tmp_path / 'one'), 2, ranks=False)
    assert len(first['packs']) == len(second['packs']) == len(alone['packs']) == 8
    for own, other, both in zip(first['packs'], second['packs'], alone['packs'], strict=True):
        assert not set(own) & set(other) and set(own) | set(other) == set(both)
    for name, value in first['state'].items():
        assert (value == second['state'][name]).all(), name
        np.testing.assert_allclose(value, alone['state'][name], rtol=1e-4, atol=1e-5)
    assert first['scores'] == second['scores'] and len(first['scores']) == 2
    assert first['scores'][0]['n/dev'] == alone['scores'][0]['n/dev'] == 6
