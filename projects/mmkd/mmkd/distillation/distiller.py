"""A student that learns from labels and a teacher, with weights per sample that may be learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.core.gradients import (
    Gradients,
    all_finite,
    clipped,
    gradients,
    loss_scale,
    mean_over_ranks_,
)
from mmdistill.core.modes import batch_norms, batch_statistics
from mmkd.distillation.features import FeatureRecorder
from mmkd.distillation.hypergradient import SOLVERS, Step, generators, head_inputs, influence
from mmkd.distillation.knowledge import (
    Knowledge,
    cross_entropy_per_sample,
    distillation_per_sample,
    per_sample,
)
from mmkd.models.frozen_teacher import FrozenTeacher
from mmkd.models.outputs import predictions
from mmkd.models.teacher_cache import TeacherCache, said
from mmkd.registry import MODELS

DIRECT = 'direct'
"""Solver that lets the ratio minimise its own loss on held-out samples; the student has no part."""


@MODELS.register_module()
class Distiller(BaseModel):
    """``mean_i(a_i t^2 KL(teacher_i, student_i) + b_i CE_i)`` and any further losses.

    Where the rule that gives a and b is learned, the model steps both optimizers itself, see
    :meth:`train_step`; then it needs :class:`mmkd.loops.meta.MetaTrainLoop` and
    ``StudentFusionConstructor``.

    Args:
        student: config of :data:`mmkd.registry.MODELS`, or a built network.
        teacher: alike, frozen.
        weighter: rule for a and b, see :mod:`mmkd.distillation.weighters`.
        temperature: t.
        losses: further losses, see :mod:`mmkd.distillation.losses`.
        num_classes: C; None asks the weighter. Only class means need it.
        teacher_dtype: of the teacher's parameters, ``'bfloat16'`` say.
        solver: how the held-out loss reaches the weights, see
            :mod:`mmkd.distillation.hypergradient`; ``'direct'`` is the second published release,
            where the student has ``start_ratio`` throughout.
        epsilon: of the solver ``'finite_difference'``.
        through_second_moment: see :func:`mmkd.distillation.step_derivative.step_derivative`.
        start_ratio: share of distillation of every sample until the rule begins to be learned.
        data_preprocessor: see mmengine.
        init_cfg: see mmengine.

    Attributes:
        progress: share of the training that is done; ``DistillationHook`` sets it.
        weighing: the weighter is asked; else all have ``start_ratio``. The loop sets it.

    Raises:
        UserError: an unknown solver, layer or setting.
    """

    def __init__(
        self,
        student: Mapping[str, Any] | nn.Module,
        teacher: Mapping[str, Any] | nn.Module,
        weighter: Mapping[str, Any] | nn.Module,
        temperature: float = 4.0,
        losses: Sequence[Mapping[str, Any] | nn.Module] = (),
        num_classes: int | None = None,
        teacher_dtype: str | None = None,
        solver: str = 'exact',
        epsilon: float = 1e-4,
        through_second_moment: bool = True,
        start_ratio: float = 0.5,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if solver not in (*SOLVERS, DIRECT):
            raise UserError(f'solver must be one of {[*SOLVERS, DIRECT]}, got {solver!r}')
        if not temperature > 0:
            raise UserError(f'temperature must be above 0, got {temperature}')
        self.student = _built(student)
        dtype = None if teacher_dtype is None else getattr(torch, teacher_dtype)
        self.teacher = FrozenTeacher(_built(teacher), dtype)
        self.weighter = _built(weighter)
        self.losses = nn.ModuleList(_built(each) for each in losses)
        self.temperature, self.solver, self.epsilon = temperature, solver, epsilon
        self.through_second_moment, self.start_ratio = through_second_moment, start_ratio
        self.progress: float | None = None
        self.weighing = True
        self.teacher_cache: TeacherCache | None = None
        classes = num_classes or getattr(self.weighter, 'num_classes', None)
        if self.weighter.needs_class_mean:
            if classes is None:
                raise UserError(f'{type(self.weighter).__name__} needs num_classes of Distiller')
            self.register_buffer('class_mean', torch.full((classes, classes), 1 / classes))
            self.register_buffer('class_count', torch.zeros(classes, dtype=torch.long))
        self._recorders = [
            FeatureRecorder(
                network, sorted({n for each in self.losses for n in getattr(each, key)})
            )
            for network, key in (
                (self.student, 'student_layers'),
                (self.teacher.network, 'teacher_layers'),
            )
        ]

    @property
    def own_step(self) -> bool:
        """Whether a loop must call :meth:`train_step` on the bare model."""
        return any(True for _ in self.weighter.parameters())

    def cached_kinds(self) -> tuple[str, ...]:
        """What of the teacher can be kept: its logits.

        Raises:
            UserError: losses want features of the teacher.
        """
        if layers := list(self._recorders[1].modules):
            raise UserError(
                f'TeacherCacheHook keeps logits, but losses read layers {layers} of the teacher: '
                'remove the hook'
            )
        return ()

    # ------------------------------------------------------------------ losses

    def knowledge(
        self, inputs: Mapping[str, Tensor], labels: Tensor | None, index: Tensor | None = None
    ) -> Knowledge:
        """Student and teacher on a batch; gradients as the caller has them.

        Args:
            inputs: of both networks, by name.
            labels: classes ``(B,)``.
            index: numbers of the samples ``(B,)``.

        Raises:
            UserError: no labels, labels out of range, or networks of different classes.
        """
        with self._recorders[0].recording() as mine:
            student = self.student(**inputs).logits
        with self._recorders[1].recording() as theirs:
            teacher = said(self.teacher_cache, index, self.teacher, inputs, ()).logits
        if student.shape != teacher.shape:
            raise UserError(
                f'the student has {student.shape[-1]} classes and the teacher '
                f'{teacher.shape[-1]}: build both with the same'
            )
        labels = _checked(labels, student.shape[-1])
        if self.progress is None and self.training:
            raise UserError(
                "the model does not know how far the training is: add dict(type='mmkd."
                "DistillationHook') to custom_hooks"
            )
        means = self.class_mean[labels] if self.weighter.needs_class_mean else None
        return Knowledge(
            student,
            teacher,
            labels,
            self.temperature,
            self.progress or 0.0,
            means,
            index,
            mine,
            theirs,
        )

    def weights(self, k: Knowledge) -> tuple[Tensor, Tensor]:
        """Weights of distillation and labels, ``(B,)`` each."""
        if not self.weighing or (self.solver == DIRECT and self.weighter.learned == 'meta'):
            ratio = k.teacher.new_full((len(k.labels),), self.start_ratio)
            return ratio, 1 - ratio
        kd, ce = self.weighter(k)
        count, kind = len(k.labels), type(self.weighter).__name__
        return (
            per_sample(kd, count, f'weights of distillation from {kind}'),
            per_sample(ce, count, f'weights of labels from {kind}'),
        )

    def losses_of(self, k: Knowledge, weights: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """All losses of a batch, and means for the log.

        Args:
            k: student and teacher.
            weights: of distillation and labels, ``(B,)`` each.
        """
        student = k.student.float()
        kd = distillation_per_sample(student, k.teacher, k.temperature)
        ce = cross_entropy_per_sample(student, k.labels)
        found = dict(
            loss_distillation=(weights[0] * kd).mean(),
            loss_labels=(weights[1] * ce).mean(),
        )
        for number, each in enumerate(self.losses):
            name = f'loss_{type(each).__name__.lower()}'
            found[name if name not in found else f'{name}_{number}'] = each(k)
        with torch.no_grad():
            found['kd/weight'] = weights[0].detach().mean()
            found['kd/teacher_accuracy'] = (k.teacher.argmax(-1) == k.labels).float().mean()
            found['kd/student_accuracy'] = (student.argmax(-1) == k.labels).float().mean()
        return found

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        labels: Tensor | None = None,
        index: Tensor | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Losses (``loss``), logits and labels (``predict``), or logits of the student."""
        if mode == 'loss':
            if self.own_step and get_world_size() > 1:
                raise UserError(
                    'learned weights are learned in train_step, which this loop does not call on '
                    'several ranks: set train_cfg.type to mmkd.MetaTrainLoop'
                )
            k = self.knowledge(inputs, labels, index)
            return self.losses_of(k, self.weights(k))
        logits = self.student(**inputs).logits
        return predictions(logits, labels) if mode == 'predict' else logits

    # ------------------------------------------------------------------ a step with learned weights

    def train_step(
        self, data: Mapping[str, Any], optim_wrapper: OptimWrapper | OptimWrapperDict
    ) -> dict[str, Tensor]:
        """One step of the student and, when there is a held-out batch, one of the weighter.

        Args:
            data: a batch; or ``train`` and ``meta``, the latter None where none is due.
            optim_wrapper: of the student; or ``student`` and ``fusion``.

        Returns:
            Losses for the log.

        Raises:
            UserError: a weighter that is learned without an optimizer, or gradient accumulation.
        """
        if not self.own_step:
            return super().train_step(data.get('train', data), optim_wrapper)
        if not isinstance(optim_wrapper, OptimWrapperDict):
            raise UserError(
                f'{type(self.weighter).__name__} has parameters and needs an optimizer of its own: '
                "optim_wrapper=dict(constructor='mmkd.StudentFusionConstructor', student=dict("
                'optimizer=...), fusion=dict(optimizer=...))'
            )
        own, fusion = optim_wrapper['student'], optim_wrapper['fusion']
        for name, wrapper in (('student', own), ('fusion', fusion)):
            if getattr(wrapper, '_accumulative_counts', 1) > 1:
                raise UserError(
                    f'optim_wrapper.{name}.accumulative_counts must be 1: learned weights look '
                    'through a whole step; raise batch_size instead'
                )
        train, meta = data.get('train', data), data.get('meta')
        train = self.data_preprocessor(train, True)
        device = next(each.device for each in self.student.parameters())
        state = generators(device)
        with own.optim_context(self):
            if self.solver == 'last_layer' and meta is not None:
                with head_inputs(self.student) as seen:
                    k = self.knowledge(**train)
            else:
                seen, k = [], self.knowledge(**train)
            weights = self.weights(k)
            jointly = self.weighter.learned == 'training' and self.weighing
            used = weights if jointly else (weights[0].detach(), weights[1].detach())
            losses = self.losses_of(k, used)
        total, log = self.parse_losses(losses)
        scale = loss_scale(own, total)
        params = _trained(own.optimizer)
        ratio_params = [p for p in self.weighter.parameters() if p.requires_grad]
        wanted = [*params, *ratio_params] if jointly else params
        found = gradients(total if scale is None else total * scale, wanted)
        grads = mean_over_ranks_(found)
        if meta is not None and self.weighing and self.weighter.learned == 'meta':
            meta = self.data_preprocessor(meta, True)
            if self.solver == DIRECT:
                log.update(self._direct_step(meta, fusion))
            else:
                ready, clip = _ready(grads, scale, own)
                known = {id(p): each for p, each in zip(params, ready, strict=True)}
                # neither connectors nor the optimizer's order: it sorts parameters into groups
                trained = [p for p in self.student.parameters() if p.requires_grad]
                step = Step(
                    student=self.student,
                    optimizer=own.optimizer,
                    params=trained,
                    grads=[known.get(id(p)) for p in trained],
                    inputs=train['inputs'],
                    teacher=k.teacher,
                    labels=k.labels,
                    temperature=k.temperature,
                    generators=state,
                    head_inputs=seen[-1] if seen else None,
                    clip=clip,
                )
                log.update(self._meta_step(step, meta, weights, fusion))
        elif jointly:
            joint = grads[len(params) :]
            if scale is not None:
                # a loss scaler leaves out the student's step; the weighter has none
                finite = all_finite(grads)
                joint = [
                    None if each is None else torch.where(finite, each / scale, 0.0)
                    for each in joint
                ]
            _take(fusion, ratio_params, joint)
        _take(own, params, grads[: len(params)])
        return log

    def _meta_step(
        self,
        step: Step,
        meta: Mapping[str, Any],
        weights: tuple[Tensor, Tensor],
        fusion: OptimWrapper,
    ) -> dict[str, Tensor]:
        """One step of the weighter along the gradient of the held-out loss."""
        labels = _checked(meta.get('labels'), step.teacher.shape[-1])
        pulls, loss = influence(
            step, meta['inputs'], labels, self.solver, self.epsilon, self.through_second_moment
        )
        params = [p for p in self.weighter.parameters() if p.requires_grad]
        pairs = [(w, g) for w, g in zip(weights, pulls, strict=True) if w.requires_grad]
        found = torch.autograd.grad(
            [w for w, _ in pairs], params, [g.to(w) for w, g in pairs], allow_unused=True
        )
        grads = mean_over_ranks_(list(found))
        # where the student's gradient is not finite, a loss scaler leaves that step out
        finite = all_finite([*grads, *step.grads])
        grads = [None if g is None else torch.where(finite, g, 0.0) for g in grads]
        _take(fusion, params, grads)
        # the ratio of a sample should rise where that lowers the held-out loss
        return {
            'kd/held_out_loss': loss,
            'kd/share_rising': (pulls[0] < pulls[1]).float().mean(),
        }

    def _direct_step(self, meta: Mapping[str, Any], fusion: OptimWrapper) -> dict[str, Tensor]:
        """One step of the weighter along its own loss on held-out samples."""
        with torch.no_grad(), batch_statistics(batch_norms(self.student)):
            k = self.knowledge(**meta)
        kd = distillation_per_sample(k.student.float(), k.teacher, k.temperature)
        ce = cross_entropy_per_sample(k.student.float(), k.labels)
        first, second = self.weighter(k)
        loss = (first * kd + second * ce).mean()
        params = [p for p in self.weighter.parameters() if p.requires_grad]
        _take(fusion, params, mean_over_ranks_(gradients(loss, params)))
        return {'kd/held_out_loss': loss.detach()}


def _built(config: Mapping[str, Any] | nn.Module) -> nn.Module:
    """A module from its config, or as it is."""
    return config if isinstance(config, nn.Module) else MODELS.build(config)


def _checked(labels: Tensor | None, classes: int) -> Tensor:
    """Labels, if they are classes; looked at where that does not wait for a device."""
    if labels is None:
        raise UserError('the batch has no labels: give the data set of train_dataloader label=')
    if labels.device.type == 'cpu' and len(labels):
        low, high = labels.aminmax()
        if low < 0 or high >= classes:
            raise UserError(
                f'labels must be in [0, {classes - 1}], as the networks have {classes} classes; '
                f'found {int(low if low < 0 else high)}'
            )
    return labels


def _trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters of an optimizer."""
    return [each for group in optimizer.param_groups for each in group['params']]


@torch.no_grad()
def _ready(
    grads: Gradients, scale: Tensor | None, wrapper: OptimWrapper
) -> tuple[Gradients, Tensor | float]:
    """Gradients as the step will use them, and the factor of clipping; the given ones stay."""
    if scale is not None:
        grads = [None if each is None else each / scale for each in grads]
    options = wrapper.clip_grad_kwargs
    if not options:
        return grads, 1.0
    if wrapper.clip_func is not torch.nn.utils.clip_grad_norm_:
        raise UserError(
            'optim_wrapper.student.clip_grad: learned weights know how clipping by norm acts; set '
            "its type to 'norm'"
        )
    ready = clipped(grads, wrapper.clip_func, options)
    before, after = (
        torch.stack(torch._foreach_norm([each for each in some if each is not None])).norm()
        for some in (grads, ready)
    )
    return ready, after / before.clamp(min=torch.finfo(before.dtype).tiny)


def _take(wrapper: OptimWrapper, params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
    """A step of an optimizer wrapper with given gradients."""
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    wrapper.step()
    wrapper.zero_grad()
