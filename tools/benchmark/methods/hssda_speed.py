"""Speed of HSSDA: its training step against its unavoidable parts, and the tools around it."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.det3d_tools import evaluation, simulator
from benchmark.methods.hssda import BURN_IN, CLASSES, Sizes, training
from benchmark.methods.hssda_parts_speed import measure_parts
from benchmark.methods.hssda_workbench_speed import Workbench
from benchmark.steps import add_parts, quiet_devices, timed
from benchmark.timing import Operation, interleaved

BATCHES = 3
"""Batches whose times are summed; the sampler mixes labelled and unlabelled frames."""
SIZES = Sizes(train=100, val=20, shorter=3)
"""Data and burn-in; a detector that finds nothing would make pseudo labels look free."""


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``."""
    data, checkpoint = prepare(args)
    for device in quiet_devices(args):
        bench = Workbench(data, checkpoint, device, 1 if args.quick else BATCHES)
        step_times(bench, args.rounds, report)
    if not args.only_steps:
        checkpoint_cost(bench, report)
        shuffle_cost(bench, report)
        mining_cost(bench, 1 if args.quick else 3, report)
        measure_parts(report, args.quick)
        evaluation(data, report, 500, CLASSES)
        simulator(report, 2.0 if args.quick else 10.0)
    return report


def prepare(args: argparse.Namespace) -> tuple[Path, Path]:
    """Data set and burn-in, made once.

    Raises:
        SystemExit: the burn-in failed.
    """
    from benchmark.jobs import run_jobs
    from benchmark.training import SyntheticData

    home = args.work_dir
    data = SyntheticData(
        name='data',
        log=home / 'data.log',
        kind='kitti',
        out=home / 'data',
        train=SIZES.train,
        val=SIZES.val,
        replace=True,
        cost=20,
    )
    burn_in = training(home, data, 0, BURN_IN, SIZES)
    burn_in.needs, burn_in.cost = (data.name,), 100
    failed = run_jobs([data] if args.checkpoint else [data, burn_in])
    if failed:
        raise SystemExit(f'speed: preparation failed: {failed}')
    return data.out, args.checkpoint or burn_in.checkpoint


def step_times(bench: Workbench, rounds: int, report: Any) -> None:
    """Times, ratios and breakdown of training steps on one device."""
    name = bench.device.type

    found = timed(bench.operations(), rounds, bench.device, len(bench.batches), report)
    kinds = {
        'x': 'two teacher forwards',
        'x_network_only': 'two teacher networks',
        'x_labelled_too': 'two teacher forwards, labelled frames too',
    }
    ratios = {}
    for kind in ('wall', 'cpu'):
        step, student = (
            found[each].median(kind) for each in ('train step', 'student forward + backward')
        )
        for metric, teacher in kinds.items():
            ratios[metric if kind == 'wall' else f'{metric}_cpu_time'] = step / (
                student + found[teacher].median(kind)
            )
    ratios['ema_of_step'] = found['EMA update'].median() / found['train step'].median()
    report.add(f'{name}: ratio', ratios)
    if name == 'cpu' or np.isnan(report.ratio):
        report.ratio = ratios['x']
    unlabeled = sum(
        not each.metainfo['labeled'] for batch in bench.batches for each in batch['data_samples']
    )
    frames = sum(len(batch['data_samples']) for batch in bench.batches)
    boxes, kept = bench.pseudo_labels()
    report.notes.append(
        f'{name}: {unlabeled} of {frames} frames of the batches are unlabelled, with {boxes:.1f} '
        f"teacher's boxes and {kept:.1f} pseudo labels each"
    )
    add_parts(bench.breakdown(max(2, min(rounds, 5)) * len(bench.batches)), report)


def checkpoint_cost(bench: Workbench, report: Any) -> None:
    """Seconds of writing a checkpoint, checksummed and synced."""
    from mmdistill.core.checkpoint_io import save_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'iter_1.pth')

        def save() -> None:
            optimizer = bench.optim.state_dict()
            content = dict(state_dict=bench.model.state_dict(), optimizer=optimizer)
            save_checkpoint(content, path, run=1, iter=1, epoch=0, resumable=True)

        found = interleaved({'save': Operation(save)}, 5, bench.device)['save']
        size = path.stat().st_size / 2**20
    report.add('checkpoint save', {**found.metrics(), 'mib': size}, sum(found.wall))


def shuffle_cost(bench: Workbench, report: Any) -> None:
    """Shuffling voxels and unshuffling the neck's map of a batch."""
    model, (clouds, _) = bench.model, bench.student_inputs(bench.batches[0])
    voxels = model.student.data_preprocessor.voxelize(clouds, None)
    sigma = model.patches.draw(torch.rand(len(clouds), len(model.patches))).to(bench.device)
    with torch.no_grad():
        dense = model.student.extract_feat(dict(points=clouds, voxels=voxels))[0]
    cells = model.grid_cells
    operations = {
        'shuffle': Operation(lambda: model.patches.shuffle_voxels(voxels, sigma, cells)),
        'unshuffle': Operation(lambda: model.patches.unshuffle_dense(dense, sigma)),
    }
    for label, times in interleaved(operations, 15, bench.device).items():
        report.add(f'{bench.device.type}: {label}', times.metrics(), sum(times.wall))


def mining_cost(bench: Workbench, rounds: int, report: Any) -> None:
    """Steps and mining rounds with either source of the teacher's judgement."""
    step, round_ = (
        [
            each.median() / count
            for each in timed(part, rounds, bench.device, count, report).values()
        ]
        for part, count in zip(bench.sources(), (len(bench.batches), 1), strict=True)
    )
    ratios = {
        'buffered step, x': step[1] / step[0],
        'round in steps': round_[0] / step[0],
        'buffered round in steps': round_[1] / step[0],
        # so many steps between two rounds cost as much either way
        'equal at an interval of': (round_[0] - round_[1]) / max(step[1] - step[0], 1e-9),
    }
    report.add(f'{bench.device.type}: mining, {len(bench.dataset)} frames', ratios)
