"""Speed of DATM: engines by steps and batch, in time and peak memory; the store; augmentation."""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmark.steps import over, quiet_devices, timed
from benchmark.timing import Operation, interleaved

COMPILED = 'adjoint, compiled'
ENGINES = ('unroll', 'adjoint', COMPILED, 'tesla')
"""Rows; ``unroll`` cannot be compiled, its graph is that of all steps."""
STEPS, BATCHES = (4, 12, 40), (4, 32)
BATCH = 8
"""Images per step where steps differ."""
FEW = 4
"""Steps where batches differ."""
ROUNDS = 3
"""Repetitions of a segment at most; it takes many seconds on a CPU."""
IMAGES = 1000
"""Images that are augmented together."""


class Workbench:
    """The published network for CIFAR-10 with synthetic images of noise.

    Args:
        device: to measure on.
        batch: images per step.
        width: of the network.
    """

    def __init__(self, device: str, batch: int, width: int = 128) -> None:
        import mmkd.components  # noqa: F401
        from mmkd.experts.flat_network import FlatNetwork
        from mmkd.registry import MODELS, TASK_UTILS

        torch.manual_seed(0)
        self.device, self.batch = torch.device(device), batch
        net = dict(type='mmkd.CondensationNet', name='ConvNet', num_classes=10, width=width)
        self.network = FlatNetwork(MODELS.build(net).to(device))
        self.augment = TASK_UTILS.build(dict(type='mmkd.DSA'))
        self.images = torch.randn(batch, 3, 32, 32, device=device)
        self.labels = torch.randn(batch, 10, device=device)
        self.lr = torch.tensor(0.01, device=device)
        self.start = self.network.theta()
        self.target = self.start + 0.01 * torch.randn_like(self.start)
        self._matchers: dict[str, Any] = {}

    def matcher(self, row: str) -> Any:
        """The matcher of a row, made once: a compiled one serves any number of steps."""
        from mmkd.matching.trajectory_matching import Matcher

        if row not in self._matchers:
            engine, compiled = row.split(',')[0], row == COMPILED
            self._matchers[row] = Matcher(self.network, engine, self.augment, compiled=compiled)
        return self._matchers[row]

    def match(self, row: str, steps: int) -> Callable[[], Any]:
        """Loss and gradients of a segment."""
        from mmkd.matching.trajectory_matching import draw_plan

        matcher = self.matcher(row)
        draw = torch.Generator().manual_seed(0)
        plan = draw_plan(self.batch, self.batch, steps, draw, self.augment, (32, 32), self.device)
        given = (self.images, self.labels, self.lr, self.start, self.target)
        return lambda: matcher(*given, plan)


def resident(name: str) -> int:
    """KiB in memory, now (``VmRSS``) or at most so far (``VmHWM``); Linux."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(each.split()[1]) for each in lines if each.startswith(f'{name}:'))


def peak_of(engine: str, steps: int, batch: int, width: int, threads: int, answer: Any) -> None:
    """Sends MiB of memory that a segment needs above what is there before; in its own process."""
    torch.set_num_threads(threads)
    bench = Workbench('cpu', batch, width)
    run = bench.match(engine, steps)
    # what is loaded at first use, and compiled: every kind of step is in a segment of two
    (bench if engine == COMPILED else Workbench('cpu', 2, width)).match(engine, 2)()
    # the most so far begins anew; that of getrusage has the parent's in it
    Path('/proc/self/clear_refs').write_text('5')
    before = resident('VmRSS')
    run()
    answer.put((resident('VmHWM') - before) / 1024)


def peak(engine: str, steps: int, batch: int, width: int, device: str) -> float:
    """Peak memory of a segment in MiB."""
    if device == 'cuda':
        run = Workbench(device, batch, width).match(engine, steps)
        run()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    context = multiprocessing.get_context('spawn')
    answer = context.SimpleQueue()
    threads = torch.get_num_threads()
    process = context.Process(target=peak_of, args=(engine, steps, batch, width, threads, answer))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f'speed: {engine} with {steps} steps ended with {process.exitcode}')
    return answer.get()


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``."""
    width = 16 if args.quick else 128
    for device in quiet_devices(args):
        engines(args, report, device, width)
        if not args.only_steps:
            augmentation(args, report, torch.device(device))
    if not args.only_steps:
        store(args, report)
    return report


def engines(args: argparse.Namespace, report: Any, device: str, width: int) -> None:
    """Time and memory of a segment against steps, and against the batch."""
    settings = [(steps, BATCH) for steps in STEPS] + [(FEW, batch) for batch in BATCHES]
    peaks: dict[tuple[str, int, int], float] = {}
    benches = {batch: Workbench(device, batch, width) for _, batch in settings}
    began = time.perf_counter()
    benches[BATCH].match(COMPILED, 2)()
    taken = time.perf_counter() - began
    report.add(f'{device}, B={BATCH}: compiling', dict(ms=1e3 * taken), taken)
    for steps, batch in settings:
        bench = benches[batch]
        rows = [each for each in ENGINES if each != COMPILED or batch == BATCH]
        name = f'{device}, N={steps}, B={batch}'
        runs = {engine: Operation(bench.match(engine, steps)) for engine in rows}
        found = timed(runs, min(args.rounds, ROUNDS), bench.device, 1, report, name)
        for engine in rows:
            mib = peak(engine, steps, batch, width, device)
            peaks[engine, steps, batch] = mib
            ratios = over(found, engine, 'unroll')
            report.add(f'{name}: {engine}, over unroll', {**ratios, 'peak_mib': mib})
        if steps == STEPS[-1]:
            report.ratio = over(found, COMPILED, 'unroll')['x']
    for engine in ENGINES:
        growth = peaks[engine, STEPS[-1], BATCH] / peaks[engine, STEPS[0], BATCH]
        label = f'{device}: {engine}, peak of N={STEPS[-1]} over N={STEPS[0]}'
        report.add(label, dict(x=growth))


def augmentation(args: argparse.Namespace, report: Any, device: torch.device) -> None:
    """A batch at once against its samples one by one."""
    from mmkd.registry import TASK_UTILS

    images = torch.randn(100 if args.quick else IMAGES, 3, 32, 32, device=device)
    for family in ('color', 'crop', 'cutout', 'flip', 'scale', 'rotate'):
        augment = TASK_UTILS.build(dict(type='mmkd.DSA', families=(family,)))
        record = augment.draw(len(images), (32, 32), torch.Generator().manual_seed(0)).to(device)

        def one_by_one(augment: Any = augment, record: Any = record) -> None:
            for n in range(len(images)):
                augment(images[n : n + 1], record.rows(slice(n, n + 1)))

        runs: Mapping[str, Operation] = {
            'batched': Operation(lambda a=augment, r=record: a(images, r)),
            'one by one': Operation(one_by_one),
        }
        found = interleaved(runs, args.rounds, device)
        for label, times in found.items():
            report.add(f'{device.type}: {family}, {label}', times.metrics(), sum(times.wall))
        report.add(
            f'{device.type}: {family}, over one by one', over(found, 'batched', 'one by one')
        )


def store(args: argparse.Namespace, report: Any) -> None:
    """A segment from the store against unpickling an official file of ten experts for it."""
    from mmkd.experts.replay_buffer import export_buffers
    from mmkd.experts.store import TrajectoryStore

    flat = Workbench('cpu', 1, 16 if args.quick else 128).network
    epochs = 5 if args.quick else 20
    with tempfile.TemporaryDirectory() as folder:
        made = TrajectoryStore.create_or_open(
            Path(folder, 'store'), {}, 10, epochs, flat.size, 0, flat.names, flat.shapes
        )
        for expert in range(10):
            for epoch in range(epochs + 1):
                made.write(expert, epoch, flat.theta() + epoch)
            made.finish(expert)
        (file,) = export_buffers(made, Path(folder, 'files'))
        runs = {
            'segment from the store': Operation(lambda: made.segment(3, epochs // 2, 2)),
            'segment from a pickled file': Operation(lambda: torch.load(file, weights_only=True)),
        }
        found = interleaved(runs, args.rounds, torch.device('cpu'))
    for label, times in found.items():
        report.add(label, times.metrics(), sum(times.wall))
    report.add('store over pickled file', over(found, *runs))
