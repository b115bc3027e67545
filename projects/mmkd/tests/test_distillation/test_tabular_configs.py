"""The configs for tables train on small files of the same layout."""

from pathlib import Path

import numpy as np
import pytest

from mmdistill.core.launch import read_config
from mmdistill.testing.resume_check import run, training_state

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'tgeo_kd'


def clicks(folder, rows=600):
    """Numbers and words, of which some are missing; a word tells the label."""
    draw = np.random.default_rng(0)
    with (folder / 'dac_sample.txt').open('w') as file:
        for _ in range(rows):
            label = draw.integers(2)
            numbers = [str(each) if each < 90 else '' for each in draw.integers(0, 100, 13)]
            words = [f'{each:08x}' if each else '' for each in draw.integers(0, 50, 25)]
            file.write('\t'.join([str(label), *numbers, f'{label:08x}', *words]) + '\n')


def events(folder, rows=400):
    """128 measurements and a class."""
    draw = np.random.default_rng(0)
    names = [*(f'm{n}' for n in range(128)), 'marker']
    lines = [','.join(names)]
    for _ in range(rows):
        values = draw.normal(size=128).round(3)
        lines.append(','.join([*map(str, values), str(draw.choice(3, p=[0.6, 0.3, 0.1]))]))
    (folder / 'data.csv').write_text('\n'.join(lines) + '\n')


@pytest.mark.parametrize(('stem', 'write'), [('wide-deep_criteo', clicks), ('mlp_hil', events)])
def test_teacher_and_student_train(stem, write, tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setenv('MMDISTILL_DATA', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for kind in ('teacher', 'tgeo-kd'):
        cfg = read_config(CONFIGS / f'{kind}_{stem}.py')
        cfg.work_dir = str(tmp_path / kind)
        cfg.train_cfg.update(max_iters=4, val_interval=4)
        cfg.default_hooks.checkpoint.interval = 4
        if kind == 'tgeo-kd':
            cfg.train_cfg.update(meta_interval=2, meta_begin=0)
            cfg.model.teacher.checkpoint = str(tmp_path / 'teacher' / 'iter_4.pth')
        cfg.train_dataloader.batch_size = 32
        cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
        assert run(cfg.to_dict()) == 0
    state = training_state(tmp_path / 'tgeo-kd' / 'iter_4.pth')
    means = state['state_dict']['class_mean']
    assert abs(means.sum(1) - 1).max() < 1e-5
    assert (tmp_path / 'tgeo-kd' / 'ratios.png').is_file()
