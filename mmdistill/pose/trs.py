"""TRS: teacher, reviewer and student for semi-supervised 2D pose (arXiv:2501.09565).

What is known of the method is its abstract: a teacher's predictions guide the student; a reviewer
keeps important historical parameters and supervises the student too; several stages of the
backbone estimate heatmaps (multi-level feature learning); Keypoint-Mix perturbs poses by mixing
keypoints. No formula and no number could be recovered, so **every formula and default here is our
completion**, after DualPose (arXiv:2011.12498) and SSPCM (arXiv:2303.04346), and is never to be
called the paper's.

One step, for unlabelled people::

    h_T, h_R = f_T(X_e), f_R(X_e)                       easy view, no gradient
    X_h      = warp(KeypointMix(X_e, joints of h_T), A)  hard view of the student
    L        = L_sup + rho sum_l w_l [ lam_t MSE(f_S^l(X_h), warp(h_T, A); m_t)
                                     + lam_r MSE(f_S^l(X_h), warp(h_R, A); m_r) ]

over the levels ``l``; with equal masks the two squared errors become one against the fused
target ``(lam_t h_T + lam_r h_R) / (lam_t + lam_r)``, which is warped once. ``rho`` is the buffer
``unsup_weight``: 0 in the burn-in, then a ramp (``UnsupWeightRampHook``).

Switches for what is open, and for the peers that share the code:

* ``teacher.mode``: ``'ema'`` (default; moved by ``TeacherUpdateHook``); ``'grad'``: a second
  network trained by its own losses, which with ``mutual`` follows the student's easy view
  (DualPose); ``'self'``: the student's own easy view (PoseCons, DualPose's single network);
* ``reviewer``: on or off; how it moves is the policy of ``ReviewerUpdateHook`` (slow average,
  copy of an earlier state, mean of several, or the best so far);
* ``masks='shared'`` (default, the teacher's confidence for both) or ``'own'`` (two terms);
* ``pseudo_bn='batch'``: teacher and reviewer normalise by the batch, as the published peers do, but
  without moving their statistics;
* ``mix``: Keypoint-Mix, or a list of such augmentations; Joint-Cutout and Cut-Occlude are settings.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from torch import Tensor, nn

from mmdistill.core.errors import UserError, options_of
from mmdistill.core.modes import batch_norms, batch_statistics, evaluating
from mmdistill.core.pseudo import PseudoStats
from mmdistill.pose.collapse import CollapseMonitor, CollapseStats, collapse_stats
from mmdistill.pose.losses import confidence_mask, fused_target
from mmdistill.pose.peaks import peaks
from mmdistill.pose.semi_pose import CropBatch, PseudoTargets, SemiPose, Term
from mmdistill.pose.views import Affine, ViewRange
from mmdistill.pose.warp import warp
from mmdistill.registry import MODELS

TEACHER_MODES = ('ema', 'grad', 'self')
MASKS = ('shared', 'own')
PSEUDO_BN = ('running', 'batch')
PCK_SHARE = 0.1
"""A pseudo joint is right within this share of the input's longer side (for the log only)."""


@MODELS.register_module()
class TRS(SemiPose):
    """The method; see the module's docstring and :class:`SemiPose` for shared arguments.

    Args:
        hard_view: range of the composed hard view, see :class:`mmdistill.pose.views.ViewRange`;
            applied on top of a second crop where the loader gives one; None: no further view.
        mix: config of :class:`mmdistill.pose.KeypointMix`, a list of them, or None.
        teacher: ``mode`` (``'ema'``, ``'grad'``, ``'self'``), ``weight`` (lam_t, 1) and, for
            ``'grad'``, ``mutual`` (the teacher learns from the student too, True).
        reviewer: ``weight`` (lam_r, 0.5); None: no reviewer.
        confidence: least peak of a pseudo heatmap that teaches; 0: all do, as in DualPose.
        masks: ``'shared'`` or ``'own'`` confidence masks of teacher and reviewer.
        mask_out_of_view: joints that leave the view teach nothing (else: an empty heatmap).
        pseudo_bn: ``'running'`` or ``'batch'`` statistics in teacher and reviewer.
        **shared: arguments of :class:`SemiPose`.

    Raises:
        UserError: an unknown key or a value out of range; the message names it.
    """

    def __init__(
        self,
        *,
        hard_view: Mapping | None = None,
        mix: Mapping | Sequence[Mapping] | None = None,
        teacher: Mapping | None = None,
        reviewer: Mapping | None = None,
        confidence: float = 0.0,
        masks: str = 'shared',
        mask_out_of_view: bool = False,
        pseudo_bn: str = 'running',
        **shared: Any,
    ) -> None:
        teacher_cfg = options_of('teacher', teacher, dict(mode='ema', weight=1.0, mutual=True))
        reviewer_cfg = None
        if reviewer is not None:
            reviewer_cfg = options_of('reviewer', reviewer, dict(weight=0.5))
        mode = teacher_cfg['mode']
        for name, value, known in (
            ('teacher.mode', mode, TEACHER_MODES),
            ('masks', masks, MASKS),
            ('pseudo_bn', pseudo_bn, PSEUDO_BN),
        ):
            if value not in known:
                raise UserError(f'{name} must be one of {known}, got {value!r}')
        lam_t, lam_r = teacher_cfg['weight'], reviewer_cfg['weight'] if reviewer_cfg else 0.0
        for name, value in (
            ('teacher.weight', lam_t),
            ('reviewer.weight', lam_r),
            ('confidence', confidence),
        ):
            if not 0 <= value < float('inf'):
                raise UserError(f'{name} must be at least 0, got {value}')
        self.teacher_frozen = mode != 'grad'  # the frame asks for it while it is built
        super().__init__(**shared)
        self.mode, self.mutual = mode, mode == 'grad' and teacher_cfg['mutual']
        self.lam_t, self.lam_r = float(lam_t), float(lam_r)
        self.confidence, self.masks = confidence, masks
        self.mask_out_of_view, self.pseudo_bn = mask_out_of_view, pseudo_bn
        self.hard_view = None
        if hard_view is not None:
            known = {field.name: field.default for field in fields(ViewRange)}
            self.hard_view = ViewRange(**options_of('hard_view', hard_view, known))
        mixes = [] if mix is None else [mix] if isinstance(mix, Mapping) else list(mix)
        self.mixes = [ROOT_TASK_UTILS.build(dict(each)) for each in mixes]
        if mode == 'grad':
            self.teacher.requires_grad_(True).train()
        self.reviewer: nn.Module | None = None
        if reviewer_cfg:
            self.reviewer = copy.deepcopy(self.student).requires_grad_(False).eval()
            self.register_buffer('reviewer_steps', torch.tensor(-1))
        self.collapse_monitor = CollapseMonitor()
        self.collapse_stats: CollapseStats | None = None
        self.class_names = ['joint']

    def followers(self) -> tuple[nn.Module, ...]:
        """A frozen teacher, and the reviewer."""
        reviewer = () if self.reviewer is None else (self.reviewer,)
        return (*super().followers(), *reviewer)

    def train(self, mode: bool = True) -> 'TRS':
        """Sets the student's mode (and a gradient teacher's); reviewers stay in evaluation mode."""
        super().train(mode)
        if getattr(self, 'reviewer', None) is not None:
            self.reviewer.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> 'TRS':
        """As in torch, except that the reviewer stays frozen."""
        super().requires_grad_(requires_grad)
        if getattr(self, 'reviewer', None) is not None:
            self.reviewer.requires_grad_(False)
        return self

    # ---------------------------------------------------------------- what the easy view says

    def easy_heatmaps(self, network: nn.Module, images: Tensor) -> Tensor:
        """(B, K, h, w) heatmaps of a network that gives targets, without touching its statistics.

        A network that is being trained (teacher modes ``'grad'`` and ``'self'``) uses the
        statistics of the batch where its own training does.
        """
        trained = network is self.student or not self.teacher_frozen and network is self.teacher
        if not trained:
            norms = batch_norms(network) if self.pseudo_bn == 'batch' else []
            with batch_statistics(norms):
                return self.heatmaps(network, images)
        norms = [each for each in batch_norms(network) if each.training]
        with evaluating(network), batch_statistics(norms):
            return self.heatmaps(network, images)

    def pseudo_targets(self, batch: CropBatch) -> PseudoTargets | None:
        """Easy views of teacher and reviewer become targets of the student's hard view."""
        if self.lam_t + self.lam_r == 0:
            return None
        teacher = self.easy_heatmaps(
            self.student if self.mode == 'self' else self.teacher, batch.easy
        )
        reviewer = self.easy_heatmaps(self.reviewer, batch.easy) if self.lam_r else None
        places, confidences = found = peaks(teacher)
        self.pseudo_stats = self.stats(places, confidences, batch)
        self.collapse_stats = collapse_stats(teacher, reviewer, self.grid, found=found)
        terms = self.terms(teacher, reviewer, confidences)
        return self.hard_targets(batch, places, confidences, terms, purpose=0)

    def hard_targets(
        self, batch: CropBatch, places: Tensor, confidences: Tensor, terms: list[Term], purpose: int
    ) -> PseudoTargets:
        """Takes images and heatmaps from the easy to a hard view.

        Args:
            batch: the crops.
            places: (B_u, K, 2) joints in heatmap pixels of the easy view.
            confidences: (B_u, K).
            terms: what is to be followed, in the easy view.
            purpose: key of the random draws.
        """
        hard, view = self.hard_images(batch, places, confidences, purpose)
        small = view.on_heatmap(self.grid)
        inside = None
        if self.mask_out_of_view:
            inside = self.grid.contains(places) & self.grid.contains(small.points(places))
        moved = []
        for maps, mask, weight in terms:
            maps = view.swap(warp(maps, small), batch.flip_indices)
            mask = inside if mask is None else mask if inside is None else mask & inside
            if mask is not None:
                mask = view.swap(mask.to(maps.dtype), batch.flip_indices)
            moved.append((maps, mask, weight))
        return PseudoTargets(hard, moved)

    def terms(self, teacher: Tensor, reviewer: Tensor | None, confidences: Tensor) -> list[Term]:
        """What is to be followed, in the easy view: one term where two can be fused.

        Args:
            teacher: (B_u, K, h, w).
            reviewer: likewise, or None.
            confidences: (B_u, K) highest values of the teacher's heatmaps.
        """
        mask = confidences >= self.confidence if self.confidence > 0 else None
        if reviewer is None:
            return [(teacher, mask, self.lam_t)]
        if self.masks == 'own' and mask is not None:
            own = confidence_mask(reviewer, self.confidence)
            both = [(teacher, mask, self.lam_t), (reviewer, own, self.lam_r)]
            return [term for term in both if term[2] > 0]
        fused = fused_target(teacher, reviewer, self.lam_t, self.lam_r)
        return [(fused, mask, self.lam_t + self.lam_r)]

    def hard_images(
        self, batch: CropBatch, places: Tensor, confidences: Tensor, purpose: int
    ) -> tuple[Tensor, Affine]:
        """Mixes keypoints, then warps: the student's images, and the view from easy to hard.

        Args:
            batch: the crops.
            places: (B_u, K, 2) joints in heatmap pixels of the easy view.
            confidences: (B_u, K).
            purpose: key of the random draws.
        """
        device, count = places.device, len(places)
        images, joints = batch.easy, self.grid.to_input(places)
        view = Affine.identity(count, device)
        if batch.second is not None:
            images, view = batch.second, batch.to_second
            joints = view.joints(joints, batch.flip_indices)
            confidences = view.swap(confidences, batch.flip_indices)
        generator = self.generator(purpose)
        for mix in self.mixes:
            uniform = mix.numbers(count, generator=generator).to(device, non_blocking=True)
            images = mix(images, joints, confidences, uniform)
        if self.hard_view is None:
            return images, view
        uniform = torch.rand(count, ViewRange.NUMBERS, generator=generator)
        harder = self.hard_view.draw(uniform.to(device, non_blocking=True), self.grid)
        return warp(images, harder), harder @ view

    def stats(self, places: Tensor, confidences: Tensor, batch: CropBatch) -> PseudoStats:
        """Counts for the pseudo-label quality log; hidden joints are read for nothing else."""
        kept = confidences >= self.confidence
        hidden = [each.metainfo.get('hidden_keypoints') for each in batch.unlabeled_samples]
        counts = dict(kept=kept.sum()[None], total=torch.full_like(kept.sum()[None], kept.numel()))
        counts['scores'] = confidences
        if any(each is None for each in hidden):
            return PseudoStats(**counts)
        visible = [each.metainfo['hidden_visible'] for each in batch.unlabeled_samples]
        truth, seen = (torch.as_tensor(np.stack(each)) for each in (hidden, visible))
        truth = batch.crops.joints(truth.to(places, non_blocking=True), batch.flip_indices)
        seen = batch.crops.swap(seen.to(kept.device, non_blocking=True) > 0, batch.flip_indices)
        away = (self.grid.to_input(places) - truth).norm(dim=-1)
        right = kept & seen & (away <= PCK_SHARE * max(self.grid.input_size))
        counts.update(kept=(kept & seen).sum()[None], total=seen.sum()[None])
        return PseudoStats(true_positive=right.sum()[None], hidden=seen.sum()[None], **counts)

    # ---------------------------------------------------------------- a teacher by gradient

    def batch_losses(self, batch: CropBatch) -> dict[str, Tensor]:
        """Losses of the student; with ``teacher.mode='grad'`` those of the teacher too."""
        losses = super().batch_losses(batch)
        if self.teacher_frozen:
            return losses
        hard = None
        if self.mutual and self.unsup_active and len(batch.easy):
            with torch.no_grad():
                maps = self.easy_heatmaps(self.student, batch.easy)
                places, confidences = peaks(maps)
                terms = self.terms(maps, None, confidences)
                hard = self.hard_targets(batch, places, confidences, terms, purpose=1)
        parts = [batch.labeled] + ([hard.images] if hard else [])
        sizes = [len(each) for each in parts]
        first, *second = self.heatmaps(self.teacher, torch.cat(parts)).split(sizes)
        if len(first):
            found = self.labeled_losses([first], batch)
            losses.update(self.weighted(found, 'teacher_sup', self.sup_weight))
        if hard:
            found = self.unlabeled_losses(second, hard)
            losses.update(self.weighted(found, 'teacher_unsup', self.unsup_weight))
        return losses
