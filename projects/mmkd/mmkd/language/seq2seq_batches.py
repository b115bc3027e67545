"""Batches of sources and targets, as long as their longest row, and their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmdistill.core.errors import UserError
from mmkd.language.lm_loss import IGNORED
from mmkd.registry import FUNCTIONS


@FUNCTIONS.register_module()
def seq2seq_collate(samples: Sequence[Mapping[str, Tensor]], pad_id: int = 0) -> dict[str, Tensor]:
    """A pair of source and target per row, padded at the end.

    Args:
        samples: of ``input_ids`` ``(S,)``, ``labels`` ``(T,)`` and, in all or none, ``weights``
            ``(T,)``.
        pad_id: token of the sources' padding; that of the targets has the label -100.

    Returns:
        ``input_ids`` and ``attention_mask`` ``(B, S)``, ``labels`` and ``weights`` ``(B, T)``.
    """
    sources = [each['input_ids'] for each in samples]
    batch = dict(
        input_ids=_padded(sources, pad_id),
        attention_mask=_padded([torch.ones_like(each) for each in sources], 0),
        labels=_padded([each['labels'] for each in samples], IGNORED),
    )
    if 'weights' in samples[0]:
        batch['weights'] = _padded([each['weights'] for each in samples], 0.0)
    return batch


def _padded(rows: list[Tensor], value: float) -> Tensor:
    """Rows as one tensor."""
    return pad_sequence(rows, batch_first=True, padding_value=value)


def split_rows(batch: Mapping[str, Any], parts: int) -> list[dict[str, Tensor]]:
    """Parts of a batch with as many rows each, without the padding that none of its rows needs.

    Args:
        batch: of :func:`seq2seq_collate` or :func:`mmkd.language.collate.padded_collate`.
        parts: number of them.

    Raises:
        UserError: the number of rows is no multiple of it.
    """
    rows = len(batch['input_ids'])
    if rows % parts:
        raise UserError(f'a batch of {rows} rows has no {parts} equal parts: change accumulate')
    size = rows // parts
    return [
        _trimmed({key: value[begin : begin + size] for key, value in batch.items()})
        for begin in range(0, rows, size)
    ]


def _trimmed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch without the last columns that are padding in all rows."""
    if 'doc_ids' in batch:
        width = _width(batch['doc_ids'] >= 0)
        return {key: value[:, :width] for key, value in batch.items()}
    widths = dict.fromkeys(('input_ids', 'attention_mask'), _width(batch['attention_mask'] > 0))
    target = _width(batch['labels'] != IGNORED)
    return {key: value[:, : widths.get(key, target)] for key, value in batch.items()}


def _width(used: Tensor) -> int:
    """Number of columns up to the last one that is used, one at least."""
    places = used.any(0).nonzero()
    return int(places[-1]) + 1 if len(places) else 1
