"""Student and teacher in one model: the frame that every method fills in."""

import copy
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from mmdistill.registry import MODELS

BRANCHES = ('student', 'teacher')


@MODELS.register_module()
class SemiModel(BaseModel):
    """A trained student and a frozen teacher of the same architecture.

    The teacher has no gradient and stays in evaluation mode whatever the loop does. What must
    survive a restart is in buffers: ``teacher_steps`` (number of teacher updates),
    ``skipped_steps`` (updates refused because the student was not finite) and
    ``unsup_weight``. ``cur_iter`` is set by the teacher's hook and keys random draws.

    Args:
        model: config of any host model, or a built one; both branches are copies of it.
        semi_train_cfg: ``sup_weight`` of the labelled loss (default 1).
        semi_test_cfg: ``predict_on``, ``'student'`` (default) or ``'teacher'``.
        data_preprocessor: as in mmengine.
        init_cfg: as in mmengine.

    Raises:
        ValueError: unknown keys or branch names.
    """

    def __init__(
        self,
        model: dict | nn.Module,
        semi_train_cfg: dict | None = None,
        semi_test_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.student = _build(model)
        self.teacher = _build(model)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        train = _checked('semi_train_cfg', semi_train_cfg, sup_weight=1.0)
        test = _checked('semi_test_cfg', semi_test_cfg, predict_on='student')
        self.sup_weight = train['sup_weight']
        self.predict_on = test['predict_on']
        if self.predict_on not in BRANCHES:
            raise ValueError(f'predict_on must be one of {BRANCHES}, got {self.predict_on!r}')
        self.register_buffer('teacher_steps', torch.zeros((), dtype=torch.long))
        self.register_buffer('skipped_steps', torch.zeros((), dtype=torch.long))
        self.register_buffer('unsup_weight', torch.ones(()))
        self.cur_iter = 0
        self.pseudo_stats: Any = None

    def init_weights(self) -> None:
        """Initialises the student; the teacher starts as its copy."""
        super().init_weights()
        self.teacher.load_state_dict(self.student.state_dict())

    def train(self, mode: bool = True) -> 'SemiModel':
        """Sets the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def branch(self, name: str) -> nn.Module:
        """The student or the teacher."""
        if name not in BRANCHES:
            raise ValueError(f'a branch is one of {BRANCHES}, got {name!r}')
        return getattr(self, name)

    def branch_state_dict(self, name: str) -> dict[str, Tensor]:
        """State of one branch, as the plain host model saves it."""
        return self.branch(name).state_dict()

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """As in mmengine: ``loss``, ``predict`` or ``tensor``; the latter two on one branch."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.branch(self.predict_on)(inputs, data_samples, mode=mode)

    def loss(self, inputs: dict, data_samples: dict) -> dict[str, Tensor]:
        """Template for branch batches: supervised loss plus loss on pseudo labels.

        Args:
            inputs: by branch name ``sup``, ``unsup_teacher``, ``unsup_student``.
            data_samples: by branch name.
        """
        losses = {}
        if 'sup' in inputs:
            labeled = self.student(inputs['sup'], data_samples['sup'], mode='loss')
            losses.update(self.weighted(labeled, 'sup', self.sup_weight))
        if 'unsup_student' in inputs:
            with torch.no_grad():
                pseudo = self.pseudo_samples(inputs['unsup_teacher'], data_samples)
            unlabeled = self.student(inputs['unsup_student'], pseudo, mode='loss')
            losses.update(self.weighted(unlabeled, 'unsup', self.unsup_weight))
        return losses

    def pseudo_samples(self, inputs: Any, data_samples: dict) -> Any:
        """Data samples for the student's unlabelled branch, from the teacher's predictions."""
        raise NotImplementedError(f'{type(self).__name__} has no pseudo_samples')

    @staticmethod
    def weighted(losses: dict, prefix: str, weight: float | Tensor) -> dict:
        """Renames losses to ``<prefix>_<name>`` and multiplies those whose name holds 'loss'."""
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
        """Lets a plain checkpoint of the host model fill both branches.

        Module versions travel too: sparse convolutions permute kernels that carry none.
        """
        heads = {key[len(prefix) :].split('.')[0] for key in state_dict if key.startswith(prefix)}
        own = set(self._modules) | set(self._buffers)
        plain = {name.split('.')[0] for name in self.student.state_dict()}
        if heads and 'student' not in heads and heads & plain and not (heads & own - plain):
            metadata = getattr(state_dict, '_metadata', None)
            for key in [key for key in state_dict if key.startswith(prefix)]:
                value = state_dict.pop(key)
                for name in BRANCHES:
                    state_dict[f'{prefix}{name}.{key[len(prefix) :]}'] = value
            for key in [] if metadata is None else [k for k in metadata if k.startswith(prefix)]:
                for name in BRANCHES:
                    inner = f'{name}.{key[len(prefix) :]}'.rstrip('.')
                    metadata[f'{prefix}{inner}'] = metadata[key]
            for name, buffer in self.named_buffers(recurse=False):
                state_dict[f'{prefix}{name}'] = buffer
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _build(model: dict | nn.Module) -> nn.Module:
    """A new model from a config, or a copy of a built one."""
    return copy.deepcopy(model) if isinstance(model, nn.Module) else ROOT_MODELS.build(copy.deepcopy(model))


def _checked(name: str, given: dict | None, **defaults: Any) -> dict:
    """Defaults overridden by what is given; unknown keys raise."""
    unknown = set(given or {}) - set(defaults)
    if unknown:
        raise ValueError(f'{name}: unknown keys {sorted(unknown)}; known: {sorted(defaults)}')
    return {**defaults, **(given or {})}
