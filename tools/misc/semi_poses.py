"""A semi-supervised pose model with people of its training set, one step of it taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import load_checkpoint

from mmdistill.core.compat import allow_mmengine_globals
from mmdistill.core.errors import UserError
from mmdistill.pose.peaks import decode
from mmdistill.pose.pose_plot import Joints, PosePanel, save_poses
from mmdistill.pose.trs import TRS
from mmdistill.registry import MODELS


@dataclass
class PoseStep:
    """What one training step makes of unlabelled people; (B, ...) on the CPU.

    Attributes:
        ids: of the people.
        easy: (B, H, W, 3) uint8 the view of teacher and reviewer.
        mixed: the same with keypoints mixed, before the warp.
        hard: the student's view.
        heatmaps: (B, h, w) the highest joint of what is taught, in the easy view.
        hard_heatmaps: likewise, in the hard view.
        peaks: by branch, (B, K, 2) joints in pixels of its view, and (B, K) confidences.
        truth: (B, K, 2) hidden joints in the easy view, and (B, K) bool; None where unknown.
    """

    ids: list
    easy: np.ndarray
    mixed: np.ndarray
    hard: np.ndarray
    heatmaps: np.ndarray
    hard_heatmaps: np.ndarray
    peaks: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    truth: tuple[np.ndarray, np.ndarray] | None = None

    def panels(self, row: int) -> list[PosePanel]:
        """The views of one person, side by side."""
        teachers = [self.joints(name, row) for name in ('teacher', 'reviewer')]
        teachers = [each for each in teachers if each is not None]
        truth = []
        if self.truth is not None:
            places, known = self.truth
            truth = [Joints('hidden truth', places[row], shown=known[row])]
        student = [self.joints('student', row)]
        return [
            PosePanel('easy view', self.easy[row], None, truth),
            PosePanel('pseudo heatmaps', self.easy[row], self.heatmaps[row], teachers),
            PosePanel('keypoints mixed', self.mixed[row]),
            PosePanel('hard view', self.hard[row]),
            PosePanel('what the student is to find', self.hard[row], self.hard_heatmaps[row]),
            PosePanel('what it finds', self.hard[row], None, student),
        ]

    def joints(self, branch: str, row: int) -> Joints | None:
        """Peaks of a branch, None where the method has no such branch."""
        if branch not in self.peaks:
            return None
        places, confidences = (each[row] for each in self.peaks[branch])
        return Joints(branch, places, confidences, confidences > 0)


def build(config: Path, checkpoint: Path | None, options: dict | None = None) -> tuple[Any, Any]:
    """Model and training dataset of a config.

    Args:
        config: of a TRS training, or of a peer that is a setting of it.
        checkpoint: weights of a run, or of the plain estimator; None leaves them as initialised.
        options: overrides by dotted key.

    Raises:
        UserError: the model is of another kind.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options or {})
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    allow_mmengine_globals()
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if not isinstance(model, TRS):
        raise UserError(f'{config}: {type(model).__name__} makes no pseudo heatmaps')
    if checkpoint is not None:
        load_checkpoint(model, str(checkpoint), map_location='cpu', logger='silent')
    return model.train(), DATASETS.build(cfg.train_dataloader.dataset)


def choose(dataset: Any, wanted: Sequence[int], count: int) -> list[int]:
    """Rows of the wanted unlabelled people by id, or of ``count`` of them spread over the data.

    Raises:
        UserError: somebody is not in the data set.
    """
    first = dataset.source_sizes[0]
    ids = dataset.unlabeled.ids.tolist()
    for each in wanted:
        if each not in ids:
            raise UserError(f'nobody has the id {each} among {len(ids)} unlabelled people')
    if wanted:
        return [first + ids.index(each) for each in wanted]
    count = min(count, len(ids))
    return [first + index * len(ids) // count for index in range(count)]


@torch.no_grad()
def take_step(model: TRS, dataset: Any, rows: Sequence[int], iteration: int = 0) -> PoseStep:
    """The views and targets of one step, by the code that training runs.

    Args:
        model: of :func:`build`.
        dataset: its people.
        rows: of unlabelled people, one batch.
        iteration: number of the step; draws differ between iterations.
    """
    model.cur_iter = iteration
    data = model.data_preprocessor(pseudo_collate([dataset[row] for row in rows]), True)
    batch = model.read_batch(data['inputs'], data['data_samples'])
    kept, hard_view, hard_images = {}, model.hard_view, model.hard_images
    model.hard_images = _kept(model.hard_images, kept, 'hard')
    model.terms = _kept(model.terms, kept, 'terms')
    try:
        pseudo = model.pseudo_targets(batch)
    finally:
        del model.hard_images, model.terms
    if pseudo is None:
        raise UserError('teacher and reviewer have no weight: nothing is taught')
    source = model.student if model.mode == 'self' else model.teacher
    maps = {'teacher': model.easy_heatmaps(source, batch.easy)}
    if model.reviewer is not None:
        maps['reviewer'] = model.easy_heatmaps(model.reviewer, batch.easy)
    maps['student'] = model.easy_heatmaps(model.student, pseudo.images)
    # the same draws without the warp: what Keypoint-Mix does by itself
    model.hard_view = None
    try:
        mixed, _ = hard_images(batch, *kept['places'], 0)
    finally:
        model.hard_view = hard_view
    found = {name: decode(each, model.grid) for name, each in maps.items()}
    return PoseStep(
        ids=[each.metainfo['id'] for each in batch.unlabeled_samples],
        easy=pictures(model, batch.easy),
        mixed=pictures(model, mixed),
        hard=pictures(model, pseudo.images),
        heatmaps=_highest(kept['terms']),
        hard_heatmaps=_highest(pseudo.terms),
        peaks={
            name: (model.grid.to_input(places).numpy(), sure.numpy())
            for name, (places, sure) in found.items()
        },
        truth=hidden_truth(batch),
    )


def _kept(function: Any, kept: dict, name: str) -> Any:
    """The function, which leaves its result (and joints, if it gets any) behind."""

    def keeping(*args: Any) -> Any:
        kept[name] = function(*args)
        if name == 'hard':
            kept['places'] = args[1:3]
        return kept[name]

    return keeping


def _highest(terms: Sequence) -> np.ndarray:
    """(B, h, w) the highest joint of what is followed."""
    return terms[0][0].amax(1).numpy()


def pictures(model: TRS, images: torch.Tensor) -> np.ndarray:
    """(B, H, W, 3) uint8 RGB from normalised images."""
    host = model.data_preprocessor.host
    images = images * host.std.view(-1, 1, 1) + host.mean.view(-1, 1, 1)
    return images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def hidden_truth(batch: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Hidden joints in the easy view, and which are known; None where the data have none."""
    samples = [each.metainfo for each in batch.unlabeled_samples]
    if any('hidden_keypoints' not in each for each in samples):
        return None
    places = torch.as_tensor(np.stack([each['hidden_keypoints'] for each in samples]))
    known = torch.as_tensor(np.stack([each['hidden_visible'] for each in samples])) > 0
    places = batch.crops.joints(places, batch.flip_indices)
    return places.numpy(), batch.crops.swap(known, batch.flip_indices).numpy()


def draw(model: TRS, dataset: Any, rows: Sequence[int], out: Path, name: str, step: int) -> None:
    """Writes and names one PNG per person."""
    for start in range(0, len(rows), 4):
        found = take_step(model, dataset, rows[start : start + 4], step)
        for row, person in enumerate(found.ids):
            path = out / f'{name}_{person}.png'
            save_poses(path, found.panels(row), f'person {person}, unlabelled')
            print(path)
