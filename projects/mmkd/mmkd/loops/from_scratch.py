"""Evaluation of synthetic images by networks that are trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.rng import key_generator
from mmkd.datasets.prepared import PreparedImages
from mmkd.evaluation.from_scratch import FromScratch, accuracy, spread
from mmkd.loops.scoring import ScoringLoop
from mmkd.matching.initial import hard_logits, random_rows
from mmkd.registry import LOOPS, TASK_UTILS

ROWS = ('soft', 'hard', 'random', 'full')
"""What networks are trained on: the synthetic images with their labels, or with hard ones; as many
real images drawn at random; all real images."""


@LOOPS.register_module()
class FromScratchLoop(ScoringLoop):
    """Trains fresh networks on the model's images and tests them.

    Scores are ``distilled/ROW`` and ``distilled/ROW_std`` over the networks of a row, in per cent;
    where ``networks`` names several architectures those of the first one, and
    ``distilled/NETWORK/ROW`` of each. Networks of a run are the same for all rows and at every
    evaluation. Ranks share the work.

    Args:
        runner: the runner.
        dataloader: of a :class:`PreparedImages` to test on: a part of the training images that is
            held out, for the choice of a checkpoint, or the test set.
        networks: configs by name; None: the network of the experts.
        runs: networks per row.
        rows: some of :data:`ROWS`.
        full_epochs: of networks on all real images.
        real_lr: step size on real images; None: the ``inner_lr`` of the config.
        parity: chooses checkpoints as the official code does, by the test set.
        augment: config of a :class:`mmkd.augment.dsa.DSA`, or None.
        evaluator: not used; the runner asks for one.
        **settings: see :class:`FromScratch`.

    Raises:
        UserError: other data, or an unknown row.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        networks: Mapping[str, Mapping[str, Any]] | None = None,
        runs: int = 5,
        rows: Sequence[str] = ('soft',),
        full_epochs: int = 50,
        real_lr: float | None = None,
        parity: bool = False,
        augment: Mapping[str, Any] | None = None,
        evaluator: Any = None,
        **settings: Any,
    ) -> None:
        if parity:
            dataloader = runner.cfg.test_dataloader
        super().__init__(runner, dataloader)
        if runs < 1:
            raise UserError(f'runs of FromScratchLoop must be at least 1, got {runs}')
        if unknown := sorted(set(rows) - set(ROWS)):
            raise UserError(f'rows of FromScratchLoop: {unknown} is none of {", ".join(ROWS)}')
        if not isinstance(self.dataloader.dataset, PreparedImages):
            raise UserError(
                'FromScratchLoop tests on dataset=dict(type="mmkd.PreparedImages", dataset=...), '
                f'got {type(self.dataloader.dataset).__name__}'
            )
        self.networks, self.runs, self.rows = networks, runs, tuple(rows)
        self.full_epochs, self.real_lr = full_epochs, real_lr
        built = None if augment is None else TASK_UTILS.build(dict(augment))
        self.how = FromScratch(augment=built, **settings)

    def scores(self) -> dict[str, float]:
        """Mean and deviation over the networks of every kind and row."""
        model = bare_model(self.runner)
        networks = self.networks or {'': model.network_cfg}
        test = self.dataloader.dataset
        jobs = [(n, row, run) for n in networks for row in self.rows for run in range(self.runs)]
        rank, world = get_dist_info()
        found = torch.zeros(len(jobs), dtype=torch.float64)
        for number, (name, row, run) in enumerate(jobs):
            if number % world == rank:
                images, labels, lr, epochs = self._data(model, row, run)
                network = self.how.train(networks[name], images, labels, lr, run, epochs)
                found[number] = accuracy(network, test.images, test.labels)
        all_reduce(found)
        metrics: dict[str, float] = {}
        for at in range(0, len(jobs), self.runs):
            name, row, _ = jobs[at]
            mean, std = spread(found[at : at + self.runs].tolist())
            keys = [f'distilled/{row}'] if name == next(iter(networks)) else []
            if self.networks:
                keys.append(f'distilled/{name}/{row}')
            for key in keys:
                metrics[key], metrics[f'{key}_std'] = mean, std
        return metrics

    def _data(self, model: Any, row: str, run: int) -> tuple[Tensor, Tensor, float, int | None]:
        """Images, logits of labels, step size and epochs of a row."""
        images, device = model.images, model.images.device
        if row == 'soft':
            return images, model.label_logits, model.inner_lr.item(), None
        if row == 'hard':
            hard = hard_logits(model.hard_labels, model.num_classes)
            return images, hard, model.inner_lr.item(), None
        real, lr = model.source, self.real_lr or model.first_inner_lr
        chosen = slice(None)
        if row == 'random':
            draw = key_generator(self.how.seed, run, 2)
            chosen = random_rows(real.labels, model.ipc, model.num_classes, draw)
        labels = hard_logits(real.labels[chosen], model.num_classes)
        epochs = self.full_epochs if row == 'full' else None
        return real.images[chosen].to(device), labels.to(device), lr, epochs


@LOOPS.register_module()
class FromScratchTestLoop(FromScratchLoop):
    """:class:`FromScratchLoop` as ``test_cfg``."""

    stage = 'test'
