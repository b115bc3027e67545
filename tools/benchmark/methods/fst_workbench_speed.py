"""FST and its peers ready for measurements, and the parts of its training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from benchmark.methods.fst import config_path, data_options
from benchmark.methods.fst_networks_speed import Network
from benchmark.methods.fst_published_speed import PublishedSteps
from benchmark.steps import build, first_batches, read_config
from benchmark.timing import Breakdown, Operation

STEP = 'FST-D step, K=1'
SERIES = 'FST-D step, K=3'
PEER = 'mean-teacher step'
WIDE = dict(policy='official_w', depth=1, virtual_data='fresh', draws='redraw')
LEAKY = dict(optimizer_state='leaky', buffers='leaky', reuse=False, draws='redraw')
VARIANTS: Mapping[str, Mapping[str, object]] = {
    PEER: dict(policy='mt', depth=0),
    STEP: dict(depth=1),
    f'{STEP}, redrawn': dict(depth=1, draws='redraw'),
    SERIES: dict(depth=3),
    f'{SERIES}, redrawn': dict(depth=3, draws='redraw'),
    'FST-W step, N=2': dict(WIDE, width=2),
    'FST-W step, N=3': dict(WIDE, width=3),
    'published step, K=1': dict(LEAKY, depth=1),
    'published step, K=3': dict(LEAKY, depth=3),
}
"""Options of the model by label."""
FEW = (
    PEER,
    STEP,
    SERIES,
    f'{SERIES}, redrawn',
    'published step, K=1',
    'published step, K=3',
)
"""Variants that a second network is measured on."""


@dataclass
class Contestant:
    """A model in training.

    Attributes:
        model: of a row.
        optim: its optimizer.
        batches: what a step gets, one each.
        step: a whole step.
    """

    model: Any
    optim: OptimWrapper
    batches: list[dict]
    step: Callable[[dict], Any]

    @property
    def bytes(self) -> int:
        """Of the student's parameters."""
        return sum(each.nbytes for each in self.model.student.parameters())


class Workbench:
    """Variants with the same weights on the same images.

    Args:
        data: folder of drawn streets.
        device: to measure on.
        network: and the size of its images.
        batches: steps per measurement.
        variants: keys of :data:`VARIANTS`; FST-D with one virtual step is among them.
    """

    def __init__(
        self,
        data: Path,
        device: str,
        network: Network,
        batches: int,
        variants: Sequence[str] = tuple(VARIANTS),
    ) -> None:
        self.data, self.device = data, torch.device(device)
        self.network, self.count = network, batches
        self.contestants = {label: self.contestant(label) for label in variants}

    @property
    def name(self) -> str:
        """Device and network, for the report."""
        return ', '.join(filter(None, [self.device.type, self.network.label]))

    def contestant(self, label: str) -> Contestant:
        """A variant with its optimizer and batches."""
        options = VARIANTS[label]
        cfg = self.config(options)
        model, optim = build(cfg, self.device)
        batches = [self.network.sized(batch) for batch in first_batches(cfg, self.count)]

        def step(batch: dict) -> Any:
            return model.train_step(batch, optim)

        if label.startswith('published'):
            step = PublishedSteps(model, optim.optimizer, options['depth']).step
        return Contestant(model, optim, batches, step)

    def config(self, options: Mapping[str, object]) -> Config:
        """The config of FST-D on drawn streets, with the published distance of features."""
        path = config_path('fst-d')
        cfg = read_config(path, data_options(path, self.data))
        # the untrained teacher is sure of nothing
        cfg.model.pseudo.threshold = 0.05
        cfg.model.update(feature_distance=dict(loss_weight=0.005), **options)
        cfg.model.segmentor = self.network.segmentor(cfg.model.segmentor)
        fresh = options.get('virtual_data') == 'fresh'
        images = self.network.images * (1 + options['width'] if fresh else 1)
        cfg.train_dataloader.batch_size = cfg.train_dataloader.sampler.batch_size = images
        return cfg

    # ------------------------------------------------- what no implementation can avoid

    def operations(self) -> dict[str, Operation]:
        """All timed operations, each over all batches; unavoidable parts are those of K=1."""
        found = {}
        for label, each in self.contestants.items():

            def run(each: Contestant = each) -> None:
                for batch in each.batches:
                    each.step(batch)

            found[label] = Operation(run)
        return {**found, **self.unavoidable(), **self.updates()}

    def labelled(self, batch: Any, reference: Any) -> list:
        """Gradient of the losses of labelled images."""
        from mmdistill.core.gradients import gradients
        from mmdistill.seg.seg_batch import look

        student = self.model.student
        losses = self.model.sup_losses(look(student, batch.labeled), batch, reference)
        return gradients(sum(losses.values()), list(student.parameters()))

    def mixed(self, batch: Any, view: Any, targets: tuple) -> list:
        """Gradient of the losses of mixed images, taken twice from one forward pass."""
        from mmdistill.core.gradients import gradients
        from mmdistill.seg.seg_batch import look

        student = self.model.student
        seen = look(student, view.images)
        for more in (True, False):
            total = sum(self.model.unsup_losses(seen, batch, view, *targets).values())
            found = gradients(total, list(student.parameters()), keep_graph=more)
        return found

    @torch.no_grad()
    def taught(self, batch: Any) -> None:
        """The teacher's logits, twice, since it moves in between."""
        for _ in range(2):
            self.model.teacher_logits(batch.unlabeled)

    def unavoidable(self) -> dict[str, Operation]:
        """The passes of FST-D with one virtual step that no implementation can leave out."""
        model = self.model
        seg = [self.images(batch) for batch in self.contestants[STEP].batches]
        views = [model.student_view(batch, 0) for batch in seg]
        targets = [model.pseudo_targets(batch) for batch in seg]
        references = [model.reference_features(batch) for batch in seg]

        def each(function: Callable, *parts: list) -> Operation:
            return Operation(lambda: [function(*one) for one in zip(*parts, strict=True)] and None)

        return {
            'labelled images: forward + backward': each(self.labelled, seg, references),
            'mixed images: forward + two backwards': each(self.mixed, seg, views, targets),
            'teacher: two forwards': each(self.taught, seg),
            'reference: forward': each(model.reference_features, seg),
        }

    def updates(self) -> dict[str, Operation]:
        """Updates of parameters, once per batch."""
        optim, model = self.contestants[STEP].optim, self.model

        def gradients() -> None:
            for value in model.student.parameters():
                value.grad = torch.full_like(value, 1e-3)

        def step() -> None:
            for _ in range(self.count):
                optim.step()

        return {'optimizer step': Operation(step, gradients)}

    @property
    def model(self) -> Any:
        """That of FST-D with one virtual step."""
        return self.contestants[STEP].model

    def images(self, batch: dict) -> Any:
        """A batch of the loader on the device."""
        data = self.model.data_preprocessor(batch, True)
        return self.model.read_batch(data['inputs'], data['data_samples'])

    # ------------------------------------------------------------------- where time goes

    def breakdown(self, steps: int, label: str = STEP) -> Breakdown:
        """Where the time of training steps goes."""
        from mmdistill.seg import fst

        found, each = Breakdown(self.device), self.contestants[label]
        model = each.model
        watched = [
            (model.data_preprocessor, 'forward', 'batch to device'),
            (model, 'read_batch', 'batch to device'),
            (model, 'student_view', "student's view"),
            (model, 'teacher_logits', 'teacher: network'),
            (model, 'pseudo_targets', 'teacher: labels and weights'),
            (model, 'stats', 'teacher: statistics for the log'),
            (model, 'reference_features', 'reference: network'),
            (fst, 'look', 'student: forward'),
            (model, 'sup_losses', 'student: losses'),
            (model, 'unsup_losses', 'student: losses'),
            (model, '_gradients', 'student: backward'),
            (model, '_ready', 'virtual step'),
            (model, '_follow', 'virtual step'),
            (model, '_follow_student', 'EMA'),
            (model, '_real_step', 'optimizer step'),
            (fst, 'add_', 'gradients added'),
        ]
        with found.watch(*watched):
            for index in range(steps):
                with found.part('rest of the step'):
                    each.step(each.batches[index % len(each.batches)])
        return found
