"""Teacher Intervention for ternary Transformers (Kim et al., EACL 2023, arXiv:2302.11812).

A student starts as a copy of its teacher and computes with ternary weights and 8-bit activations.
What an early layer gets wrong grows in the layers above, so in a short first phase a tensor inside
each attention layer is *replaced* by the teacher's tensor of the same batch; the rest of the layer
learns undisturbed. A second phase is plain quantization-aware distillation. The loss is, in both,

    L = L_pred + sum_l |X_l - X_l^T|^2 + sum_l |ATT_l - ATT_l^T|^2 + sum_l |AS_l - AS_l^T|^2

with the layers' inputs and results X, normed attention outputs ATT and scores AS; T marks the
teacher's; there is no loss of labels. :mod:`mmkd.intervention.intervene` says what is replaced and
where gradients end.

The tables of the paper and its experiments with images could not be read. Known are text, figures
and the published code (MarsJacobs/ti-kd-qat), which is what the defaults follow. Switches, with the
published value as default:

* ``internal_loss='official'``: the code has no loss on what was replaced, ``'paper'`` adds the
  student's own output, context or map, as the paper's figure shows;
* ``weights``: ``labels`` (a loss with the labels) and ``maps`` (the divergence of attention maps,
  the authors' earlier work) are 0, all others 1.

Deviations from the code: all-zero rows and tensors give zeros, not NaN; what a recipe skips is left
alone everywhere; evaluation never intervenes; vision transformers, whose norms come
first, are our completion: tensors are replaced at the same places and ATT is the sum alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdistill.core.errors import UserError, options_of
from mmkd.intervention.intervene import Intervene
from mmkd.intervention.losses import layer_loss, map_loss, prediction_loss, score_loss
from mmkd.intervention.schedule import mode_at
from mmkd.models.frozen_teacher import FrozenTeacher
from mmkd.models.outputs import label_loss, predictions
from mmkd.models.teacher_cache import TeacherCache, said
from mmkd.quant.recipe import quantize
from mmkd.registry import MODELS, TASK_UTILS
from mmkd.signals.attention import install
from mmkd.signals.observer import Signals
from mmkd.signals.parts import find_parts

RECIPE: Sequence[Mapping[str, Any]] = (
    dict(pattern=r'(^|\.)(classifier|position_embeddings|token_type_embeddings)$', skip=True),
    dict(pattern=r'(^|\.)(head|head_dist|attn_pool\..*)$|patch_embed', skip=True),
    dict(layer='Embedding', weight=dict(type='mmkd.Ternary', axis=0)),
    dict(
        layer='Linear',
        weight=dict(type='mmkd.Ternary'),
        act=dict(type='mmkd.SymmetricActivation'),
    ),
)
"""As published: all matrices of encoder and pooler, and the words row by row."""
WEIGHTS = dict(prediction=1.0, hidden=1.0, joined=1.0, scores=1.0, maps=0.0, labels=0.0)
REPLACED = dict(output='outputs', context='contexts', map='maps')


@MODELS.register_module()
class TeacherIntervention(BaseModel):
    """A quantized student that learns from a frozen teacher, with interventions at first.

    Args:
        teacher: a network (config of :data:`mmkd.registry.MODELS`, or built).
        student: the same; None: a copy of the teacher.
        recipe: what is quantized, see :mod:`mmkd.quant.recipe`; None: :data:`RECIPE`, where only
            rules that fit something count; an empty list quantizes nothing.
        attention_act: quantizer of queries, keys, maps and values; None leaves them.
        schedule: see :func:`mode_at`.
        intervention_steps: length of the first phase; 0: none.
        internal_loss: see the module.
        weights: of losses, keys of :data:`WEIGHTS`.
        seed: of the ``stochastic`` schedule.
        teacher_dtype: of the teacher's parameters, ``'bfloat16'`` say; None keeps them.
        data_preprocessor: see mmengine.
        init_cfg: see mmengine.

    Attributes:
        step: the present one, from 0; ``mmkd.InterventionHook`` sets it before each iteration.
        teacher_cache: the teacher's signals of fixed samples; ``mmkd.TeacherCacheHook`` sets it.
    """

    def __init__(
        self,
        teacher: Mapping[str, Any] | nn.Module,
        student: Mapping[str, Any] | nn.Module | None = None,
        recipe: Sequence[Mapping[str, Any]] | None = None,
        attention_act: Mapping[str, Any] | None = dict(type='mmkd.SymmetricActivation'),  # noqa: B006
        schedule: str = 'gradual',
        intervention_steps: int = 60,
        internal_loss: str = 'official',
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        teacher_dtype: str | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if internal_loss not in ('official', 'paper'):
            raise UserError(f"internal_loss must be 'official' or 'paper', got {internal_loss!r}")
        if intervention_steps < 0:
            raise UserError(f'intervention_steps must be at least 0, got {intervention_steps}')
        mode_at(schedule, 0, 1)  # the name is known
        network = built(teacher)
        self.student = copy.deepcopy(network) if student is None else built(student)
        parts, own = find_parts(network), find_parts(self.student)
        if len(parts.layers) != len(own.layers):
            raise UserError(
                f'the student has {len(own.layers)} layers, the teacher {len(parts.layers)}: '
                'Teacher Intervention needs as many'
            )
        install(network, parts)
        act = TASK_UTILS.build(attention_act) if attention_act else None
        install(self.student, own, act)
        rules = fitting(self.student, RECIPE) if recipe is None else recipe
        if rules:
            quantize(self.student, rules, own.shared_inputs)
        self.teacher = FrozenTeacher(network, teacher_dtype and getattr(torch, teacher_dtype))
        self.schedule, self.intervention_steps, self.seed = schedule, intervention_steps, seed
        self.paper = internal_loss == 'paper'
        self.weights = options_of('weights', weights, WEIGHTS)
        self.step = 0
        self.teacher_cache: TeacherCache | None = None

    # ------------------------------------------------------------------ one step

    @property
    def mode(self) -> str | None:
        """What the present step replaces."""
        if self.step >= self.intervention_steps:
            return None
        return mode_at(self.schedule, self.step, self.intervention_steps, self.seed)

    def loss(
        self, inputs: Mapping[str, Tensor], labels: Tensor | None, index: Tensor | None = None
    ) -> dict[str, Tensor]:
        """All losses of a batch; nothing is changed.

        Args:
            inputs: of the networks, by name.
            labels: ``(B,)`` classes or values; not read unless they have a weight.
            index: ``(B,)`` numbers of the samples in the data set, for :attr:`teacher_cache`.
        """
        mode = self.mode
        teacher = said(self.teacher_cache, index, self.teacher, inputs, self.needed(mode))
        student = Intervene(mode, teacher)
        student.signals.logits = student.run(self.student, inputs)
        return self.losses(student, teacher, labels)

    def needed(self, mode: str | None) -> set[str]:
        """Kinds of the teacher's signals that losses or the intervention use."""
        kinds = {name for name in ('hidden', 'joined', 'scores') if self.weights[name]}
        if self.weights['maps'] or (self.paper and mode == 'map'):
            kinds.add('scores')
        if kinds & {'joined'}:
            kinds |= {'hidden', 'outputs'}  # of which a network with norms first is summed
        return kinds | ({REPLACED[mode]} if mode else set())

    def cached_kinds(self) -> set[str]:
        """What a cache of the teacher's signals is asked for: all but what is replaced."""
        return self.needed(None)

    def losses(
        self, student: Intervene, teacher: Signals, labels: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses by name, those with a weight of 0 left out."""
        seen, weights = student.signals, self.weights
        regression = seen.logits.shape[-1] == 1
        found = dict(
            prediction=lambda: prediction_loss(seen.logits, teacher.logits, regression),
            hidden=lambda: layer_loss(seen.hidden, teacher.hidden),
            joined=lambda: layer_loss(student.sums(), sums_of(teacher)),
            scores=lambda: score_loss(seen.scores, teacher.scores),
            maps=lambda: map_loss(seen.scores, teacher.scores),
            labels=lambda: label_loss(seen.logits, labels),
        )
        losses = {f'loss_{k}': weights[k] * make() for k, make in found.items() if weights[k]}
        if self.paper and student.mode is not None:
            losses['loss_internal'] = self.internal(student, teacher)
        return losses

    @staticmethod
    def internal(student: Intervene, teacher: Signals) -> Tensor:
        """The student's own form of what was replaced, against the teacher's."""
        if student.mode == 'map':
            return map_loss(student.signals.scores, teacher.scores)
        kind = REPLACED[student.mode]
        return layer_loss(getattr(student.signals, kind), getattr(teacher, kind))

    # ------------------------------------------------------------------ mmengine

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        labels: Tensor | None = None,
        index: Tensor | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Losses (``loss``), logits and labels (``predict``), or logits.

        Evaluation does not intervene and does not run the teacher.
        """
        if mode == 'loss':
            return self.loss(inputs, labels, index)
        logits = self.student(**inputs).logits
        if mode == 'predict':
            return predictions(logits, labels)
        return logits


def built(network: Mapping[str, Any] | nn.Module) -> nn.Module:
    """A network from its config, or as it is."""
    return network if isinstance(network, nn.Module) else MODELS.build(network)


def fitting(network: nn.Module, recipe: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rules of a recipe without those for classes of layers that a network lacks."""
    kinds = {type(module).__name__ for module in network.modules()}
    return [rule for rule in recipe if rule.get('layer') is None or rule['layer'] in kinds]


def sums_of(teacher: Signals) -> list[Tensor]:
    """Attention outputs plus inputs of the teacher, normed where the norm comes last."""
    if teacher.joined:
        return teacher.joined
    return [x + ao for x, ao in zip(teacher.hidden, teacher.outputs, strict=False)]
