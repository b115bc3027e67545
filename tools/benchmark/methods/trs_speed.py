"""Speed of TRS: its training step against its unavoidable parts, and its batched tools."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.methods.trs import CONFIGS, config_path
from benchmark.methods.trs_workbench_speed import Workbench
from benchmark.steps import add_parts, over, over_least, prepared, quiet_devices, timed
from benchmark.timing import Operation, interleaved
from benchmark.training import SyntheticData

BATCHES = 2
"""Batches whose times are summed."""
IMAGES = 120
"""Drawn images; the config labels the first 100 people."""
FULL_SIZE = 'trs_resnet18_coco-1k_256x192.py'
"""Config that is measured on a GPU, where the small one would only measure launches."""
PEER = 'DualPose step'
UNAVOIDABLE = ('student forward + backward', 'teacher forward', 'reviewer forward')


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``."""
    data = prepare(args)
    for device in quiet_devices(args):
        config = config_path('trs') if device == 'cpu' else CONFIGS / FULL_SIZE
        count = 1 if args.quick else BATCHES
        bench = Workbench(config, data, args.checkpoint, device, count)
        peer = config.with_name(config.name.replace('trs_', 'dualpose_', 1))
        other = Workbench(peer, data, None, device, count)
        report.notes.append(f'{device}: {config.stem}, {peer.stem}')
        step_times(bench, other, args.rounds, report)
        if not args.only_steps:
            batched_against_loops(bench, args.rounds, report)
    return report


def prepare(args: argparse.Namespace) -> Path:
    """Drawn people, made once.

    Raises:
        SystemExit: they could not be made.
    """
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
    return prepared(data)


def step_times(bench: Workbench, peer: Workbench, rounds: int, report: Any) -> None:
    """Times, ratios and breakdown of training steps on one device, and of the peer's."""
    name = bench.device.type
    peer_step = Operation(lambda: [peer.step(batch) for batch in peer.batches] and None)
    operations = {**bench.operations(), PEER: peer_step}
    found = timed(operations, rounds, bench.device, len(bench.batches), report)
    report.add(f'{name}: TRS over DualPose', over(found, 'train step', PEER))
    ratios = over_least(found, UNAVOIDABLE)
    for metric, label in (('ema', 'EMA update'), ('reviewer', 'reviewer update')):
        ratios[f'{metric}_of_step'] = found[label].median() / found['train step'].median()
    report.add(f'{name}: ratio', ratios)
    if name == 'cpu' or np.isnan(report.ratio):
        report.ratio = ratios['x']
    add_parts(bench.breakdown(max(2, min(rounds, 5)) * len(bench.batches)), report)


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
