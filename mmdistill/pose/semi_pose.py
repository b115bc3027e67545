"""Semi-supervised top-down pose on mmpose: the part that every method shares.

The loader gives crops as bytes, the easy view. Everything else is made here, on the device and in
batches: normalisation, targets of labelled people, and the hard view of the others, whose images
and pseudo heatmaps move together. Every random number is a function of (seed, iteration, rank), so
a resumed training draws what an unbroken one draws.

A method says what unlabelled people teach (:meth:`SemiPose.pseudo_targets`); without one,
:class:`SemiPose` itself is the supervised baseline on labelled people.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmpose.models.heads import HeatmapHead
from mmpose.structures import PoseDataSample
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmdistill.core.semi_model import SemiModel
from mmdistill.pose.losses import heatmap_mse
from mmdistill.pose.multi_level import MultiLevelHeads
from mmdistill.pose.targets import TargetMaker
from mmdistill.pose.views import Affine, check_flip_indices
from mmdistill.registry import MODELS


@dataclass(frozen=True)
class CropBatch:
    """Crops of labelled and unlabelled people.

    Attributes:
        labeled: (B_l, 3, H, W) normalised images of labelled people.
        points: (B_l, K, 2) their joints in input pixels.
        visible: (B_l, K) weights of their joints.
        easy: (B_u, 3, H, W) normalised images of the others.
        second: (B_u, 3, H, W) second crops of the same people, or None.
        crops: maps from image pixels to pixels of these (first) crops.
        to_second: maps from the first crop to the second, in input pixels, or None.
        flip_indices: (K,) joint that each one becomes in a mirror.
        unlabeled_samples: data samples of the unlabelled people.
    """

    labeled: Tensor
    points: Tensor
    visible: Tensor
    easy: Tensor
    second: Tensor | None
    crops: Affine
    to_second: Affine | None
    flip_indices: Tensor
    unlabeled_samples: list[PoseDataSample]


Term = tuple[Tensor, Tensor | None, float]
"""(B, K, h, w) heatmaps, their (B, K) weights (None: all 1) and the weight of the squared error."""


@dataclass(frozen=True)
class PseudoTargets:
    """What unlabelled people teach in one step; nothing here has a gradient.

    Attributes:
        images: (B_u, 3, H, W) the student's hard view.
        terms: what its heatmaps are to follow, in that view.
    """

    images: Tensor
    terms: list[Term]


@MODELS.register_module()
class SemiPose(SemiModel):
    """Student and teacher pose estimators; by itself the supervised baseline.

    Args:
        estimator: config of an mmpose ``TopdownPoseEstimator`` whose ``HeatmapHead`` has an MSRA
            or a plain UDP codec.
        aux: auxiliary levels of the student, see
            :class:`mmdistill.pose.multi_level.AuxLevel`; none by default.
        joint_forward: one forward pass of the student over labelled and hard views, which then
            share batch statistics; False: one pass each, as the published codes do.
        seed: first key of all random draws.
        semi_train_cfg: ``sup_weight`` of the labelled loss (default 1).
        semi_test_cfg: ``predict_on``, the branch that predicts.
        init_cfg: as in mmengine.

    Raises:
        UserError: an estimator with another head or codec.
    """

    def __init__(
        self,
        estimator: dict,
        aux: Sequence[Mapping[str, Any]] = (),
        joint_forward: bool = True,
        seed: int = 0,
        semi_train_cfg: dict | None = None,
        semi_test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        host = copy.deepcopy(estimator.get('data_preprocessor')) or dict(
            type='PoseDataPreprocessor'
        )
        super().__init__(
            estimator,
            semi_train_cfg=semi_train_cfg,
            semi_test_cfg=semi_test_cfg,
            data_preprocessor=dict(type='mmdistill.SemiPosePreprocessor', host=host),
            init_cfg=init_cfg,
        )
        self.maker = TargetMaker.from_codec(heatmap_head(self.student).decoder)
        self.grid = self.maker.grid
        self.levels = MultiLevelHeads(self.student, aux, self.grid)
        self.joint_forward, self.seed = joint_forward, seed

    # ---------------------------------------------------------------- one training step

    def loss(self, inputs: Tensor, data_samples: list[PoseDataSample]) -> dict[str, Tensor]:
        """Losses of one step; the unlabelled part is left out while its weight is 0.

        Args:
            inputs: (B, 3, H, W) normalised crops, or (B, 2, 3, H, W) with second crops.
            data_samples: as ``PackSemiPose`` makes them.

        Returns:
            ``sup_loss_kpt`` of the main head and ``sup_loss_<stage>`` of auxiliary heads;
            ``unsup_loss_*`` likewise, times the buffer ``unsup_weight``.
        """
        return self.batch_losses(self.read_batch(inputs, data_samples))

    def batch_losses(self, batch: CropBatch) -> dict[str, Tensor]:
        """Losses of a sorted batch."""
        pseudo = None
        if self.unsup_active and len(batch.easy):
            with torch.no_grad():
                pseudo = self.pseudo_targets(batch)
        labeled, hard = self.student_levels(batch.labeled, pseudo.images if pseudo else None)
        losses = {}
        if labeled is not None:
            found = self.labeled_losses(labeled, batch)
            losses.update(self.weighted(found, 'sup', self.sup_weight))
        if pseudo is not None:
            found = self.unlabeled_losses(hard, pseudo)
            losses.update(self.weighted(found, 'unsup', self.unsup_weight))
        return losses

    def pseudo_targets(self, batch: CropBatch) -> PseudoTargets | None:
        """What unlabelled people teach; here nothing. Runs without gradient."""
        return None

    def read_batch(self, inputs: Tensor, data_samples: list[PoseDataSample]) -> CropBatch:
        """Sorts a batch into labelled and unlabelled people; joints of the latter are unread."""
        device = inputs.device
        flags = [bool(sample.metainfo['labeled']) for sample in data_samples]
        rows = [torch.tensor([i for i, f in enumerate(flags) if f == w]) for w in (True, False)]
        labeled, unlabeled = (each.long().to(device, non_blocking=True) for each in rows)
        first = inputs[:, 0] if inputs.dim() == 5 else inputs
        known = [s.gt_instances for s, flag in zip(data_samples, flags, strict=True) if flag]
        flip = check_flip_indices(list(data_samples[0].metainfo['flip_indices']))
        joints = len(flip)
        points = [torch.as_tensor(each.keypoints[0]) for each in known]
        visible = [torch.as_tensor(each.keypoints_visible[0]) for each in known]
        samples = [s for s, flag in zip(data_samples, flags, strict=True) if not flag]
        two = inputs.dim() == 5
        matrices = [np.asarray(each.metainfo['crop'], np.float64) for each in samples]
        shape = (len(samples), 2 if two else 1, 2, 3)
        crops = torch.as_tensor(np.stack(matrices) if samples else np.zeros(shape))
        crops = crops.view(shape).to(device, non_blocking=True)
        crops = [Affine(each[..., :2], each[..., 2]) for each in crops.unbind(1)]
        moves = crops[1] @ crops[0].inverse() if two and samples else None
        return CropBatch(
            labeled=first[labeled],
            points=(torch.stack(points) if points else torch.zeros(0, joints, 2))
            .to(device)
            .float(),
            visible=(torch.stack(visible) if visible else torch.zeros(0, joints))
            .to(device)
            .float(),
            easy=first[unlabeled],
            second=inputs[unlabeled, 1] if two else None,
            crops=crops[0],
            to_second=moves and Affine(moves.linear.float(), moves.shift.float()),
            flip_indices=flip.to(device, non_blocking=True),
            unlabeled_samples=samples,
        )

    def student_levels(
        self, labeled: Tensor, hard: Tensor | None
    ) -> tuple[list[Tensor] | None, list[Tensor] | None]:
        """Heatmaps of all levels of labelled and hard views; None where there is no image."""
        parts = [each for each in (labeled, hard) if each is not None and len(each)]
        if not parts:
            raise UserError(
                'the batch has no labelled people, and the others teach nothing (yet): give the '
                "sampler ratios like (1, 1), or the method a teacher's weight above 0"
            )
        if self.joint_forward or len(parts) == 1:
            sizes = [len(each) for each in parts]
            joint = [level.split(sizes) for level in self.levels(self.student, torch.cat(parts))]
            found = [list(each) for each in zip(*joint, strict=True)]
        else:
            found = [self.levels(self.student, each) for each in parts]
        first = found.pop(0) if len(labeled) else None
        return first, (found.pop(0) if found else None)

    def labeled_losses(self, levels: list[Tensor], batch: CropBatch) -> dict[str, Tensor]:
        """The head's own loss of every level against drawn targets."""
        heatmaps, weights = self.maker(batch.points, batch.visible)
        criterion = heatmap_head(self.student).loss_module
        return self.by_level(levels, lambda level: criterion(level, heatmaps, weights))

    def unlabeled_losses(self, levels: list[Tensor], pseudo: PseudoTargets) -> dict[str, Tensor]:
        """Mean squared error of every level against the pseudo heatmaps (our completion)."""

        def follow(level: Tensor) -> Tensor:
            return sum(scale * heatmap_mse(level, maps, w) for maps, w, scale in pseudo.terms)

        return self.by_level(levels, follow)

    def by_level(self, levels: list[Tensor], criterion: Any) -> dict[str, Tensor]:
        """Losses by name of the level, each times its weight; the main head's comes first."""
        names = ['kpt', *(stage.replace('.', '_') for stage in self.levels.stages)]
        weights = self.levels.weights
        return {
            f'loss_{name}': weight * criterion(level)
            for name, weight, level in zip(names, weights, levels, strict=False)
        }

    # ---------------------------------------------------------------- networks

    def heatmaps(self, network: nn.Module, images: Tensor) -> Tensor:
        """(B, K, h, w) heatmaps of a network's main head, in the mode the network is in."""
        return network.head(network.extract_feat(images))

    def generator(self, purpose: int, device: torch.device | str = 'cpu') -> torch.Generator:
        """Random numbers of this step: a function of (seed, iteration, rank, purpose)."""
        return key_generator(self.seed, self.cur_iter, get_rank(), purpose, device=device)


def heatmap_head(estimator: nn.Module) -> HeatmapHead:
    """The heatmap head of an estimator.

    Raises:
        UserError: another head, or one without a decoder.
    """
    head = getattr(estimator, 'head', None)
    if not isinstance(head, HeatmapHead) or getattr(head, 'decoder', None) is None:
        kind = type(head).__name__ if head is not None else 'none'
        raise UserError(
            f'the head of the estimator is {kind}: teacher-student training needs a HeatmapHead '
            "with a decoder (head=dict(type='HeatmapHead', decoder=codec, ...)) in a "
            'TopdownPoseEstimator'
        )
    return head
