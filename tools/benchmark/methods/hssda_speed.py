"""Speed of HSSDA: its training step against its unavoidable parts, and the tools around it."""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.utils import import_modules_from_strings

from benchmark.methods.hssda import BURN_IN, CLASSES, Sizes, config_path, data_options, training
from benchmark.timing import Breakdown, Operation, Times, interleaved

BATCHES = 3
"""Batches whose times are summed; the sampler mixes labelled and unlabelled frames."""
SIZES = Sizes(train=100, val=20, shorter=3)
"""Data and burn-in; a detector that finds nothing would make pseudo labels look free."""


class Workbench:
    """A model after a burn-in and a mining round, with batches, on one device.

    Args:
        data: folder of synthetic KITTI.
        checkpoint: of the burn-in.
        device: to measure on.
        batches: number of batches.
    """

    def __init__(self, data: Path, checkpoint: Path, device: str, batches: int) -> None:
        config = config_path('hssda')
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(data_options(config, data))
        import_modules_from_strings(**cfg.custom_imports)
        init_default_scope('mmdet3d')
        from mmdistill.core.compat import allow_mmengine_globals
        from mmdistill.det3d import bank_feed
        from mmdistill.registry import MODELS

        allow_mmengine_globals()
        torch.manual_seed(0)
        self.cfg, self.device = cfg, torch.device(device)
        self.model = MODELS.build(cfg.model).to(self.device)
        load_checkpoint(self.model, str(checkpoint), map_location='cpu', logger='current')
        self.model.train()
        cfg.optim_wrapper.optimizer.lr = 0.0  # the same work in every repetition
        self.optim: OptimWrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        self.dataset = loader.dataset
        bank_feed.add_labeled(self.model.bank, self.dataset)
        self.mine(bank_feed.add_mined)
        stream = iter(loader)
        self.batches = [next(stream) for _ in range(batches)]

    def mine(self, add_mined: Callable) -> None:
        """One mining round over all frames, so that all levels occur."""
        records = []
        self.model.eval()
        for start in range(0, len(self.dataset), 4):
            frames = range(start, min(start + 4, len(self.dataset)))
            batch = pseudo_collate([self.dataset[index] for index in frames])
            data = self.model.data_preprocessor(batch, True)
            scenes = self.model.read_batch(data['inputs'], data['data_samples'])
            records.extend(self.model.mine(scenes, 0))
        self.model.train()
        self.model.refresh(records)
        add_mined(self.model.bank, self.dataset, self.model.store)

    def step(self, batch: dict) -> Any:
        """A whole training step as the runner makes it."""
        return self.model.train_step(batch, self.optim)

    # ------------------------------------------------- what no implementation can avoid

    def student_inputs(self, batch: dict) -> tuple[list, list]:
        """Point clouds and samples the student sees in the step."""
        seen: list = []
        loss = self.model.student.loss

        def remember(inputs: dict, samples: list) -> Any:
            seen.append(([cloud.clone() for cloud in inputs['points']], samples))
            return loss(inputs, samples)

        self.model.student.loss = remember
        try:
            self.step(batch)
        finally:
            del self.model.student.loss
        return seen[0]

    def student(self, clouds: list, samples: list) -> None:
        """Voxelisation, loss and backward of the student."""
        student = self.model.student
        voxels = student.data_preprocessor.voxelize(clouds, None)
        losses = student.loss(dict(points=clouds, voxels=voxels), samples)
        self.model.parse_losses(losses)[0].backward()

    def teacher_views(self, batch: dict, unlabeled: bool) -> list[list]:
        """Cropped clouds of the raw and of the augmented view."""
        data = self.model.data_preprocessor(batch, True)
        scenes = self.model.read_batch(data['inputs'], data['data_samples'])
        rows = torch.arange(len(scenes.frames))
        rows = scenes.unlabeled_rows().cpu() if unlabeled else rows
        if len(rows) == 0:
            return []
        seen: list = []
        predict = self.model.teacher_predict

        def remember(points: Any) -> Any:
            seen.append(self.model.crop(points))
            return predict(points)

        self.model.teacher_predict = remember
        try:
            frames = [scenes.frames[row] for row in rows.tolist()]
            self.model.judge(scenes.points.select(rows), frames, purpose=1)
        finally:
            del self.model.teacher_predict
        return seen

    @torch.no_grad()
    def teacher(self, views: list[list]) -> None:
        """Voxelisation and prediction with NMS of all views."""
        from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes

        from mmdistill.det3d.semi_detector import changed_test_cfg

        teacher = self.model.teacher
        for clouds in views:
            voxels = teacher.data_preprocessor.voxelize(clouds, None)
            meta = dict(box_type_3d=LiDARInstance3DBoxes)
            samples = [Det3DDataSample(metainfo=meta) for _ in clouds]
            with changed_test_cfg(teacher, self.model.teacher_test_cfg):
                teacher.predict(dict(points=clouds, voxels=voxels), samples)

    @torch.no_grad()
    def teacher_network(self, inputs: list[dict]) -> None:
        """The network alone."""
        for each in inputs:
            self.model.teacher._forward(each)

    def voxelised(self, views: list[list]) -> list[dict]:
        """Inputs of the network for some views."""
        voxelize = self.model.teacher.data_preprocessor.voxelize
        return [dict(points=clouds, voxels=voxelize(clouds, None)) for clouds in views]

    def clear(self) -> None:
        """Drops the gradients."""
        self.optim.zero_grad()

    def gradients(self) -> None:
        """Gives every parameter of the student a gradient."""
        for value in self.model.student.parameters():
            value.grad = torch.full_like(value, 1e-3)

    # ------------------------------------------------------------------- measurements

    def operations(self) -> dict[str, Operation]:
        """All timed operations, each over all batches."""
        from mmdistill.core.ema import ema_update

        students = [self.student_inputs(batch) for batch in self.batches]
        own = [self.teacher_views(batch, unlabeled=True) for batch in self.batches]
        whole = [self.teacher_views(batch, unlabeled=False) for batch in self.batches]
        own_inputs = [self.voxelised(views) for views in own]
        model = self.model

        def each(function: Callable, arguments: list) -> Callable[[], None]:
            return lambda: [function(*found) for found in arguments] and None

        times = len(self.batches)
        return {
            'train step': Operation(each(self.step, [(b,) for b in self.batches]), self.clear),
            'student forward + backward': Operation(each(self.student, students), self.clear),
            'two teacher forwards': Operation(each(self.teacher, [(v,) for v in own])),
            'two teacher networks': Operation(
                each(self.teacher_network, [(v,) for v in own_inputs])
            ),
            'two teacher forwards, labelled frames too': Operation(
                each(self.teacher, [(v,) for v in whole])
            ),
            'optimizer step': Operation(each(self.optim.step, [()] * times), self.gradients),
            'EMA update': Operation(
                each(lambda: ema_update(model.teacher, model.student, 0.999, 'ema'), [()] * times)
            ),
        }

    def pseudo_labels(self) -> tuple[float, float]:
        """Mean numbers of the teacher's boxes and of the kept ones per unlabelled frame."""
        found, kept, frames = 0, 0, 0
        for batch in self.batches:
            self.step(batch)
            stats = self.model.pseudo_stats
            if stats is not None:
                found, kept = found + int(stats.total.sum()), kept + int(stats.kept.sum())
                frames += sum(not each.metainfo['labeled'] for each in batch['data_samples'])
        return found / max(frames, 1), kept / max(frames, 1)

    def breakdown(self, steps: int) -> Breakdown:
        """Where the time of training steps goes."""
        from mmdistill.det3d import semi_detector

        found, model = Breakdown(self.device), self.model
        branches = {'teacher': model.teacher, 'student': model.student}
        watched = [
            (model.data_preprocessor, 'forward', 'batch to device'),
            (model, 'read_batch', 'batch to device'),
            (model, 'pseudo_labels', 'pseudo labels: levels'),
            (model, 'judge', 'pseudo labels: scores'),
            (model, 'stats', 'pseudo labels: statistics'),
            (model, 'teacher_predict', 'teacher: crop, boxes to batch'),
            (model, 'student_batch', "student's view: points and boxes"),
            (semi_detector, 'remove_points', 'point removal'),
            (semi_detector, 'mix_points', "student's view: point order"),
            (model.bank, 'paste', 'pasting'),
            (model.patches, 'shuffle_voxels', 'shuffle'),
            (model.patches, 'unshuffle', 'unshuffle'),
            (self.optim, 'backward', 'student: backward'),
            (self.optim, 'step', 'optimizer step'),
            (self.optim, 'zero_grad', 'optimizer step'),
        ]
        for name, branch in branches.items():
            watched += [
                (branch.data_preprocessor, 'voxelize', f'{name}: voxelise'),
                (branch, 'extract_feat', f'{name}: network'),
                (branch.bbox_head, 'forward', f'{name}: network'),
            ]
        watched += [
            (model.teacher, 'predict', 'teacher: decoding and NMS'),
            (model.student, 'loss', 'student: targets and loss'),
        ]
        watched = [each for each in watched if hasattr(each[0], each[1])]
        with found.watch(*watched):
            for index in range(steps):
                with found.part('rest of the step'):
                    self.step(self.batches[index % len(self.batches)])
        return found


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``."""
    data, checkpoint = prepare(args)
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    devices = args.devices or ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]
    for device in devices:
        bench = Workbench(data, checkpoint, device, 1 if args.quick else BATCHES)
        step_times(bench, args.rounds, report)
    if not args.only_steps:
        checkpoint_cost(bench, report)
        shuffle_cost(bench, report)
        evaluation(data, report, 500)
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

    def progress(done: int, total: int) -> None:
        print(f'{name}: round {done}/{total}', flush=True)

    found = interleaved(bench.operations(), rounds, bench.device, progress)
    share = 1 / len(bench.batches)
    for label, times in found.items():
        mean = Times([t * share for t in times.wall], [t * share for t in times.cpu])
        report.add(f'{name}: {label}', mean.metrics(), sum(times.wall))
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
    parts = bench.breakdown(max(2, min(rounds, 5)) * len(bench.batches))
    total = sum(parts.seconds.values())
    steps = parts.calls['rest of the step']
    report.add(
        f'{name}: parts of the step, ms',
        {
            label: 1e3 * seconds / steps
            for label, seconds in sorted(parts.seconds.items(), key=lambda each: -each[1])
        },
        total,
    )


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


def evaluation(data: Path, report: Any, frames: int) -> None:
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
        evaluate(truth, detections, list(CLASSES))
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
