"""What a distillation needs around its iterations: progress, class means, a record of ratios."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_dist_info, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model, require
from mmdistill.core.modes import evaluating
from mmdistill.core.rng import preserve_rng
from mmkd.datasets.subsets import unchanged
from mmkd.distillation.knowledge import cross_entropy_per_sample, distillation_per_sample
from mmkd.models.frozen_teacher import FrozenTeacher
from mmkd.registry import HOOKS


@HOOKS.register_module()
class DistillationHook(Hook):
    """Tells a :class:`Distiller` how far the training is, in [0, 1)."""

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Refuses other models."""
        require(runner, self, 'progress')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Iterations count through, and go on where a resumed run goes on."""
        bare_model(runner).progress = runner.iter / runner.max_iters


@torch.no_grad()
def class_means(
    teacher: FrozenTeacher,
    dataset: Dataset,
    collate: Any,
    num_classes: int,
    batch_size: int,
    device: torch.device | str = 'cpu',
    temperature: float = 1.0,
    workers: int = 0,
) -> tuple[Tensor, Tensor]:
    """Mean probabilities of a teacher over the samples of each class (arXiv:2312.15112, Eq. 9).

    Every process asks about its share of the samples.

    Args:
        teacher: see :class:`FrozenTeacher`.
        dataset: whose samples are the same each time they are read.
        collate: makes batches of samples.
        num_classes: C.
        batch_size: of the passes.
        device: where the teacher runs.
        temperature: of the probabilities.
        workers: processes that read samples.

    Returns:
        Means ``(C, C)``, rows of 1 / C for classes without a sample, and numbers of samples
        ``(C,)``.
    """
    rank, world = get_dist_info()
    part = Subset(dataset, range(rank, len(dataset), world))
    # a generator of its own: a loader draws from the global one, which a resumed training restored
    loader = DataLoader(
        part, batch_size, collate_fn=collate, num_workers=workers, generator=torch.Generator()
    )
    sums = torch.zeros(num_classes, num_classes, dtype=torch.float64, device=device)
    counts = torch.zeros(num_classes, dtype=torch.float64, device=device)
    for number, batch in enumerate(loader):
        inputs = {name: each.to(device) for name, each in batch['inputs'].items()}
        labels = torch.as_tensor(batch['labels']).to(device)
        logits = teacher(inputs).logits
        probabilities = (logits / temperature).softmax(-1).double()
        sums.index_add_(0, labels, probabilities)
        counts += F.one_hot(labels, num_classes).sum(0)
        if number % 50 == 0 or number + 1 == len(loader):
            print_log(f'class means: {number + 1} of {len(loader)} batches', 'current')
    for each in (sums, counts):
        all_reduce(each)
    means = sums / counts.clamp(min=1).unsqueeze(1)
    means[counts == 0] = 1 / num_classes
    return means.float(), counts.long()


@HOOKS.register_module()
class ClassMeanHook(Hook):
    """Fills the teacher's class means before a training, from the training samples alone.

    They are buffers of the model: a training that goes on has them from its checkpoint.

    Args:
        batch_size: of the teacher's passes.
    """

    def __init__(self, batch_size: int = 128) -> None:
        self.batch_size = batch_size

    def before_train(self, runner: Runner) -> None:
        """Asks the teacher, unless the means are there already.

        Raises:
            UserError: the model has no use for them.
        """
        model = bare_model(runner)
        if not hasattr(model, 'class_mean'):
            raise UserError(
                f'ClassMeanHook: the weighter of this {type(model).__name__} reads no class means; '
                'remove the hook'
            )
        if int(model.class_count.sum()):
            return
        loader = runner.train_dataloader
        means, counts = class_means(
            model.teacher,
            unchanged(loader.dataset),
            loader.collate_fn,
            len(model.class_mean),
            self.batch_size,
            model.class_mean.device,
            getattr(model.weighter, 'feature_temperature', 1.0),
            loader.num_workers,
        )
        model.class_mean.copy_(means)
        model.class_count.copy_(counts)
        if missing := torch.nonzero(counts == 0).flatten().tolist():
            print_log(
                f'no training sample of classes {missing[:8]}: their mean is uniform',
                'current',
                logging.WARNING,
            )


COLUMNS = ('ratio', 'distillation', 'labels', 'teacher_right', 'student_right', 'distance')
"""What is noted of a sample: its weight of distillation, its two losses, who is right, |S - T|."""


@HOOKS.register_module()
class RatioRecordHook(Hook):
    """Notes the ratios of the same training samples during a training, and draws them.

    Writes ``ratios/iter_N.npz`` (arrays by the names in :data:`COLUMNS`, and ``index``) and, at
    the end, ``ratios.png``: how ratios are spread over time, and the mean ratio where the teacher
    is right or wrong and student and teacher are near or far (as the paper's Table 4).

    Args:
        interval: iterations between two records; there is one at the end too.
        num_samples: at most; evenly spread over the data set.
        batch_size: of the passes.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 500, num_samples: int = 2000, batch_size: int = 128) -> None:
        self.interval, self.num_samples, self.batch_size = interval, num_samples, batch_size

    def before_train(self, runner: Runner) -> None:
        """Refuses other models."""
        require(runner, self, 'weighter', 'knowledge')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Notes the ratios, at the interval and after the last iteration."""
        done = runner.iter + 1
        if (done % self.interval and done != runner.max_iters) or get_rank():
            return
        loader = runner.train_dataloader
        dataset = unchanged(loader.dataset)
        count = min(self.num_samples, len(dataset))
        index = np.linspace(0, len(dataset) - 1, count).round().astype(int)
        found = recorded_ratios(
            bare_model(runner), Subset(dataset, index.tolist()), loader.collate_fn, self.batch_size
        )
        folder = Path(runner.work_dir, 'ratios')
        folder.mkdir(exist_ok=True)

        def write(file: Any) -> None:
            np.savez_compressed(file, index=index, **found)

        write_atomic(folder / f'iter_{done}.npz', write)
        for right in (True, False):
            chosen = found['ratio'][found['teacher_right'] == right]
            if len(chosen):
                name = 'right' if right else 'wrong'
                runner.message_hub.update_scalar(
                    f'train/kd/ratio_teacher_{name}', float(chosen.mean())
                )

    def after_train(self, runner: Runner) -> None:
        """Draws what was noted."""
        folder = Path(runner.work_dir, 'ratios')
        if get_rank() == 0 and folder.is_dir():
            from mmkd.distillation.ratio_plot import draw_ratios

            draw_ratios(folder, Path(runner.work_dir, 'ratios.png'))


@torch.no_grad()
def recorded_ratios(
    model: Any, dataset: Dataset, collate: Any, batch_size: int = 128
) -> dict[str, np.ndarray]:
    """Ratios and losses of samples, with the student in evaluation mode; draws no random number.

    Args:
        model: a :class:`Distiller`.
        dataset: of training samples that are the same each time they are read.
        collate: makes batches of samples.
        batch_size: of the passes.

    Returns:
        ``(N,)`` arrays by the names in :data:`COLUMNS`.
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in COLUMNS}
    loader = DataLoader(dataset, batch_size, collate_fn=collate, generator=torch.Generator())
    with evaluating(model):
        for batch in loader:
            k = model.knowledge(**model.data_preprocessor(batch, False))
            student = k.student.float()
            mine, theirs = student.softmax(-1), k.teacher.softmax(-1)
            found = dict(
                ratio=model.weights(k)[0],
                distillation=distillation_per_sample(student, k.teacher, k.temperature),
                labels=cross_entropy_per_sample(student, k.labels),
                teacher_right=k.teacher.argmax(-1) == k.labels,
                student_right=student.argmax(-1) == k.labels,
                distance=torch.linalg.vector_norm(mine - theirs, dim=-1),
            )
            for name, each in found.items():
                rows[name].append(each.cpu())
    return {name: torch.cat(each).numpy() for name, each in rows.items()}


@HOOKS.register_module()
class HeldOutValHook(Hook):
    """Scores of held-out samples beside those of every validation, as ``val/held_out/NAME``.

    Settings that are not learned, a fixed ratio say, are chosen by these and not by the test set.

    Args:
        dataloader: of the held-out samples.
        evaluator: of their scores.
    """

    def __init__(self, dataloader: Mapping[str, Any], evaluator: Mapping[str, Any]) -> None:
        self.dataloader, self.evaluator = dict(dataloader), dict(evaluator)

    def before_train(self, runner: Runner) -> None:
        """Builds both."""
        self._loader = runner.build_dataloader(self.dataloader, seed=runner.seed)
        self._scores = runner.build_evaluator(self.evaluator)
        self._scores.dataset_meta = getattr(self._loader.dataset, 'metainfo', None)

    @torch.no_grad()
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Runs the model over the held-out samples."""
        with evaluating(runner.model), preserve_rng():
            for batch in self._loader:
                self._scores.process(data_samples=runner.model.val_step(batch), data_batch=batch)
        for name, value in self._scores.evaluate(len(self._loader.dataset)).items():
            runner.message_hub.update_scalar(f'val/held_out/{name}', value)
