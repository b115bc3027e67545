"""A TRS model ready for measurements, and the parts of its training step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmark.methods.trs import data_options
from benchmark.steps import build, first_batches, read_config
from benchmark.timing import Breakdown, Operation


class Workbench:
    """A model with batches on one device.

    Args:
        config: of a TRS training on people.
        data: folder of drawn people.
        checkpoint: of a run; None: networks as they are initialised, which cost the same.
        device: to measure on.
        batches: number of batches.
    """

    def __init__(
        self, config: Path, data: Path, checkpoint: Path | None, device: str, batches: int
    ) -> None:
        cfg = read_config(config, data_options(config, data))
        labeled = cfg.train_dataloader.dataset.labeled
        labeled.indices = min(labeled.get('indices') or 100, 100)
        cfg.model.estimator.backbone.init_cfg = None  # no weights are fetched
        self.device = torch.device(device)
        self.model, self.optim = build(cfg, self.device, checkpoint)
        self.batches = first_batches(cfg, batches)

    def step(self, batch: dict) -> Any:
        """A whole training step as the runner makes it."""
        return self.model.train_step(batch, self.optim)

    def crops(self, batch: dict) -> Any:
        """The sorted batch on the device."""
        data = self.model.data_preprocessor(batch, True)
        return self.model.read_batch(data['inputs'], data['data_samples'])

    # ------------------------------------------------- what no implementation can avoid

    @torch.no_grad()
    def student_inputs(self, batch: dict) -> tuple:
        """Labelled and hard images, and what the student's heatmaps are compared with."""
        crops = self.crops(batch)
        pseudo = self.model.pseudo_targets(crops)
        return crops.labeled, pseudo.images, self.model.maker(crops.points, crops.visible), pseudo

    def student(self, labeled: Any, hard: Any, targets: Any, pseudo: Any) -> None:
        """Forward, squared errors and backward of the student, all levels."""
        model = self.model
        levels, harder = model.student_levels(labeled, hard)
        heatmaps, weights = targets
        criterion = model.student.head.loss_module
        losses = model.by_level(levels, lambda level: criterion(level, heatmaps, weights))
        more = model.unlabeled_losses(harder, pseudo)
        (sum(losses.values()) + sum(more.values())).backward()

    @torch.no_grad()
    def look(self, network: Any, norms: list, easy: Any) -> None:
        """Heatmaps of an easy view, normalised as the method does."""
        from mmdistill.core.modes import batch_statistics

        with batch_statistics(norms):
            self.model.heatmaps(network, easy)

    def norms_of(self, network: Any) -> list:
        """The batch norms of a network that use the statistics of the batch."""
        from mmdistill.core.modes import batch_norms

        return batch_norms(network) if self.model.pseudo_bn == 'batch' else []

    def clear(self) -> None:
        """Drops the gradients."""
        self.optim.zero_grad()

    def gradients(self) -> None:
        """Gives every trained parameter a gradient."""
        for value in self.model.parameters():
            if value.requires_grad:
                value.grad = torch.full_like(value, 1e-3)

    # ------------------------------------------------------------------- measurements

    def operations(self) -> dict[str, Operation]:
        """All timed operations, each over all batches."""
        from mmdistill.core.ema import ema_update
        from mmdistill.pose import EmaReviewer

        model, policy, times = self.model, EmaReviewer(), len(self.batches)
        students = [self.student_inputs(batch) for batch in self.batches]
        easy = [self.crops(batch).easy for batch in self.batches]

        def each(function: Callable, arguments: list) -> Callable[[], None]:
            return lambda: [function(*found) for found in arguments] and None

        def teach() -> None:
            ema_update(model.teacher, model.student, 0.999, 'ema')

        def review() -> None:
            policy.update(model.reviewer, model.student)

        look = {
            f'{name} forward': Operation(
                each(self.look, [(network, self.norms_of(network), x) for x in easy])
            )
            for name, network in (('teacher', model.teacher), ('reviewer', model.reviewer))
        }
        return {
            'train step': Operation(each(self.step, [(b,) for b in self.batches]), self.clear),
            'student forward + backward': Operation(each(self.student, students), self.clear),
            **look,
            'optimizer step': Operation(each(self.optim.step, [()] * times), self.gradients),
            'EMA update': Operation(each(teach, [()] * times)),
            'reviewer update': Operation(each(review, [()] * times)),
        }

    def breakdown(self, steps: int) -> Breakdown:
        """Where the time of training steps goes."""
        from mmdistill.pose import trs

        found, model = Breakdown(self.device), self.model
        watched = [
            (model.data_preprocessor, 'forward', 'batch to device'),
            (model, 'read_batch', 'batch to device'),
            (model.teacher, 'forward', 'teacher and reviewer: networks'),
            (model, 'heatmaps', 'teacher and reviewer: networks'),
            (trs, 'peaks', 'pseudo joints'),
            (trs, 'collapse_stats', 'collapse statistics'),
            (model, 'stats', 'pseudo joints: statistics'),
            (trs, 'fused_target', 'hard view: fused target'),
            (model, 'hard_targets', 'hard view: draws and masks'),
            (trs, 'warp', 'hard view: warp'),
            *((mix, '__call__', 'hard view: Keypoint-Mix') for mix in map(type, model.mixes)),
            (model, 'student_levels', 'student: forward'),
            (model, 'maker', 'targets of labelled people'),
            (model, 'labeled_losses', 'student: losses'),
            (model, 'unlabeled_losses', 'student: losses'),
            (self.optim, 'backward', 'student: backward'),
            (self.optim, 'step', 'optimizer step'),
            (self.optim, 'zero_grad', 'optimizer step'),
        ]
        with found.watch(*watched):
            for index in range(steps):
                with found.part('rest of the step'):
                    self.step(self.batches[index % len(self.batches)])
        return found
