"""How mmseg changes label ids while it loads them."""

from collections.abc import Mapping

import numpy as np

IGNORED = 255
"""Id of pixels without a class in every label of mmseg."""


def label_table(
    label_map: Mapping[int, int] | None = None, reduce_zero_label: bool = False
) -> np.ndarray:
    """The id that each id of a label file becomes.

    Args:
        label_map: new ids of some ids, as a dataset with custom ``classes`` has it.
        reduce_zero_label: id 0 is ignored and the others move down by one, before the map.

    Returns:
        (256,) uint8; ``table[label]`` is the label that mmseg's ``LoadAnnotations`` makes.
    """
    table = np.arange(256, dtype=np.uint8)
    if reduce_zero_label:
        table[1:IGNORED] -= 1
        table[0] = IGNORED
    if label_map:
        moved = table.copy()
        for old, new in label_map.items():
            moved[table == old] = new
        table = moved
    return table
