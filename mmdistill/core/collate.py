"""Batches of samples that have different branches, with inputs of any nesting."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dataset import default_collate, pseudo_collate

from mmdistill.core.errors import UserError
from mmdistill.registry import FUNCTIONS

FORMS = {'pseudo': pseudo_collate, 'default': default_collate}


def sample_branches(sample: Mapping[str, Any]) -> list[str]:
    """Names of the branches that a sample has, in order; a branch of None is absent.

    Args:
        sample: ``{field: {branch: anything or None}}``.

    Raises:
        UserError: a field is no mapping, so the sample has no branches.
    """
    names: dict[str, None] = {}
    for field, value in sample.items():
        if not isinstance(value, Mapping):
            raise UserError(
                f'{field!r} of a sample is a {type(value).__name__} and not a mapping by branch: '
                'end the pipeline with mmdistill.MultiBranch, or use pseudo_collate'
            )
        names.update((name, None) for name, part in value.items() if part is not None)
    return list(names)


@FUNCTIONS.register_module()
def branch_collate(
    batch: Sequence[Mapping[str, Any]], form: str = 'pseudo'
) -> dict[str, dict[str, Any]]:
    """Groups the samples that have a branch, branch by branch.

    Every branch is collated by itself, so labelled and unlabelled samples come in any order
    and inputs may be dictionaries (point clouds).

    Args:
        batch: samples ``{field: {branch: anything or None}}``, as ``MultiBranch`` makes them.
        form: ``'pseudo'`` keeps tensors in lists, ``'default'`` stacks them, as the functions
            of mmengine do.

    Returns:
        ``{field: {branch: collated}}``, for instance with the fields ``inputs`` and
        ``data_samples``, and ``branch_index``: by branch the positions in the batch of its
        samples.

    Raises:
        UserError: an empty batch, a sample without any branch, or an unknown form.
    """
    if form not in FORMS:
        raise UserError(f'form must be one of {sorted(FORMS)}, got {form!r}')
    members: dict[str, list[int]] = {}
    for position, sample in enumerate(batch):
        names = sample_branches(sample)
        if not names:
            raise UserError(f'sample {position} of the batch has no branch')
        for name in names:
            members.setdefault(name, []).append(position)
    if not members:
        raise UserError('the batch is empty')
    fields = list(dict.fromkeys(field for sample in batch for field in sample))
    collated: dict[str, dict[str, Any]] = {field: {} for field in fields}
    for branch, positions in members.items():
        for field in fields:
            parts = [batch[position].get(field, {}).get(branch) for position in positions]
            known = [part is not None for part in parts]
            if any(known) and not all(known):
                raise UserError(
                    f'branch {branch!r}: some samples of the batch have {field!r} and some do not'
                )
            if all(known):
                collated[field][branch] = FORMS[form](parts)
    return {**collated, 'branch_index': members}
