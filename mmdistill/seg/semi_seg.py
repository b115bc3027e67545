"""Self-training of a segmentor: labelled images, and images that the teacher labels.

One frame for domain adaptation (DACS, arXiv:2007.08702; DAFormer, arXiv:2111.14887) and for
semi-supervised segmentation (mean teacher with CutMix, arXiv:1906.01916). One loss is::

    L(theta; phi, B) = L_sup(theta; x_l, y_l) + L_FD(theta; x_l, y_l)
                     + L_unsup(theta; mix(x_l, x_u), mix(y_l, y_u(phi)), w)

with ``y_u`` the most probable class of the teacher ``phi``. By itself this is a mean teacher when
``TeacherUpdateHook`` is in the config, and training on labels alone where a batch has nothing else.

Deviations from the published code of DAFormer and FST, apart from switches: the teacher has no
dropout and no stochastic depth of any kind (theirs kept mmcv's on) and never moves its running
statistics by its own forward passes; logits are taken at the size of the padded batch; the
distance of features uses the backbone's output, and is 0 where no thing is in sight.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dist import get_rank
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from mmdistill.core.errors import UserError, options_of
from mmdistill.core.modes import batch_norms, batch_statistics, evaluating
from mmdistill.core.pseudo import PseudoStats
from mmdistill.core.rng import key_generator
from mmdistill.core.semi_model import SemiModel
from mmdistill.registry import MODELS
from mmdistill.seg.class_mix import ClassMix, mix
from mmdistill.seg.cut_mix import CutMix
from mmdistill.seg.feature_distance import FeatureDistance
from mmdistill.seg.logits import decode_logits
from mmdistill.seg.pixels import entropy, entropy_keep, pixel_weights, pseudo_labels, unsup_scale
from mmdistill.seg.seg_batch import (
    Seen,
    SegBatch,
    StudentView,
    annotations_of,
    look,
    look_at_both,
)
from mmdistill.seg.seg_losses import heads_of, losses_of_heads, pixel_cross_entropy

PSEUDO = dict(
    share=dict(threshold=0.968, top_rows=0, bottom_rows=0, scope='batch'),
    entropy=dict(drop_percent=80.0, published_scale=True),
    all=dict(),
)
PSEUDO_BN = ('running', 'batch')
UNSUP_LOSS = ('heads', 'decode')
FRAME = ('semi_train_cfg', 'semi_test_cfg', 'init_cfg')
Losses = dict[str, Tensor]


@MODELS.register_module()
class SemiSeg(SemiModel):
    """Student and teacher of any mmseg ``EncoderDecoder`` with one decode head.

    Args:
        segmentor: config of the plain segmentor.
        mix: config of :class:`ClassMix` or :class:`CutMix`; None: images stay whole.
        strong: config of :class:`StrongPhotometric`; None: colours stay.
        pseudo: ``rule`` and its options: ``'share'`` (domain adaptation, see
            :func:`pixel_weights`), ``'entropy'`` (``drop_percent``; ``published_scale`` applies
            the factor twice as the published code does, else the loss is the mean over kept
            pixels) or ``'all'``.
        feature_distance: options of :class:`FeatureDistance`; the reference is the backbone as it
            was initialised. It is saved with the model, since it may be from scratch.
        joint_forward: labelled and unlabelled images in one forward pass, so that batch norms see
            both (published semi-supervised code), else one after the other (domain adaptation).
        pseudo_bn: the teacher normalises with the statistics of the ``'batch'`` (published domain
            adaptation) or its ``'running'`` ones (published semi-supervised code).
        unsup_loss: pseudo labels teach through the losses of all ``'heads'``, samplers included
            (published domain adaptation), or as cross entropy of the ``'decode'`` head alone
            (published semi-supervised code).
        weight_auxiliary: auxiliary heads use the weights of pseudo labels too; the published code
            leaves a single auxiliary head without.
        seed: of all draws, with iteration and rank.
        **frame: ``semi_train_cfg``, ``semi_test_cfg``, ``init_cfg`` of :class:`SemiModel`.

    Raises:
        UserError: an unknown key, a value out of range, or another kind of segmentor.
    """

    def __init__(
        self,
        segmentor: dict,
        *,
        mix: dict | None = None,
        strong: dict | None = None,
        pseudo: dict | None = None,
        feature_distance: dict | None = None,
        joint_forward: bool = False,
        pseudo_bn: str = 'batch',
        unsup_loss: str = 'heads',
        weight_auxiliary: bool = True,
        seed: int = 0,
        **frame: Any,
    ) -> None:
        options_of(type(self).__name__, frame, dict.fromkeys(FRAME))
        if pseudo_bn not in PSEUDO_BN:
            raise UserError(f'pseudo_bn must be one of {PSEUDO_BN}, got {pseudo_bn!r}')
        if unsup_loss not in UNSUP_LOSS:
            raise UserError(f'unsup_loss must be one of {UNSUP_LOSS}, got {unsup_loss!r}')
        given = dict(pseudo or {})
        rule = given.pop('rule', 'share')
        if rule not in PSEUDO:
            raise UserError(f'pseudo.rule must be one of {tuple(PSEUDO)}, got {rule!r}')
        # mmseg reads its test_cfg by attribute
        super().__init__(ConfigDict(segmentor), **frame)
        if not isinstance(self.student, EncoderDecoder):
            kind = type(self.student).__name__
            raise UserError(f'segmentor must be an EncoderDecoder of mmseg, got {kind}')
        heads_of(self.student)
        self.rule, self.rule_options = rule, options_of('pseudo', given, PSEUDO[rule])
        self.mix = None if mix is None else ROOT_TASK_UTILS.build(dict(mix))
        if not isinstance(self.mix, (ClassMix, CutMix, type(None))):
            raise UserError(f'mix must be ClassMix or CutMix, got {type(self.mix).__name__}')
        self.strong = None if strong is None else ROOT_TASK_UTILS.build(dict(strong))
        self.feature_distance: FeatureDistance | None = None
        if feature_distance is not None:
            count = self.student.num_classes
            self.feature_distance = FeatureDistance(**{'num_classes': count, **feature_distance})
            self.reference = copy.deepcopy(self.student.backbone).requires_grad_(False)
            self.reference.eval()  # train() of mmseg's backbones returns nothing
        if joint_forward and (feature_distance is not None or isinstance(self.mix, ClassMix)):
            raise UserError(
                'joint_forward=True goes with CutMix or no mix, and without feature_distance: '
                'labelled pixels would be seen twice'
            )
        self.joint_forward, self.pseudo_bn = joint_forward, pseudo_bn
        self.unsup_loss, self.weight_auxiliary, self.seed = unsup_loss, weight_auxiliary, seed

    def init_weights(self) -> None:
        """As in the frame; the reference of the features is the initialised backbone."""
        fresh = not self.is_init
        super().init_weights()
        if fresh and self.feature_distance is not None:
            self.reference.load_state_dict(self.student.backbone.state_dict())

    def train(self, mode: bool = True) -> 'SemiSeg':
        """Sets the student's mode; the teacher and the reference stay in evaluation mode."""
        super().train(mode)
        if getattr(self, 'reference', None) is not None:
            self.reference.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> 'SemiSeg':
        """As in torch, except that teacher and reference stay frozen."""
        super().requires_grad_(requires_grad)
        if getattr(self, 'reference', None) is not None:
            self.reference.requires_grad_(False)
        return self

    # ------------------------------------------------------------------ one loss

    def loss(
        self,
        inputs: Mapping[str, Tensor],
        data_samples: Mapping[str, Any],
        branch_index: Mapping[str, Any] | None = None,
    ) -> Losses:
        """Losses of one step; the unlabelled part is left out while its weight is 0.

        Args:
            inputs: (B, 3, H, W) of the branches ``sup`` and, or not, ``unsup_teacher``.
            data_samples: by branch; annotations of unlabelled images are not used.
            branch_index: unused.

        Returns:
            ``sup_decode.loss_ce`` and so on, as mmseg names them, ``sup_loss_feature_distance``,
            and ``unsup_*`` times the buffer ``unsup_weight``.
        """
        batch = self.read_batch(inputs, data_samples)
        if not self.teaches(batch):
            return self.sup_losses(look(self.student, batch.labeled), batch)
        view = self.student_view(batch, purpose=0)
        if self.joint_forward:
            first, second = look_at_both(self.student, batch.labeled, view.images)
        else:
            first, second = look(self.student, batch.labeled), None
        losses = self.sup_losses(first, batch)
        second = second or look(self.student, view.images)
        losses.update(self.unsup_losses(second, batch, view, *self.pseudo_targets(batch)))
        return losses

    def teaches(self, batch: SegBatch) -> bool:
        """Whether unlabelled images count in this step."""
        return self.unsup_active and batch.unlabeled is not None

    def read_batch(self, inputs: Mapping[str, Tensor], data_samples: Mapping[str, Any]) -> SegBatch:
        """Takes labels out of data samples.

        Raises:
            UserError: no labelled images, or labelled images without labels.
        """
        if 'sup' not in inputs:
            raise UserError(
                f"the batch has the branches {sorted(inputs)} and no 'sup': give the sampler "
                'labelled images and end their pipeline with MultiBranch(branches=dict(sup=...))'
            )
        labels = annotations_of(data_samples['sup'])
        if labels is None:
            raise UserError(
                "an image of the branch 'sup' has no annotation: add LoadAnnotations to its "
                'pipeline'
            )
        hidden = annotations_of(data_samples.get('unsup_teacher', ()))
        return SegBatch(inputs['sup'], labels, inputs.get('unsup_teacher'), hidden)

    def sup_losses(self, seen: Seen, batch: SegBatch, reference: Any = None) -> Losses:
        """Losses of labelled images, times the weight of the labelled part.

        Args:
            seen: the student's look at them.
            batch: the images.
            reference: what :meth:`reference_features` gave; computed when left out.
        """
        losses = losses_of_heads(self.student, seen.logits, batch.labels)
        if self.feature_distance is not None:
            reference = self.reference_features(batch) if reference is None else reference
            found = self.feature_distance(seen.features, reference, batch.labels)
            losses['loss_feature_distance'] = found
        return self.weighted(losses, 'sup', self.sup_weight)

    @torch.no_grad()
    def reference_features(self, batch: SegBatch) -> Any:
        """Features of labelled images in the backbone as it was initialised, or None."""
        return None if self.feature_distance is None else self.reference(batch.labeled)

    def unsup_losses(
        self,
        seen: Seen,
        batch: SegBatch,
        view: StudentView,
        labels: Tensor,
        weight: Tensor | None,
    ) -> Losses:
        """Losses of the student's view of unlabelled images, times the buffer ``unsup_weight``.

        Args:
            seen: the student's look at the view.
            batch: the images.
            view: what the student saw.
            labels: (B_u, H, W) of the teacher on the whole images.
            weight: (B_u, H, W) of those labels, or None.
        """
        labels, weight = self.view_targets(batch, view, labels, weight)
        if self.unsup_loss == 'decode':
            head = self.student.decode_head
            found = {
                'decode.loss_ce': pixel_cross_entropy(head, seen.logits['decode'], labels, weight)
            }
        else:
            found = losses_of_heads(
                self.student, seen.logits, labels, weight, weight_auxiliary=self.weight_auxiliary
            )
        return self.weighted(found, 'unsup', self.unsup_weight)

    def view_targets(
        self, batch: SegBatch, view: StudentView, labels: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Labels and weights of the student's view, mixed as its images are.

        Args:
            batch: the images.
            view: what the student saw.
            labels: (B_u, H, W) of the teacher on the whole images.
            weight: (B_u, H, W) of those labels, or None.

        Returns:
            (B_u, H, W) long and (B_u, H, W); labels of the data weigh 1.
        """
        if view.mask is None:
            return labels, weight
        every = torch.ones_like(labels, dtype=torch.float32) if weight is None else weight
        if view.partner is None:
            return mix(view.mask, batch.labels, labels), mix(view.mask, 1.0, every)
        return (
            mix(view.mask, labels[view.partner], labels),
            mix(view.mask, every[view.partner], every),
        )

    # ------------------------------------------------------------------ the teacher

    @torch.no_grad()
    def pseudo_targets(self, batch: SegBatch) -> tuple[Tensor, Tensor | None]:
        """The teacher's labels of whole images, and what each pixel of them counts.

        Returns:
            (B_u, H, W) long and (B_u, H, W), or None where all count alike.
        """
        logits = self.teacher_logits(batch.unlabeled)
        labels, prob = pseudo_labels(logits)
        options = self.rule_options
        weight, kept = None, torch.ones_like(prob, dtype=torch.bool)
        if self.rule == 'share':
            weight, kept = pixel_weights(prob, **options), prob >= options['threshold']
        elif self.rule == 'entropy':
            kept = entropy_keep(entropy(logits), kept, options['drop_percent'])
            scale = unsup_scale(kept)
            weight = kept * (scale * scale if options['published_scale'] else scale)
        self.pseudo_stats = self.stats(labels, prob, kept, batch.hidden)
        return labels, weight

    def teacher_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) logits of the teacher, which is in evaluation mode but for batch norms."""
        norms = batch_norms(self.teacher) if self.pseudo_bn == 'batch' else []
        with evaluating(self.teacher), batch_statistics(norms):
            return decode_logits(self.teacher, images)

    def stats(
        self, labels: Tensor, prob: Tensor, kept: Tensor, hidden: Tensor | None
    ) -> PseudoStats:
        """Counts by class for the log; hidden labels are read for nothing else."""
        count = self.student.num_classes

        def by_class(classes: Tensor, flags: Tensor) -> Tensor:
            index = classes.clamp(max=count - 1).flatten()
            empty = torch.zeros(count, device=prob.device)
            return empty.scatter_add_(0, index, flags.flatten().float())

        scores = prob[:, ::8, ::8].flatten()
        total = by_class(labels, torch.ones_like(kept))
        if hidden is None:
            return PseudoStats(by_class(labels, kept), total, scores=scores)
        known = hidden < count
        right, there = by_class(labels, kept & (labels == hidden)), by_class(hidden, known)
        return PseudoStats(by_class(labels, kept & known), total, right, there, scores)

    # ------------------------------------------------------------------ the student's view

    @torch.no_grad()
    def student_view(self, batch: SegBatch, purpose: int) -> StudentView:
        """Mixes and changes colours; a function of (seed, iteration, rank, purpose).

        Args:
            batch: the images.
            purpose: key of the random draws.
        """
        images, mask, partner = batch.unlabeled, None, None
        generator, count = self.generator(purpose), len(images)
        if self.mix is not None:
            uniform = self.mix.numbers(count, generator=generator)
            uniform = uniform.to(images.device, non_blocking=True)
            if isinstance(self.mix, ClassMix):
                mask = self.mix(batch.labels, uniform)
                images = mix(mask, batch.labeled, images)
            else:
                mask, partner = self.mix(images, uniform)
                images = mix(mask, images[partner], images)
        if self.strong is not None:
            host = self.data_preprocessor.data_preprocessor
            numbers = self.strong.numbers(count, images.device, generator)
            images = self.strong(images, host.mean.flatten(), host.std.flatten(), numbers)
        return StudentView(images, mask, partner)

    def generator(self, purpose: int) -> torch.Generator:
        """Random numbers of this step: a function of (seed, iteration, rank, purpose)."""
        return key_generator(self.seed, self.cur_iter, get_rank(), purpose)
