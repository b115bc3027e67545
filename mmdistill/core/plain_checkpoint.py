"""Plain host checkpoints in and out of a student-teacher model.

In: keys ``backbone...`` become ``student.backbone...``, ``teacher.backbone...`` and so on for
every branch that the model has. The module
versions in the state dict's ``_metadata`` travel too: sparse convolutions permute kernels that
carry none, so without them the weights would be loaded in the wrong order, silently.

Out: one branch as the plain host model would have saved it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdistill.core.errors import UserError

BRANCHES = ('student', 'teacher', 'reviewer')


def branches_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the branches that a model has, the student first."""
    return tuple(name for name in BRANCHES if getattr(model, name, None) is not None)


def adopt_plain_checkpoint(model: nn.Module, state_dict: dict, prefix: str = '') -> bool:
    """Rewrites a plain host checkpoint, in place, into one of a student-teacher model.

    A state dict with keys of a branch is left as it is. What a plain one cannot hold (the
    model's own buffers, thresholds) keeps its present value.

    Args:
        model: a module with the submodules ``student`` and ``teacher``; a ``reviewer`` too, or not.
        state_dict: what is being loaded; torch and mmengine hand over a copy.
        prefix: prefix of the model's keys.

    Returns:
        True when the state dict was a plain one.

    Raises:
        UserError: the state dict holds nothing that fits the model.
    """
    given = {key[len(prefix) :] for key in state_dict if key.startswith(prefix)}
    plain = model.student.state_dict()
    own = model.state_dict()
    if not given or any(f'{branch}.{key}' in given for branch in BRANCHES for key in plain):
        return False
    if not given & set(plain):
        if given & set(own):
            return False
        raise UserError(
            'the checkpoint holds nothing that fits the model; it has '
            f'{_listing(given)}, the model has {_listing(plain)}: take a checkpoint of the same '
            'architecture'
        )
    loaded = {key: state_dict.pop(f'{prefix}{key}') for key in sorted(given)}
    for key, value in loaded.items():
        for branch in branches_of(model):
            state_dict[f'{prefix}{branch}.{key}'] = value
    for key, value in own.items():
        if key.split('.')[0] not in BRANCHES:
            state_dict[f'{prefix}{key}'] = value
    metadata = getattr(state_dict, '_metadata', None)
    if prefix and metadata is None:
        print_log(
            f'a plain checkpoint is loaded through a wrapper ({prefix!r}), where the versions of '
            'its modules cannot be seen: sparse convolutions may come out wrong. Load it into the '
            'student-teacher model itself',
            logger='current',
            level=30,
        )
    _copy_versions(model, metadata, prefix)
    _report(loaded, plain)
    return True


def _copy_versions(model: nn.Module, metadata: dict | None, prefix: str) -> None:
    """Gives all branches the module versions of the plain checkpoint.

    The loader's closure holds this very object, so it has to be changed in place.
    """
    for name, _ in model.student.named_modules() if metadata is not None else ():
        version = metadata.get(f'{prefix}{name}'.rstrip('.'))
        for branch in branches_of(model) if version is not None else ():
            metadata[f'{prefix}{branch}.{name}'.rstrip('.')] = version


def _report(loaded: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    """Says in one line what a partly fitting checkpoint leaves out."""
    missing = [key for key in plain if key not in loaded and 'num_batches_tracked' not in key]
    unused = [key for key in loaded if key not in plain]
    other = [
        f'{key} {tuple(loaded[key].shape)} for {tuple(plain[key].shape)}'
        for key in plain
        if isinstance(loaded.get(key), Tensor) and loaded[key].shape != plain[key].shape
    ]
    if missing or unused or other:
        fit = len(plain) - len(missing) - len(other)
        print_log(
            f'the plain checkpoint fills {fit} of {len(plain)} tensors of student and teacher; '
            f'missing in it: {_listing(missing)}; not used: {_listing(unused)}; '
            f'of another shape: {_listing(other)}',
            logger='current',
            level=30,
        )


def _listing(names: Iterable[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    names = sorted(names)
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return (', '.join(names[:most]) + more) or 'none'


def plain_checkpoint(checkpoint: Mapping[str, Any], branch: str = 'student') -> dict[str, Any]:
    """One branch of a student-teacher checkpoint, as the plain host model would save it.

    Optimizer, schedulers, message hub and the like stay behind; ``meta`` is kept as plain values,
    which ``torch.load`` reads with ``weights_only=True``, and says ``exported_branch``.

    Args:
        checkpoint: what ``torch.load`` gave; unchanged.
        branch: ``'student'``, ``'teacher'`` or ``'reviewer'``.

    Returns:
        A checkpoint with ``meta`` and ``state_dict``, which carries its ``_metadata``.

    Raises:
        UserError: another branch, the checkpoint has no such branch, its branches differ in
            their keys, or it is no checkpoint.
    """
    if branch not in BRANCHES:
        raise UserError(f'a branch is one of {BRANCHES}, got {branch!r}')
    state, meta = checkpoint.get('state_dict', checkpoint), checkpoint.get('meta') or {}
    for name, part in dict(state_dict=state, meta=meta).items():
        if not isinstance(part, Mapping):
            raise UserError(f'{name} of the checkpoint is a {type(part).__name__}, no dict')
    parts = {
        name: {key[len(name) + 1 :] for key in state if key.startswith(f'{name}.')}
        for name in BRANCHES
    }
    for name in BRANCHES[1:]:
        if parts[name] and parts['student'] and (odd := parts['student'] ^ parts[name]):
            raise UserError(f'student and {name} of the checkpoint differ in {_listing(odd)}')
    head = f'{branch}.'
    plain = OrderedDict((key[len(head) :], state[key]) for key in state if key.startswith(head))
    if not plain:
        raise UserError(
            f'the checkpoint has no {branch}, its keys are {_listing(state)}: is it already a '
            'plain one?'
        )
    for key, value in plain.items():
        if not (isinstance(value, Tensor) or key.endswith('_extra_state')):
            raise UserError(f'{branch}.{key} of the checkpoint is no tensor: {value!r:.60}')
    versions = getattr(state, '_metadata', None)
    if versions is not None:
        plain._metadata = OrderedDict(
            (name[len(head) :], versions[name]) for name in versions if f'{name}.'.startswith(head)
        )
    return dict(meta=plain_values(dict(meta, exported_branch=branch)), state_dict=plain)


def plain_values(value: Any) -> Any:
    """Containers and numpy values as dicts, lists and numbers; other values as they are."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain_values(key): plain_values(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain_values(each) for each in value]
    return value
