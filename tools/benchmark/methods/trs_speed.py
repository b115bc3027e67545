"""Speed of TRS: its training step against its unavoidable parts, and its batched tools."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger

from benchmark.methods.trs import CONFIGS, config_path
from benchmark.methods.trs_workbench_speed import Workbench
from benchmark.timing import Operation, Times, interleaved

BATCHES = 2
"""Batches whose times are summed."""
IMAGES = 120
"""Drawn images; the config labels the first 100 people."""
FULL_SIZE = 'trs_resnet18_coco-1k_256x192.py'
"""Config that is measured on a GPU, where the small one would only measure launches."""
UNAVOIDABLE = ('student forward + backward', 'teacher forward', 'reviewer forward')


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``."""
    data = prepare(args)
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    devices = args.devices or ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]
    for device in devices:
        config = config_path('trs') if device == 'cpu' else CONFIGS / FULL_SIZE
        count = 1 if args.quick else BATCHES
        bench = Workbench(config, data, args.checkpoint, device, count)
        report.notes.append(f'{device}: {config.stem}')
        step_times(bench, args.rounds, report)
        if not args.only_steps:
            batched_against_loops(bench, args.rounds, report)
    return report


def prepare(args: argparse.Namespace) -> Path:
    """Drawn people, made once.

    Raises:
        SystemExit: they could not be made.
    """
    from benchmark.jobs import run_jobs
    from benchmark.training import SyntheticData

    home = args.work_dir
    data = SyntheticData(
        name='data',
        log=home / 'data.log',
        kind='people',
        out=home / 'data',
        train=IMAGES,
        val=4,
        replace=True,
    )
    failed = run_jobs([data])
    if failed:
        raise SystemExit(f'speed: preparation failed: {failed}')
    return data.out


def step_times(bench: Workbench, rounds: int, report: Any) -> None:
    """Times, ratios and breakdown of training steps on one device."""
    name = bench.device.type

    def progress(done: int, total: int) -> None:
        print(f'{name}: round {done}/{total}', flush=True)

    found = interleaved(bench.operations(), rounds, bench.device, progress)
    share = 1 / len(bench.batches)
    for label, times in found.items():
        mean = Times([t * share for t in times.wall], [t * share for t in times.cpu])
        report.add(f'{name}: {label}', mean.metrics(), sum(times.wall))
    ratios = {}
    for kind in ('wall', 'cpu'):
        least = sum(found[each].median(kind) for each in UNAVOIDABLE)
        ratio = found['train step'].median(kind) / least
        ratios['x' if kind == 'wall' else 'x_cpu_time'] = ratio
        least += found['optimizer step'].median(kind)
        ratio = found['train step'].median(kind) / least
        ratios['x_with_optimizer' + ('' if kind == 'wall' else '_cpu_time')] = ratio
    for metric, label in (('ema', 'EMA update'), ('reviewer', 'reviewer update')):
        ratios[f'{metric}_of_step'] = found[label].median() / found['train step'].median()
    report.add(f'{name}: ratio', ratios)
    if name == 'cpu' or np.isnan(report.ratio):
        report.ratio = ratios['x']
    parts = bench.breakdown(max(2, min(rounds, 5)) * len(bench.batches))
    steps = parts.calls['rest of the step']
    ordered = sorted(parts.seconds.items(), key=lambda each: -each[1])
    report.add(
        f'{name}: parts of the step, ms',
        {label: 1e3 * seconds / steps for label, seconds in ordered},
        sum(parts.seconds.values()),
    )


def batched_against_loops(bench: Workbench, rounds: int, report: Any) -> None:
    """Warp, Keypoint-Mix and targets in one call against one call per sample."""
    from mmdistill.pose.peaks import peaks
    from mmdistill.pose.views import ViewRange
    from mmdistill.pose.warp import warp

    model, device = bench.model, bench.device
    crops, mix = bench.crops(bench.batches[0]), model.mixes[0]
    count = len(crops.easy)
    with torch.no_grad():
        places, confidences = peaks(model.heatmaps(model.teacher, crops.easy))
    joints, sure = model.grid.to_input(places), torch.ones_like(confidences)
    numbers = torch.Generator().manual_seed(0)
    view = ViewRange().draw(torch.rand(count, 6, generator=numbers).to(device), model.grid)
    uniform = mix.numbers(count, generator=numbers).to(device)
    codec = model.student.head.decoder
    points, visible = crops.points.cpu().numpy(), crops.visible.cpu().numpy()

    def warp_each() -> None:
        for row in range(count):
            one = type(view)(view.linear[row : row + 1], view.shift[row : row + 1])
            warp(crops.easy[row : row + 1], one)

    def mix_each() -> None:
        for row in range(count):
            one = slice(row, row + 1)
            mix(crops.easy[one], joints[one], sure[one], uniform[one])

    def encode_each() -> None:
        made = [codec.encode(p[None], v[None]) for p, v in zip(points, visible, strict=True)]
        torch.from_numpy(np.stack([each['heatmaps'] for each in made])).to(device)

    operations = {
        'warp': Operation(lambda: warp(crops.easy, view)),
        'warp, image by image': Operation(warp_each),
        'Keypoint-Mix': Operation(lambda: mix(crops.easy, joints, sure, uniform)),
        'Keypoint-Mix, image by image': Operation(mix_each),
        'targets': Operation(lambda: model.maker(crops.points, crops.visible)),
        "targets, mmpose's codec": Operation(encode_each),
    }
    for label, times in interleaved(operations, max(3, rounds), device).items():
        report.add(f'{device.type}: {label}', times.metrics(), sum(times.wall))
