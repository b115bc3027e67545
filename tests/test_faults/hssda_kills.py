"""Kills an HSSDA training at chosen instants, resumes it, and prints what differs from a quiet one.

Run as a program, so that its children come from a fork server that has imported everything.
"""

import json
import multiprocessing
import os
import random
import sys
from pathlib import Path

import torch

from mmdistill.testing.compare import state_differences
from mmdistill.testing.resume_check import run, training_state

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/hssda/hssda_pointpillars_synthetic-kitti_smoke.py'
LAST = 'iter_8.pth'


def config(data: Path, work_dir: Path, resume: bool = False):
    """The smoke config on small data, with the hook that kills."""
    from mmdistill.core import launch

    cfg = launch.read_config(CONFIG)
    cfg.work_dir, cfg.resume = str(work_dir), resume
    cfg.train_dataloader.dataset.dataset.data_root = f'{data}/'
    cfg.train_dataloader.dataset.split_file = f'{data}/ImageSets_semi/train_4_1.txt'
    cfg.val_dataloader.dataset.data_root = f'{data}/'
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.val_evaluator.ann_file = f'{data}/kitti_infos_val.pkl'
    cfg.custom_hooks.append(dict(type='mmdistill.FaultHook'))
    cfg.custom_imports['imports'].append('mmdistill.testing.faults')
    return cfg


def body(data: Path, work_dir: Path, resume: bool, fault: str) -> None:
    """One training in a child."""
    import mmdistill.testing.faults  # noqa: F401

    os.environ['MMDISTILL_FAULT'] = fault
    torch.set_num_threads(1)
    os._exit(run(config(data, work_dir, resume).to_dict()))


def train(context, data: Path, work_dir: Path, resume: bool = False, fault: str = '') -> int:
    """Trains in a child and returns its exit code."""
    child = context.Process(target=body, args=(data, work_dir, resume, fault))
    child.start()
    child.join()
    return child.exitcode


def faults(count: int, seed: int) -> list[str]:
    """Half random moments of the training, half random places inside a save."""
    draw = random.Random(seed)
    stages = ('write', 'sync', 'replace', 'replaced', 'pointer', 'prune')
    chosen = [f'kill:seconds={draw.uniform(0.2, 6):.2f}' for _ in range(count - count // 2)]
    for _ in range(count // 2):
        stage, save = draw.choice(stages), draw.randint(1, 4)
        where = f'@bytes={draw.randint(1, 3_000_000)}' if stage == 'write' else f'@stage={stage}'
        chosen.append(f'kill:save={save}{where}')
    return chosen


def main() -> None:
    """Prints one JSON object: by fault, exit codes and differences."""
    data, folder, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torch', 'mmengine.runner', 'mmdistill.det3d'])
    assert train(context, data, folder / 'quiet') == 0
    wanted = training_state(folder / 'quiet' / LAST)
    report = {}
    for number, fault in enumerate(faults(count, seed=3)):
        work_dir = folder / str(number)
        killed = train(context, data, work_dir, fault=fault)
        resumed = train(context, data, work_dir, resume=True)
        found = training_state(work_dir / LAST)
        report[fault] = dict(
            killed=killed, resumed=resumed, differences=state_differences(wanted, found)[:5]
        )
    print(json.dumps(dict(faults=report, stored=len(wanted['state_dict']['store.frames']))))


if __name__ == '__main__':
    main()
