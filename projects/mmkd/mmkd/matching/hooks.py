"""What a distillation writes beside its checkpoints, and what it warns of."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.hooks.teacher_update import bare_model, require
from mmkd.matching.picture import grid
from mmkd.registry import HOOKS


@HOOKS.register_module()
class SyntheticExportHook(Hook):
    """Writes the best synthetic images, and a picture of them, after an evaluation.

    ``WORK_DIR/distilled`` gets ``images_best.pt`` ``(S, C, H, W)``, ``labels_best.pt``
    ``(S, classes)`` logits and ``lr_best.pt``, the three files of the official code;
    ``images_zca_best.pt`` without whitening where there is one; ``hard_labels_best.pt`` ``(S,)``;
    ``distilled.json``, and ``images_best.png``. Every evaluation adds ``grid_iter_N.png``.

    Args:
        key: the score that chooses; the largest is best.
        most: images of a class in a picture.
        scale: pixels of a picture per pixel.
    """

    priority = 'LOW'

    def __init__(self, key: str = 'distilled/soft', most: int = 10, scale: int = 4) -> None:
        self.key, self.most, self.scale = key, most, scale
        self.best: float | None = None

    def before_train(self, runner: Runner) -> None:
        """A training that goes on keeps what was best before."""
        require(runner, self, 'label_logits')
        self.folder = Path(runner.work_dir, 'distilled')
        self.best = None
        record = self.folder / 'distilled.json'
        if record.exists():
            before = json.loads(record.read_text(encoding='utf-8'))
            if before['iter'] <= runner.iter:
                self.best = before['score']

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Writes what is due."""
        if get_rank() or not hasattr(self, 'folder') or not metrics or self.key not in metrics:
            return
        model, score = bare_model(runner), metrics[self.key]
        with torch.no_grad():
            images = model.images.detach().cpu()
            shown = model.source.view(images)
        content = _png(grid(shown, model.ipc, self.most, self.scale))
        _write(self.folder / f'grid_iter_{runner.iter}.png', content)
        if not math.isfinite(score) or (self.best is not None and score <= self.best):
            return
        self.best = score
        tensors = dict(
            images=images,
            labels=model.label_logits.detach().cpu(),
            lr=model.inner_lr.detach().cpu(),
            hard_labels=model.hard_labels.cpu(),
        )
        if model.source.whitening is not None:
            tensors['images_zca'] = shown
        for name, each in tensors.items():
            write_atomic(
                self.folder / f'{name}_best.pt',
                lambda file, each=each: torch.save(each.clone(), file),
            )
        _write(self.folder / 'images_best.png', content)
        about = dict(iter=runner.iter, score=score, key=self.key, ipc=model.ipc)
        _write(self.folder / 'distilled.json', json.dumps(about, indent=1).encode())


def _png(picture: torch.Tensor) -> bytes:
    """A picture as a file's content."""
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, 'PNG')
    return file.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Bytes to a file, whole or not at all."""
    write_atomic(path, lambda file: file.write(content))


@HOOKS.register_module()
class TrajectoryHealthHook(Hook):
    """Warns, once per kind, of a distillation that goes wrong.

    Args:
        interval: iterations between two looks.
        growth: alpha this many times larger or smaller than at first is a warning.
    """

    def __init__(self, interval: int = 50, growth: float = 20.0) -> None:
        self.interval, self.growth = interval, growth
        self._said: set[str] = set()
        self._skipped: list[float] = []
        self._losses: list[torch.Tensor] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Looks every now and then."""
        self._skipped.append(outputs['skipped'])
        self._losses.append(outputs['loss'])
        if len(self._losses) < self.interval:
            return
        losses, share = torch.stack(self._losses), sum(self._skipped) / len(self._skipped)
        self._losses, self._skipped = [], []
        model = bare_model(runner)
        alpha, first = model.inner_lr.item(), model.first_inner_lr
        if not bool(losses.isfinite().all()):
            self._warn(runner, 'nan', 'a loss is not finite: a smaller step size or images rate')
        elif float(losses.median()) >= 1:
            self._warn(
                runner,
                'far',
                f'students end further from the target than they began (loss {losses.median():.2f})'
                ': fewer steps, a smaller inner_lr or an earlier range of epochs',
            )
        if share > 0.5:
            self._warn(
                runner, 'skipped', f'{share:.0%} of the segments are skipped: raise the threshold'
            )
        if alpha <= torch.tensor(model.min_inner_lr).item():
            self._warn(runner, 'floor', 'inner_lr fell to min_inner_lr: lower its rate')
        elif not first / self.growth < alpha < first * self.growth:
            self._warn(runner, 'alpha', f'inner_lr went from {first:g} to {alpha:g}')
        if not bool(model.images.isfinite().all()):
            self._warn(runner, 'pixels', 'images have values that are not finite')

    def _warn(self, runner: Runner, kind: str, text: str) -> None:
        """Says it once."""
        if kind not in self._said:
            self._said.add(kind)
            runner.logger.log(logging.WARNING, f'distillation: {text}')
