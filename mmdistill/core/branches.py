"""Named branches of a sample: one pipeline each, one preprocessing each, any nesting."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dataset import Compose
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from mmdistill.core.errors import UserError, did_you_mean
from mmdistill.registry import MODELS, TRANSFORMS

BRANCH_NAMES = ('sup', 'unsup_teacher', 'unsup_student')


@TRANSFORMS.register_module()
class MultiBranch:
    """Sends a sample through one pipeline per branch; the last transform of a pipeline.

    A labelled dataset typically has the branch ``sup``, an unlabelled one ``unsup_teacher``
    (weak view) and ``unsup_student`` (strong view). Together with
    :func:`mmdistill.core.collate.branch_collate` the samples of a batch may have different
    branches, in any order.

    Args:
        branches: pipelines (lists of transform configs) by branch name.
        branch_field: all branch names of the training, to catch misspelt ones.

    Raises:
        UserError: no branch, or a branch that is not in ``branch_field``.
    """

    def __init__(
        self,
        branches: Mapping[str, Sequence[Any]],
        branch_field: Sequence[str] = BRANCH_NAMES,
    ) -> None:
        if not branches:
            raise UserError('MultiBranch needs at least one branch')
        for name in branches:
            if name not in branch_field:
                raise UserError(
                    f'MultiBranch: {name!r} is not in branch_field'
                    f'{did_you_mean(name, branch_field)}; it is {list(branch_field)}'
                )
        self.branch_field = tuple(branch_field)
        self.pipelines = {name: Compose(list(steps)) for name, steps in branches.items()}

    def __call__(self, results: dict) -> dict[str, dict[str, Any]] | None:
        """Runs all pipelines, each on a copy of its own.

        Args:
            results: a sample, as the transforms before left it; not changed.

        Returns:
            ``{field: {branch: value}}`` for the fields that the branches pack, or None when a
            pipeline drops the sample.

        Raises:
            UserError: a pipeline does not end with a mapping of fields.
        """
        packed: dict[str, dict[str, Any]] = {}
        for name, pipeline in self.pipelines.items():
            fields = pipeline(copy.deepcopy(results))
            if fields is None:
                return None
            if not isinstance(fields, Mapping):
                raise UserError(
                    f'branch {name!r} ends with a {type(fields).__name__}; let its pipeline end '
                    'with the packing transform of the host package'
                )
            for field, value in fields.items():
                packed.setdefault(field, {})[name] = value
        return packed

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.pipelines})'


def rebuilt(data: Any) -> Any:
    """New containers (mappings, lists, tuples) around the same leaves."""
    if isinstance(data, Mapping):
        return {key: rebuilt(value) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, '_fields'):
        return type(data)(*map(rebuilt, data))
    if isinstance(data, (list, tuple)):
        return type(data)(rebuilt(value) for value in data)
    return data


@MODELS.register_module()
class BranchDataPreprocessor(BaseDataPreprocessor):
    """The host's preprocessor, branch by branch; batches without branches go through as usual.

    The batch of the data loader is never edited.

    Args:
        data_preprocessor: config of the host's preprocessor, or a built one.
    """

    def __init__(self, data_preprocessor: dict | nn.Module) -> None:
        super().__init__()
        built = isinstance(data_preprocessor, nn.Module)
        self.data_preprocessor = (
            data_preprocessor if built else ROOT_MODELS.build(dict(data_preprocessor))
        )

    def forward(self, data: Any, training: bool = False) -> Any:
        """Preprocesses a batch.

        Args:
            data: ``{field: {branch: value}}`` with ``branch_index``, as ``branch_collate`` makes
                it, or any batch of the host.
            training: as in mmengine.

        Returns:
            A batch of the same form.
        """
        if not isinstance(data, Mapping) or 'branch_index' not in data:
            return self.data_preprocessor(rebuilt(data), training)
        fields = {name: value for name, value in data.items() if name != 'branch_index'}
        result: dict[str, Any] = {name: {} for name in fields}
        for branch in data['branch_index']:
            part = {name: by[branch] for name, by in fields.items() if branch in by}
            processed = self.data_preprocessor(rebuilt(part), training)
            for name, value in processed.items():
                result.setdefault(name, {})[branch] = value
        return {**result, 'branch_index': rebuilt(data['branch_index'])}

    def to(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Moves the host's preprocessor too."""
        self.data_preprocessor.to(*args, **kwargs)
        return super().to(*args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Moves the host's preprocessor too."""
        self.data_preprocessor.cuda(*args, **kwargs)
        return super().cuda(*args, **kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Moves the host's preprocessor too."""
        self.data_preprocessor.cpu(*args, **kwargs)
        return super().cpu(*args, **kwargs)
