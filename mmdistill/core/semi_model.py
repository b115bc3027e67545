"""Student and teacher in one model: the frame that every method fills in."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel, BaseModule, PretrainedInit, initialize
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from mmdistill.core.errors import UserError, options_of
from mmdistill.core.plain_checkpoint import adopt_plain_checkpoint, branches_of
from mmdistill.registry import MODELS


@MODELS.register_module()
class SemiModel(BaseModel):
    """A trained student and a frozen teacher of the same architecture.

    The teacher has no gradient and stays in evaluation mode whatever the loop does. What must
    survive a restart is in buffers: ``teacher_steps`` (optimizer steps that the teacher
    followed), ``skipped_steps`` (those of them that were refused because the student was not
    finite) and ``unsup_weight``. ``cur_iter`` is set by our training loops (and by the teacher's
    hook) and keys random draws; ``pseudo_stats`` is where a method leaves the counts of a step
    (:class:`mmdistill.core.pseudo.PseudoStats`).

    A method replaces :meth:`loss`, or only :meth:`pseudo_samples`. Methods with thresholds
    also have ``collect_records``, ``refresh`` and ``refresh_buffers``, see
    :class:`mmdistill.core.hooks.ThresholdRefreshHook`.

    Args:
        model: config of any host model, or a built one; both branches are copies of it.
        semi_train_cfg: ``sup_weight`` of the labelled loss (default 1).
        semi_test_cfg: ``predict_on``, ``'student'`` (default) or ``'teacher'``.
        data_preprocessor: as in mmengine; default: the host model's own, per branch.
        init_cfg: as in mmengine.

    Raises:
        UserError: unknown keys or branch names.
    """

    refresh_buffers: Sequence[str] = ()
    teacher_frozen = True
    """False where a method trains the teacher by gradient too."""
    moves_teacher = False
    """True where a method updates the teacher itself, so that no hook may."""
    own_step = False
    """True where the method lives in ``train_step``, which DDP's wrapper would never call; then
    our loops do, and the method averages gradients over ranks."""

    def __init__(
        self,
        model: dict | nn.Module,
        semi_train_cfg: dict | None = None,
        semi_test_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        train = options_of('semi_train_cfg', semi_train_cfg, dict(sup_weight=1.0))
        test = options_of('semi_test_cfg', semi_test_cfg, dict(predict_on='student'))
        student, teacher = _build(model), _build(model)
        host = getattr(student, 'data_preprocessor', None)
        if data_preprocessor is None and host is not None:
            data_preprocessor = dict(
                type='mmdistill.BranchDataPreprocessor', data_preprocessor=copy.deepcopy(host)
            )
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.student, self.teacher = student, teacher
        self.sup_weight, self.predict_on = train['sup_weight'], test['predict_on']
        self.branch(self.predict_on)
        self._followers_from_student((self.teacher,))
        self.teacher.requires_grad_(False).eval()
        self.register_buffer('teacher_steps', torch.zeros((), dtype=torch.long))
        self.register_buffer('skipped_steps', torch.zeros((), dtype=torch.long))
        self.register_buffer('unsup_weight', torch.ones(()))
        self.unsup_active = True  # whether unsup_weight is positive; the ramp's hook knows
        self.cur_iter = 0
        self.pseudo_stats: Any = None

    def followers(self) -> tuple[nn.Module, ...]:
        """Networks that start as copies of the student: a frozen teacher, others of a method."""
        return (self.teacher,) if self.teacher_frozen else ()

    def _followers_from_student(self, followers: Sequence[nn.Module] | None = None) -> None:
        """Makes copies of the student, buffers outside the state dict included."""
        hidden = dict(self.student.named_buffers())
        for follower in self.followers() if followers is None else followers:
            follower.load_state_dict(self.student.state_dict())
            for name, buffer in follower.named_buffers():
                buffer.copy_(hidden[name])

    def init_weights(self) -> None:
        """Initialises the student; the teacher starts as its copy, then checkpoints are read.

        Another call changes nothing, as in mmengine: a trained teacher is not reset.
        """
        if self.is_init:
            super().init_weights()  # says so
            return
        given = self.init_cfg
        configs = [given] if isinstance(given, dict) else list(given or [])
        pretrained = [each for each in configs if each['type'] in ('Pretrained', PretrainedInit)]
        self.init_cfg = [each for each in configs if each not in pretrained] or None
        for follower in self.followers():
            if isinstance(follower, BaseModule):
                follower._is_init = True  # it becomes a copy: reads no file, draws no number
        super().init_weights()
        self._followers_from_student()
        self.init_cfg = given
        if pretrained:
            initialize(self, pretrained)

    def train(self, mode: bool = True) -> 'SemiModel':
        """Sets the student's mode; a frozen teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher_frozen:
            self.teacher.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> 'SemiModel':
        """As in torch, except that a frozen teacher stays frozen."""
        super().requires_grad_(requires_grad)
        if self.teacher_frozen:
            self.teacher.requires_grad_(False)
        return self

    def branch(self, name: str) -> nn.Module:
        """The student, the teacher, or a further branch of the method.

        Raises:
            UserError: another name.
        """
        if name not in (known := branches_of(self)):
            raise UserError(f'a branch is one of {known}, got {name!r}')
        return getattr(self, name)

    def branch_state_dict(self, name: str) -> dict[str, Tensor]:
        """State of one branch, as the plain host model saves it."""
        return self.branch(name).state_dict()

    def forward(
        self,
        inputs: Any,
        data_samples: Any = None,
        mode: str = 'tensor',
        branch_index: Mapping[str, Sequence[int]] | None = None,
    ) -> Any:
        """As in mmengine: ``loss``, ``predict`` or ``tensor``; the latter two on one branch.

        Args:
            inputs: of the host model, or by branch name.
            data_samples: of the host model, or by branch name.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.
            branch_index: by branch name, which samples of the batch it holds; made by
                :func:`mmdistill.core.collate.branch_collate` and passed on to ``loss``.
        """
        if mode == 'loss':
            if branch_index is None:
                return self.loss(inputs, data_samples)
            return self.loss(inputs, data_samples, branch_index=branch_index)
        return self.branch(self.predict_on)(inputs, data_samples, mode=mode)

    def loss(
        self,
        inputs: Mapping[str, Any],
        data_samples: Mapping[str, Any],
        branch_index: Mapping[str, Sequence[int]] | None = None,
    ) -> dict[str, Tensor]:
        """Template for branch batches: supervised loss plus loss on pseudo labels.

        Args:
            inputs: by branch name ``sup``, ``unsup_teacher``, ``unsup_student``.
            data_samples: by branch name.
            branch_index: by branch name, which samples of the batch it holds.

        Returns:
            ``sup_*`` losses of the student on the branch ``sup``, times ``sup_weight``, and
            ``unsup_*`` losses on ``unsup_student``, times the buffer ``unsup_weight``.

        Raises:
            UserError: no known branch, or a student's branch without the teacher's.
        """
        losses = {}
        if 'sup' in inputs:
            labeled = self.student(inputs['sup'], data_samples['sup'], mode='loss')
            losses.update(self.weighted(labeled, 'sup', self.sup_weight))
        if 'unsup_student' in inputs:
            if 'unsup_teacher' not in inputs:
                raise UserError("the batch has the branch 'unsup_student' and no 'unsup_teacher'")
            with torch.no_grad():
                pseudo = self.pseudo_samples(inputs['unsup_teacher'], data_samples)
            unlabeled = self.student(inputs['unsup_student'], pseudo, mode='loss')
            losses.update(self.weighted(unlabeled, 'unsup', self.unsup_weight))
        if not losses:
            raise UserError(
                f"the batch has the branches {sorted(inputs)}, none of 'sup', 'unsup_student': "
                'check the MultiBranch transform'
            )
        return losses

    def pseudo_samples(self, inputs: Any, data_samples: Mapping[str, Any]) -> Any:
        """Data samples for the student's unlabelled branch, from the teacher's predictions.

        Args:
            inputs: of the branch ``unsup_teacher``.
            data_samples: of all branches, by name.
        """
        raise NotImplementedError(f'{type(self).__name__} has no pseudo_samples')

    @staticmethod
    def weighted(losses: Mapping[str, Any], prefix: str, weight: float | Tensor) -> dict:
        """Renames losses to ``<prefix>_<name>`` and multiplies those whose name holds 'loss'.

        Args:
            losses: tensors or lists of tensors by name.
            prefix: what goes in front, without the underscore.
            weight: the factor; entries without 'loss' in their name are only renamed.
        """
        scaled = {}
        for name, value in losses.items():
            if 'loss' in name:
                many = isinstance(value, (list, tuple))
                value = [each * weight for each in value] if many else value * weight
            scaled[f'{prefix}_{name}'] = value
        return scaled

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        """Lets a plain checkpoint of the host model fill both branches."""
        adopt_plain_checkpoint(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _build(model: dict | nn.Module) -> nn.Module:
    """A new model from a config, or a copy of a built one."""
    copied = copy.deepcopy(model)
    return copied if isinstance(model, nn.Module) else ROOT_MODELS.build(copied)
