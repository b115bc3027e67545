"""Speed of FST: its training step against a mean teacher's, the published one and its least."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from benchmark.methods.fst import COMPARISON, config_path
from benchmark.methods.fst_bookkeeping_speed import OURS, PUBLISHED, Bookkeeping
from benchmark.methods.fst_networks_speed import LARGE, NARROW, SMALL, Network
from benchmark.methods.fst_workbench_speed import FEW, PEER, SERIES, STEP, VARIANTS, Workbench
from benchmark.overrides import Sizes
from benchmark.steps import add_parts, over, over_least, prepared, quiet_devices, timed
from benchmark.timing import interleaved
from benchmark.training import config_of

BATCHES = 2
"""Batches whose times are summed."""
SIZES = Sizes(train=40, val=2)
"""Drawn images."""
UNAVOIDABLE = (
    'labelled images: forward + backward',
    'mixed images: forward + two backwards',
    'teacher: two forwards',
    'reference: forward',
)
RATIOS = {
    'K=1 over a mean teacher': (STEP, PEER),
    'K=1, redrawn, over a mean teacher': (f'{STEP}, redrawn', PEER),
    'K=1 over published': (STEP, 'published step, K=1'),
    'K=3 over published': (SERIES, 'published step, K=3'),
    'K=3, redrawn, over published': (f'{SERIES}, redrawn', 'published step, K=3'),
}


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``. The CPU works with one thread."""
    data = prepared(COMPARISON.drawn.job(args.work_dir, 0, SIZES))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for device in quiet_devices(args):
            networks = {SMALL: tuple(VARIANTS), NARROW: FEW}
            if device == 'cuda':  # small ones would only measure launches
                networks = {LARGE: tuple(VARIANTS)}
            for network, variants in networks.items():
                bench = Workbench(data, device, network, 1 if args.quick else BATCHES, variants)
                step_times(bench, args.rounds, report)
                memory(bench, report)
                if args.quick:
                    break
            if not args.only_steps:
                bookkeeping(bench.device, args.rounds, report)
    finally:
        torch.set_num_threads(threads)
    return report


def step_times(bench: Workbench, rounds: int, report: Any) -> None:
    """Times, ratios and breakdown of training steps of one network."""
    size = bench.contestants[STEP].bytes / 4e6
    report.notes.append(f'{bench.name}: {size:.2f} million parameters')
    found = timed(bench.operations(), rounds, bench.device, bench.count, report, bench.name)
    for label, pair in RATIOS.items():
        if set(pair) <= set(found):
            report.add(f'{bench.name}: {label}', over(found, *pair))
    ratios = over_least(found, UNAVOIDABLE, STEP)
    report.add(f'{bench.name}: ratio', ratios)
    if np.isnan(report.ratio):
        report.ratio = ratios['x']
    steps = max(2, min(rounds, 5)) * bench.count
    add_parts(bench.breakdown(steps), report, bench.name)


def memory(bench: Workbench, report: Any) -> None:
    """Peak memory of a step beside what lives between steps, in copies of the parameters."""
    from mmdistill.testing import peak_bytes

    peaks = {}
    for label, each in bench.contestants.items():
        peak = peak_bytes(lambda each=each: each.step(each.batches[0]), bench.device)
        peaks[label] = peak / each.bytes
    row = {label: value - peaks[PEER] for label, value in peaks.items() if label != PEER}
    report.add(f'{bench.name}: peak memory beyond a mean teacher, copies of the parameters', row)


def shapes_of(network: Network) -> list[tuple[int, ...]]:
    """Shapes of a network's parameters, without their values."""
    from mmseg.registry import MODELS

    with torch.device('meta'):
        model = MODELS.build(network.segmentor(config_of(config_path('fst-d')).model.segmentor))
    return [tuple(each.shape) for each in model.parameters()]


def bookkeeping(device: torch.device, rounds: int, report: Any) -> None:
    """Looking ahead without passes of a network, for a small one and for a large one."""
    for network in (SMALL, LARGE) if device.type == 'cpu' else (LARGE,):
        shapes = shapes_of(network)
        name = f'{device.type}, {len(shapes)} tensors'
        operations = Bookkeeping(shapes, device).operations()
        found = interleaved(operations, max(3, rounds), device)
        for label, times in found.items():
            report.add(f'{name}: {label}', times.metrics(), sum(times.wall))
        report.add(f'{name}: virtual step over published', over(found, OURS, PUBLISHED))
