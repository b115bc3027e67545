"""Speed of the tools around a 3D training: KITTI evaluation and LiDAR simulator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


def evaluation(data: Path, report: Any, frames: int, classes: Sequence[str]) -> None:
    """Seconds of the KITTI evaluation of some frames on one core."""
    import mmengine

    from mmdistill.det3d.kitti_eval import evaluate
    from mmdistill.det3d.kitti_predictions import ground_truth_anno

    infos = mmengine.load(str(data / 'kitti_infos_val.pkl'))
    names = {label: name for name, label in infos['metainfo']['categories'].items()}
    truth = [ground_truth_anno(info, names) for info in infos['data_list']]
    truth = [truth[index % len(truth)] for index in range(frames)]
    rng = np.random.default_rng(0)
    detections = [_detections(rng, each) for each in truth]
    before, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(3):
        start = time.perf_counter()
        evaluate(truth, detections, list(classes))
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(before)
    metrics = {'s': min(seconds[1:]), 's_first_call': seconds[0], 'frames': frames}
    report.add('KITTI evaluation, one core', metrics, sum(seconds))


def _detections(rng: np.random.Generator, truth: dict) -> dict:
    """Detections near the objects of a frame, some shifted far enough to be wrong."""
    known = truth['name'] != 'DontCare'
    count = int(known.sum())
    twice = {key: np.concatenate([truth[key][known]] * 2) for key in truth}
    shift = rng.normal(0, 1, (2 * count, 3)) * np.repeat([0.1, 2.0], count)[:, None]
    return {
        'name': twice['name'],
        'bbox': twice['bbox'] + rng.normal(0, 3, (2 * count, 4)),
        'location': twice['location'] + shift,
        'dimensions': twice['dimensions'] * rng.uniform(0.9, 1.1, (2 * count, 3)),
        'rotation_y': twice['rotation_y'] + rng.normal(0, 0.1, 2 * count),
        'alpha': twice['alpha'],
        'score': rng.uniform(0, 1, 2 * count),
    }


def simulator(report: Any, budget: float) -> None:
    """Simulated scenes per second on one core."""
    from mmdistill.det3d.lidar_sim import simulate

    simulate(0, 0)
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < budget:
        count += 1
        simulate(0, count)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    metrics = {'scenes_per_s': count / seconds, 'scenes_per_cpu_s': count / cpu}
    report.add('simulator, one core', metrics, seconds)
