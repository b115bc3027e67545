"""An HSSDA model ready for measurements, and the parts of its training step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.utils import import_modules_from_strings

from benchmark.methods.hssda import config_path, data_options
from benchmark.timing import Breakdown, Operation


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
        self.loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        self.dataset = self.loader.dataset
        bank_feed.add_labeled(self.model.bank, self.dataset)
        self.mine(bank_feed.add_mined)
        stream = iter(self.loader)
        self.batches = [next(stream) for _ in range(batches)]

    def mine(self, add_mined: Callable) -> None:
        """One mining round over all frames, so that all levels occur."""
        self.model.refresh(self.records())
        add_mined(self.model.bank, self.dataset, self.model.store)

    def records(self) -> list[dict]:
        """What a pass over all frames gives a mining round."""
        records = []
        self.model.eval()
        for start in range(0, len(self.dataset), 4):
            frames = range(start, min(start + 4, len(self.dataset)))
            batch = pseudo_collate([self.dataset[index] for index in frames])
            records.extend(self.model.mine(self.scenes(batch)))
        self.model.train()
        return records

    def scenes(self, batch: dict) -> Any:
        """A batch as the model reads it."""
        data = self.model.data_preprocessor(batch, True)
        return self.model.read_batch(data['inputs'], data['data_samples'])

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
        scenes = self.scenes(batch)
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

        from mmdistill.det3d.detectors import changed_test_cfg

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

    def filled_buffer(self) -> Any:
        """A training buffer with as many scenes as there are frames, from as many steps."""
        from mmdistill.det3d.judgement_buffer import JudgementBuffer

        model, count = self.model, len(self.dataset)
        buffer = JudgementBuffer(count, 100, len(model.score_names), model.box_dim)
        buffer.to(self.device)
        stream = iter(self.loader)
        while len(buffer) < count:
            scenes = self.scenes(next(stream))
            buffer.add(model.judged(scenes, purpose=1), scenes.frames, scenes.labeled)
        return buffer

    def sources(self) -> tuple[dict[str, Operation], dict[str, Operation]]:
        """Mining from frames and from the buffer: steps, over all batches, and rounds of each."""
        model, buffer = self.model, self.filled_buffer()

        def buffered(run: Callable[[], Any]) -> Callable[[], None]:
            def inner() -> None:
                model.buffer = buffer
                try:
                    run()
                finally:
                    model.buffer = None

            return inner

        def kept() -> None:
            for batch in self.batches:
                self.step(batch)
                if model.step_judgement is not None:
                    buffer.add(*model.step_judgement)

        plain = Operation(lambda: [self.step(batch) for batch in self.batches], self.clear)
        steps = {
            'train step, rounds read frames': plain,
            'train step, rounds read the buffer': Operation(buffered(kept), self.clear),
        }
        rounds = {
            'judgements of a mining round from all frames': Operation(self.records),
            'the same from the buffer': Operation(buffered(model.buffered_records)),
        }
        return steps, rounds

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
