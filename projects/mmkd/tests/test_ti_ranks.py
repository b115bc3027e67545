"""Teacher Intervention on two ranks: one student, the same mode everywhere, own samples."""

from pathlib import Path

import torch

from mmdistill.testing import cpu_ranks, run_gloo
from mmdistill.testing.resume_check import run

ROOT = Path(__file__).resolve().parents[3]
SMOKE = ROOT / 'projects' / 'mmkd' / 'configs' / 'teacher_intervention' / 'ti_smoke.py'


def trained(rank: int, data: str, folder: str) -> dict:
    """Trains on this rank: modes, samples, and the state at the end."""
    from mmengine.hooks import Hook

    from mmdistill.core import launch
    from mmdistill.core.hooks.teacher_update import bare_model

    modes, seen, states = [], [], []

    class Notes(Hook):
        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            modes.append(bare_model(runner).mode)
            seen.append(data_batch['inputs']['input_ids'].tolist())

        def after_train(self, runner):
            states.append({k: v.numpy() for k, v in bare_model(runner).state_dict().items()})

    cfg = launch.read_config(SMOKE)
    cfg.work_dir = folder
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = data
    cfg.merge_from_dict(cpu_ranks()['cfg'])
    cfg.model_wrapper_cfg.find_unused_parameters = True
    cfg.launcher = 'pytorch'
    assert run(cfg.to_dict(), Notes()) == 0
    return dict(modes=modes, seen=seen, state=states[0])


def test_two_ranks(tmp_path):
    words = ['the', 'film', 'is', 'very', 'good', 'bad', 'dull', 'a', 'story']
    numbers = torch.Generator().manual_seed(0)
    for name, count in (('train', 32), ('dev', 4)):
        picks = torch.randint(len(words), (count, 6), generator=numbers).tolist()
        lines = [f'{" ".join(words[i] for i in row)}\t{row[0] % 2}\n' for row in picks]
        (tmp_path / f'{name}.tsv').write_text(''.join(lines))
    first, second = run_gloo(trained, 2, str(tmp_path), str(tmp_path / 'work'), timeout=600)
    assert first['modes'] == second['modes'] and first['modes'][4:] == [None] * 4
    assert set(first['modes'][:4]) <= {'output', 'context', 'map'}
    assert len(first['seen']) == 8 and first['seen'] != second['seen']
    for name, value in first['state'].items():
        assert (value == second['state'][name]).all(), name
