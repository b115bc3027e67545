"""A semi-supervised segmentor with batches of its training, one step of it taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hidden_labels import HiddenLabels
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch.utils.data import BatchSampler

from mmdistill.core.collate import branch_collate, sample_branches
from mmdistill.core.compat import allow_mmengine_globals
from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import PositionedBatchSampler, PositionedFetch
from mmdistill.core.samplers import RatioSampler
from mmdistill.registry import DATA_SAMPLERS, DATASETS, MODELS
from mmdistill.seg.fst import FST
from mmdistill.seg.pixels import pseudo_labels
from mmdistill.seg.seg_batch import SegBatch, StudentView
from mmdistill.seg.seg_plot import Palette
from mmdistill.seg.semi_seg import SemiSeg

Keys = list[tuple[int, int]]
"""Seed and index of every sample of a batch."""


@dataclass(frozen=True)
class Training:
    """What a config trains, and on what.

    Attributes:
        model: in training mode.
        dataset: of all sources.
        sampler: its order.
        seed: of the transforms.
        source: index of the unlabelled source in the sampler, None where batches have none.
        hidden: finds labels of the unlabelled images that training does not read.
    """

    model: SemiSeg
    dataset: Any
    sampler: RatioSampler
    seed: int
    source: int | None
    hidden: HiddenLabels | None

    @property
    def palette(self) -> Palette:
        """Classes and their colours."""
        return Palette.of(self.dataset.metainfo)

    @property
    def per_step(self) -> int:
        """Unlabelled images (labelled, where there are none) of the real pass of a step."""
        count = sum(self.sampler.counts) if self.source is None else self.slots[1]
        fresh = isinstance(self.model, FST) and self.model.fresh
        return count // (self.model.ahead + 1) if fresh else count

    @property
    def slots(self) -> tuple[int, int]:
        """First place of the unlabelled images in a batch, and their number."""
        counts = self.sampler.counts
        return sum(counts[: self.source]), counts[self.source]

    def number(self, index: int) -> int:
        """Of an image in its source."""
        return index - max(each for each in self.sampler.offsets if each <= index)

    def keys(self, iteration: int, wanted: Sequence[int] = ()) -> Keys:
        """The batch of an iteration, as the loop reads it on one rank.

        Args:
            iteration: counted from 0.
            wanted: numbers of unlabelled images that take the first places.

        Raises:
            UserError: there is no such unlabelled image, or batches have none.
        """
        base = BatchSampler(self.sampler, self.sampler.batch_size, drop_last=True)
        batches = PositionedBatchSampler(base, self.seed, infinite=True)
        batches.seek(iteration)
        keys = next(iter(batches))
        if wanted and self.source is None:
            raise UserError('batches of this config have no unlabelled images to choose')
        for place, number in enumerate(wanted):
            size = self.sampler.sizes[self.source]
            if not 0 <= number < size:
                raise UserError(f'no unlabelled image {number}: there are {size}, from 0 on')
            slot = self.slots[0] + place
            keys[slot] = (keys[slot][0], self.sampler.offsets[self.source] + number)
        return keys


@dataclass(frozen=True)
class Pass:
    """One forward pass: ``images`` in, the student sees ``view``."""

    name: str
    images: SegBatch
    view: StudentView


@dataclass(frozen=True)
class Step:
    """One training step; tensors on the CPU.

    Attributes:
        numbers: of the unlabelled images (of the labelled ones, where there are none).
        files: their names.
        passes: the real one first, then virtual ones that see something else; none where
            nothing is unlabelled.
        batch: images of the real pass, with the hidden labels where they are known.
    """

    numbers: list[int]
    files: list[str]
    passes: list[Pass]
    batch: SegBatch


@dataclass(frozen=True)
class Targets:
    """What the teacher makes of the unlabelled images of a real pass; (B, H, W).

    Attributes:
        labels: of the whole images.
        confidence: probability of those labels.
        weight: what each pixel of them counts.
        mixed: labels that the student follows in its view.
    """

    labels: torch.Tensor
    confidence: torch.Tensor
    weight: torch.Tensor
    mixed: torch.Tensor


def build(
    config: Path, checkpoint: Path | None, options: dict | None = None, truth: str | None = None
) -> Training:
    """Model, data and order of a config.

    Args:
        config: of an FST or SemiSeg training.
        checkpoint: weights of a run, or of the plain segmentor; None leaves them as initialised.
        options: overrides by dotted key.
        truth: ``seg_map_path`` of the hidden labels, see :class:`HiddenLabels`.

    Raises:
        UserError: a model or a sampler of another kind.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options or {})
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    allow_mmengine_globals()
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if not isinstance(model, SemiSeg):
        raise UserError(f'{config}: {type(model).__name__} makes no pseudo labels of pixels')
    if checkpoint is not None:
        load_checkpoint(model, str(checkpoint), map_location='cpu', logger='silent')
    loader = cfg.train_dataloader
    dataset = DATASETS.build(loader.dataset)
    sampler = DATA_SAMPLERS.build(loader.sampler, default_args=dict(dataset=dataset))
    if not isinstance(sampler, RatioSampler):
        raise UserError(f'{config}: pictures need a RatioSampler, got {type(sampler).__name__}')
    source = unlabeled_source(dataset, sampler)
    hidden = None if source is None else HiddenLabels.find(loader.dataset, source, truth)
    seed = int(cfg.get('randomness', {}).get('seed') or 0)
    return Training(model.train(), dataset, sampler, seed, source, hidden)


def unlabeled_source(dataset: Any, sampler: RatioSampler) -> int | None:
    """The first source in the batches whose samples are for the teacher."""
    for source, count in enumerate(sampler.counts):
        if count and 'unsup_teacher' in sample_branches(dataset[sampler.offsets[source]]):
            return source
    return None


def steps(training: Training, wanted: Sequence[int], count: int, iteration: int) -> Iterator[Step]:
    """Steps that together show the wanted images, or ``count`` that training sees in a row.

    Args:
        training: of :func:`build`.
        wanted: numbers of unlabelled images, shown at the one iteration.
        count: without wanted ones, images from the iteration on.
        iteration: number of the step, the key of all draws.
    """
    each = training.per_step
    if wanted:
        for start in range(0, len(wanted), each):
            part = wanted[start : start + each]
            yield take_step(training, training.keys(iteration, part), iteration, len(part))
        return
    for index, start in enumerate(range(0, count, each)):
        keys = training.keys(iteration + index)
        yield take_step(training, keys, iteration + index, min(each, count - start))


@torch.no_grad()
def take_step(training: Training, keys: Keys, iteration: int, count: int) -> Step:
    """Images and views of one step, by the code that training runs.

    Args:
        training: of :func:`build`.
        keys: of the batch.
        iteration: number of the step.
        count: how many unlabelled images are shown.
    """
    model = training.model
    model.cur_iter = iteration
    samples = PositionedFetch(training.dataset)(keys)
    batch = read(model, samples)
    first, source = (0, 'sup') if training.source is None else (training.slots[0], 'unsup_teacher')
    shown = range(first, first + count)
    files = [Path(samples[i]['data_samples'][source].metainfo['img_path']).name for i in shown]
    numbers = [training.number(keys[i][1]) for i in shown]
    if batch.unlabeled is None:
        return Step(numbers, files, [], batch)
    if batch.hidden is None and training.hidden is not None:
        offset = training.sampler.offsets[training.source]
        places = range(first, first + training.slots[1])
        batch = training.hidden.fill(model, samples, batch, keys, places, offset)
    found = passes(model, batch)
    return Step(numbers, files, found, found[0].images)


def read(model: SemiSeg, samples: Sequence[Any]) -> SegBatch:
    """A batch as the loss gets it."""
    data = model.data_preprocessor(branch_collate(samples), True)
    return model.read_batch(data['inputs'], data['data_samples'])


def passes(model: SemiSeg, batch: SegBatch) -> list[Pass]:
    """What the student sees in the real pass, and in virtual ones where that differs."""
    if not isinstance(model, FST):
        return [Pass('real pass', batch, model.student_view(batch, 0))]
    real, virtual = model.split(batch)
    found = [Pass('real pass', real, model.student_view(real, 0))]
    if model.share and not model.fresh:
        return found
    for number, images in enumerate(virtual, start=1):
        view = model.student_view(images, 0 if model.share else number)
        found.append(Pass(f'virtual pass {number}', images, view))
    return found


@torch.no_grad()
def targets(model: SemiSeg, step: Step) -> Targets:
    """Pseudo labels of a step's real pass by the teacher as it is, before any virtual step.

    Raises:
        UserError: nothing is unlabelled.
    """
    if not step.passes:
        raise UserError('batches of this config have no unlabelled images: nothing is taught')
    real = step.passes[0]
    confidence = pseudo_labels(model.teacher_logits(real.images.unlabeled))[1]
    labels, weight = model.pseudo_targets(real.images)
    mixed, _ = model.view_targets(real.images, real.view, labels, weight)
    return Targets(labels, confidence, torch.ones_like(confidence) if weight is None else weight,
                   mixed)  # fmt: skip


def pictures(model: SemiSeg, images: torch.Tensor) -> np.ndarray:
    """(B, H, W, 3) uint8 RGB from normalised images (BGR where the host does not swap)."""
    host = model.data_preprocessor.data_preprocessor
    if hasattr(host, 'mean'):
        images = images * host.std.view(-1, 1, 1) + host.mean.view(-1, 1, 1)
    if host.channel_conversion is False:
        images = images.flip(1)
    return images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
