"""One image per digit, learned from early epochs, teaches more than a random real one."""

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

import mmkd.components  # noqa: F401
from mmdistill.core.launch import read_config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'datm'


def test_one_image_per_digit(tmp_path):
    experts = read_config(CONFIGS / 'experts_convnet_digits.py')
    experts.work_dir = str(tmp_path / 'experts')
    experts.train_cfg.update(experts=3, epochs=5, held_out=None)
    Runner.from_cfg(experts).train()

    losses, scores = [], {}

    class Notes(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            losses.append(float(outputs['loss']))

        def after_val_epoch(self, runner, metrics=None):
            scores.update(metrics)

    cfg = read_config(CONFIGS / 'datm_convnet_digits-ipc1.py')
    cfg.work_dir = str(tmp_path / 'images')
    cfg.model.experts = cfg.train_dataloader.dataset.experts = str(
        tmp_path / 'experts' / 'trajectories'
    )
    cfg.train_cfg.val_interval = 150
    # one look at the test images, after the last iteration
    cfg.val_cfg.update(parity=True, rows=('soft', 'hard', 'random'))
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Notes())
    runner.train()
    assert scores['distilled/soft'] >= 78
    assert scores['distilled/hard'] >= 75
    assert scores['distilled/soft'] >= scores['distilled/random'] + 12
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert first > 0.5 and last <= 0.3
    assert runner.model.inner_lr > 1.5 * runner.model.first_inner_lr
