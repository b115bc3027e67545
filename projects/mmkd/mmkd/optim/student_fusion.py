"""Two optimizers: of the student, and of the network that weighs its samples."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapperDict
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.core.optim_constructor import StudentOptimWrapperConstructor
from mmkd.registry import OPTIM_WRAPPER_CONSTRUCTORS

WEIGHTER = 'weighter'
"""Submodule of the model that the second optimizer trains."""


class _WithoutWeighter(StudentOptimWrapperConstructor):
    """Optimizer of all trained parameters but the weighter's."""

    def __call__(self, model: nn.Module) -> Any:
        """The optimizer wrapper."""
        rest = nn.Module()
        for name, part in model.named_children():
            if name != WEIGHTER:
                rest.add_module(name, part)
        return super().__call__(rest)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentFusionConstructor:
    """``optim_wrapper=dict(constructor='mmkd.StudentFusionConstructor', student=..., fusion=...)``.

    ``student`` and ``fusion`` are what ``optim_wrapper`` is elsewhere, ``paramwise_cfg`` included.
    What stands beside them (``type``, ``loss_scale``, as ``tools/train.py --amp`` puts it) is the
    student's; ``fusion`` counts in single precision. ``param_scheduler`` is then a dict with the
    same two keys; ``fusion=[]`` keeps its rate.

    Args:
        optim_wrapper_cfg: the two.
        paramwise_cfg: none here; each of the two has its own.

    Raises:
        UserError: one is missing, or the model has no weighter with parameters.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        given = copy.deepcopy(dict(optim_wrapper_cfg))
        lacking = [name for name in ('student', 'fusion') if name not in given]
        if paramwise_cfg or lacking:
            raise UserError(
                'StudentFusionConstructor takes student=dict(optimizer=...) and fusion=dict('
                f'optimizer=...), each with its own paramwise_cfg; got {sorted(given)}'
            )
        student, fusion = given.pop('student'), given.pop('fusion')
        if fusion.get('type', 'OptimWrapper') != 'OptimWrapper':
            raise UserError(
                f'optim_wrapper.fusion.type is {fusion["type"]!r}: the weighter counts in single '
                "precision; leave it out, or give the student's"
            )
        self.given = dict(student={**given, **student}, fusion=fusion)

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Both optimizer wrappers, by name."""
        model = model.module if is_model_wrapper(model) else model
        weighter = getattr(model, WEIGHTER, None)
        if weighter is None or not any(each.requires_grad for each in weighter.parameters()):
            raise UserError(
                f'{type(weighter).__name__} has nothing to learn: give one optim_wrapper, '
                'without StudentFusionConstructor'
            )
        student, fusion = (dict(self.given[name]) for name in ('student', 'fusion'))
        make = _WithoutWeighter(student, student.pop('paramwise_cfg', None))
        other = DefaultOptimWrapperConstructor(fusion, fusion.pop('paramwise_cfg', None))
        return OptimWrapperDict(student=make(model), fusion=other(weighter))
