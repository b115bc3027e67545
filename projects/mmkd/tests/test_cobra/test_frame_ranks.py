"""A training of frames on two ranks is that of one, its evaluation included."""

from pathlib import Path

import numpy as np
import pytest
from frame_training import config, write_source

from mmdistill.testing import cpu_ranks, run_gloo
from mmdistill.testing.resume_check import run


def trained(rank, source, folder, batch, accumulate, ranks=True):
    """Trains without dropout on this rank; weights and scores."""
    from mmengine.hooks import Hook

    from mmdistill.core.hooks.teacher_update import bare_model

    states, scores = [], []

    class Notes(Hook):
        priority = 'LOWEST'

        def after_val_epoch(self, runner, metrics=None):
            scores.append(metrics)

        def after_train(self, runner):
            states.append({k: v.numpy() for k, v in bare_model(runner).state_dict().items()})

    cfg = config(Path(source), folder, batch, accumulate, dropout=0.0, type='SGD', lr=0.3)
    if ranks:
        cfg.update(launcher='pytorch', **cpu_ranks()['cfg'])
    assert run(cfg, Notes()) == 0
    return dict(state=states[0], scores=scores)


def test_two_ranks_train_the_student_of_one(tmp_path):
    source = write_source(tmp_path)
    first, second = run_gloo(trained, 2, str(source), str(tmp_path / 'two'), 2, 2, timeout=120)
    alone = trained(0, str(source), str(tmp_path / 'one'), 4, 1, ranks=False)
    start = trained(0, str(source), str(tmp_path / 'none'), 20, 1, ranks=False)
    for name, value in first['state'].items():
        assert (value == second['state'][name]).all(), name
        np.testing.assert_allclose(value, alone['state'][name], rtol=1e-4, atol=1e-5)
    assert any(
        abs(value - start['state'][name]).max() > 1e-2 for name, value in alone['state'].items()
    )
    assert first['scores'] == second['scores'] and len(first['scores']) == 3
    for found, wanted in zip(first['scores'], alone['scores'], strict=True):
        assert found['written/count'] == found['written/ids'] == 7
        assert found['language/nll'] == pytest.approx(wanted['language/nll'], rel=1e-4)
        assert found['written/sum'] == wanted['written/sum']
