"""Optimizer of a student-teacher model: nothing of a frozen teacher, few parameter groups."""

import inspect
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.registry import OPTIM_WRAPPER_CONSTRUCTORS


def merged_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups with equal settings made one; order of first appearance.

    Args:
        groups: ``params`` and settings each.
    """
    merged: dict[tuple, dict[str, Any]] = {}
    for group in groups:
        settings = {name: value for name, value in group.items() if name != 'params'}
        key = tuple(sorted((name, repr(value)) for name, value in settings.items()))
        merged.setdefault(key, dict(params=[], **settings))['params'].extend(group['params'])
    return list(merged.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor for everything that is trained, with the same ``paramwise_cfg``.

    It leaves out the submodules ``reviewer`` and ``teacher`` (a teacher that is trained by
    gradient stays, ``teacher_frozen = False``), others that are frozen as a whole, and frozen
    parameters, and merges groups with equal settings: mmengine's makes one group per tensor as
    soon as there is a ``paramwise_cfg``.

    Args:
        optim_wrapper_cfg: as in mmengine.
        paramwise_cfg: as in mmengine; keys may be those for the plain host model, for instance
            ``backbone``, since they match parts of names.

    Raises:
        UserError: nothing is left to train.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Adds a module's parameters, see mmengine; those of followers are passed over."""
        if prefix not in self.followers:
            super().add_params(params, module, prefix=prefix, is_dcn_module=is_dcn_module)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The optimizer wrapper of a model, wrapped for several ranks or not."""
        model = model.module if is_model_wrapper(model) else model
        self.followers = {'reviewer'}
        if getattr(model, 'teacher_frozen', True):
            self.followers.add('teacher')
        for name, part in model.named_children():
            if not any(each.requires_grad for each in part.parameters()):
                self.followers.add(name)
        groups: list[dict[str, Any]] = []
        if self.paramwise_cfg:
            self.add_params(groups, model)
            groups = merged_groups(groups)
        else:
            named = model.named_parameters()
            named = ((name.split('.')[0], each) for name, each in named if each.requires_grad)
            trained = [each for branch, each in named if branch not in self.followers]
            groups = [dict(params=trained)] if trained else []
        if not groups:
            raise UserError(f'{type(model).__name__} has no parameter to train: all are frozen')
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:
            kind = self.optimizer_cfg['type']
            kind = registry.get(kind) if isinstance(kind, str) else kind
        first = next(iter(inspect.signature(kind).parameters), 'params')
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, first: groups})
        cfg = {'type': 'OptimWrapper', **self.optim_wrapper_cfg}
        return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimizer))
