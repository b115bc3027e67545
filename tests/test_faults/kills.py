"""Kills trainings at chosen instants, resumes them, and prints what differs from a quiet one.

Run as a program, so that its children come from a fork server that has imported everything.
"""

import json
import multiprocessing
import os
import random
import sys
from pathlib import Path

import torch
from smoke_runs import LAST, METHODS, config

from mmdistill.core.compat import safe_load
from mmdistill.testing.compare import state_differences
from mmdistill.testing.resume_check import run, training_state


def body(name: str, data: Path, work_dir: Path, resume: bool, fault: str) -> None:
    """One training in a child."""
    import mmdistill.testing.faults  # noqa: F401

    os.environ['MMDISTILL_FAULT'] = fault
    torch.set_num_threads(1)
    cfg = config(name, data, work_dir, resume)
    cfg.custom_hooks.append(dict(type='mmdistill.FaultHook'))
    cfg.custom_imports['imports'].append('mmdistill.testing.faults')
    os._exit(run(cfg.to_dict()))


def train(context, *args, resume: bool = False, fault: str = '') -> int:
    """Trains in a child and returns its exit code."""
    child = context.Process(target=body, args=(*args, resume, fault))
    child.start()
    child.join()
    return child.exitcode


def faults(count: int, seed: int, seconds: float, size: int) -> list[str]:
    """Half random moments of the training, half random places inside a save.

    Args:
        count: how many.
        seed: of the draws.
        seconds: that a quiet training takes, from its first hook on.
        size: of a checkpoint in bytes.
    """
    draw = random.Random(seed)
    stages = ('write', 'sync', 'replace', 'replaced', 'pointer', 'prune')
    moments = [draw.uniform(0.03, 0.9) * seconds for _ in range(count - count // 2)]
    chosen = [f'kill:seconds={moment:.2f}' for moment in moments]
    for _ in range(count // 2):
        stage, save = draw.choice(stages), draw.randint(1, 4)
        where = f'@bytes={draw.randint(1, size)}' if stage == 'write' else f'@stage={stage}'
        chosen.append(f'kill:save={save}{where}')
    return chosen


def main() -> None:
    """Prints one JSON object: by fault, exit codes and differences."""
    name, count, seconds = sys.argv[1], int(sys.argv[4]), float(sys.argv[5])
    data, folder = Path(sys.argv[2]), Path(sys.argv[3])
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torch', 'mmengine.runner', METHODS[name].host])
    assert train(context, name, data, folder / 'quiet') == 0
    last = folder / 'quiet' / LAST
    wanted, saved = training_state(last), safe_load(last)
    wanted['reviewer'] = saved.get('reviewer')
    report = {}
    for number, fault in enumerate(faults(count, 3, seconds, last.stat().st_size)):
        work_dir = folder / str(number)
        killed = train(context, name, data, work_dir, fault=fault)
        resumed = train(context, name, data, work_dir, resume=True)
        found = training_state(work_dir / LAST)
        found['reviewer'] = safe_load(work_dir / LAST).get('reviewer')
        report[fault] = dict(
            killed=killed, resumed=resumed, differences=state_differences(wanted, found)[:5]
        )
    print(json.dumps(dict(faults=report, remembered=METHODS[name].remembered(saved))))


if __name__ == '__main__':
    main()
