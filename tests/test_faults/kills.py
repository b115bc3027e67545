"""Kills trainings at chosen instants, resumes them, and prints what differs from a quiet one.

Run as a program, so that its children are forks of a process that has imported everything
that a first training was found to import, and has started no thread.
"""

import gc
import importlib
import json
import multiprocessing
import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from mmengine.hooks import Hook
from smoke_runs import LAST, METHODS, config

from mmdistill.core.compat import safe_load
from mmdistill.testing.compare import state_differences
from mmdistill.testing.resume_check import run, training_state


class Stopwatch(Hook):
    """Writes down how long a training takes from where a fault's seconds begin to count."""

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        """Begins."""
        self.begin = time.monotonic()

    def after_train(self, runner) -> None:
        """Ends."""
        path = Path(runner.work_dir, 'seconds.json')
        path.write_text(json.dumps(time.monotonic() - self.begin))


def body(name: str, data: Path, work_dir: Path, resume: bool, fault: str) -> None:
    """One training in a child."""
    import mmdistill.testing.faults  # noqa: F401

    os.environ['MMDISTILL_FAULT'] = fault
    torch.set_num_threads(1)
    cfg = config(name, data, work_dir, resume)
    cfg.custom_hooks += [dict(type='mmdistill.FaultHook'), dict(type=Stopwatch)]
    cfg.custom_imports['imports'].append('mmdistill.testing.faults')
    code = run(cfg.to_dict())
    (work_dir / 'modules.json').write_text(json.dumps(list(sys.modules)))
    os._exit(code)


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
        seconds: that a quiet training takes.
        size: of the smallest checkpoint in bytes.
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
    name, count = sys.argv[1], int(sys.argv[4])
    data, folder = Path(sys.argv[2]), Path(sys.argv[3])
    assert train(multiprocessing.get_context('spawn'), name, data, folder / 'first') == 0
    for module in json.loads((folder / 'first/modules.json').read_text()):
        with suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()
    context = multiprocessing.get_context('fork')
    times, sizes = [], []
    for quiet in (folder / 'second', folder / 'quiet'):
        assert train(context, name, data, quiet) == 0
        times.append(json.loads((quiet / 'seconds.json').read_text()))
        sizes += [path.stat().st_size for path in quiet.glob('iter_*.pth')]
    last = folder / 'quiet' / LAST
    wanted, saved = training_state(last), safe_load(last)
    wanted['reviewer'] = saved.get('reviewer')
    report = {}
    for number, fault in enumerate(faults(count, 3, min(times), min(sizes))):
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
