"""The order of classes: a teacher's outputs brought into the order of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmdistill.core.errors import UserError


def label_order(label2id: Mapping[str, int], labels: Sequence[str]) -> list[int]:
    """Where the outputs of a network are that belong to the classes of the data.

    Some networks count entailment, neutral, contradiction and others the other way round; by
    number alone they would be mixed up silently.

    Args:
        label2id: of the network's config.
        labels: names of the classes in the order of the data.

    Returns:
        Indices: ``logits[:, indices]`` has the order of the data. Networks whose labels have no
        names (``LABEL_0`` ...) are taken to have the order of the data.

    Raises:
        UserError: other classes, another number of them, or the same one twice.
    """
    if len(label2id) != len(labels):
        raise UserError(f'the network has {len(label2id)} classes, the data {len(labels)}')
    if set(label2id) == {f'LABEL_{number}' for number in range(len(labels))}:
        return list(range(len(labels)))
    known = {name.lower(): number for name, number in label2id.items()}
    missing = [name for name in labels if name.lower() not in known]
    if missing:
        raise UserError(
            f'class {missing[0]!r} of the data is none of the network, whose classes are '
            f'{list(label2id)}: give the data these names, or the network those'
        )
    order = [known[name.lower()] for name in labels]
    if sorted(order) != list(range(len(labels))):
        raise UserError(
            f'classes of the data are {list(labels)}, those of the network {dict(label2id)}: each '
            'needs a name and a number of its own'
        )
    return order
