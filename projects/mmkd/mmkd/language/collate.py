"""Batches of packs, in the form that an attention kernel takes.

All have ``input_ids``, ``labels``, ``position_ids`` and ``doc_ids`` of equal shape. Padding is one
more document at the end of its row, numbered -1, with positions 0, 1, 2, ... and labels -100: at
position 0 throughout it would count as many documents of one token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.language.attention import additive_mask
from mmkd.language.lm_loss import IGNORED
from mmkd.registry import FUNCTIONS

Sample = Mapping[str, Tensor]
KEYS = ('input_ids', 'labels', 'position_ids', 'doc_ids')


@FUNCTIONS.register_module()
def padded_collate(
    samples: Sequence[Sample],
    length: int | None = None,
    pad_id: int = 0,
    mask_dtype: str | None = None,
) -> dict[str, Tensor]:
    """A pack per row.

    Args:
        samples: of :class:`mmkd.language.packed_dataset.PackedDataset`.
        length: L, the same for all batches; None: that of the longest pack.
        pad_id: token of the padding.
        mask_dtype: adds ``attention_mask`` ``(B, 1, L, L)`` of this type, which is added to the
            scores, for networks that are called directly; ``CausalStudent`` makes its own. None:
            no mask.

    Returns:
        Tensors ``(B, L)``.

    Raises:
        UserError: a pack is longer than the length, or an unknown type.
    """
    batch = _stacked([{key: each[key] for key in KEYS} for each in samples], length, pad_id)
    if mask_dtype is not None:
        dtype = getattr(torch, mask_dtype, None)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise UserError(f'mask_dtype of padded_collate must be a float type: {mask_dtype!r}')
        batch['attention_mask'] = additive_mask(batch['doc_ids'], dtype)
    return batch


@FUNCTIONS.register_module()
def flat_collate(samples: Sequence[Sample], pad_id: int = 0) -> dict[str, Any]:
    """All packs end to end in one row, for kernels of variable length; nothing is padded.

    Args:
        samples: of :class:`mmkd.language.packed_dataset.PackedDataset`.
        pad_id: the only token of a batch of empty packs.

    Returns:
        Tensors ``(1, T)``, documents numbered through; ``cu_seq_lens_q`` and ``cu_seq_lens_k``
        ``(documents + 1,)`` int32, from 0 to T; ``max_length_q`` and ``max_length_k``, integers.
    """
    row = {key: torch.cat([each[key] for each in samples]) for key in KEYS}
    sizes = torch.cat([each['cu_seqlens'].diff() for each in samples])
    if len(sizes):
        row['doc_ids'] = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    else:
        row, sizes = _padded(row, 1, pad_id), torch.ones(1, dtype=torch.int32)
    ends = torch.nn.functional.pad(sizes.cumsum(0), (1, 0)).to(torch.int32)
    longest = int(sizes.max())
    return dict(
        {key: value[None] for key, value in row.items()},
        cu_seq_lens_q=ends,
        cu_seq_lens_k=ends,
        max_length_q=longest,
        max_length_k=longest,
    )


@FUNCTIONS.register_module()
def unpacked_collate(samples: Sequence[Sample], pad_id: int = 0) -> dict[str, Tensor]:
    """A document per row, for evaluation.

    Args:
        samples: of :class:`mmkd.language.packed_dataset.PackedDataset`.
        pad_id: token of the padding.

    Returns:
        Tensors ``(documents, longest)``; one row of padding for a batch of empty packs.
    """
    rows = []
    for each in samples:
        sizes = each['cu_seqlens'].diff().tolist()
        parts = zip(*(each[key].split(sizes) for key in KEYS), strict=True)
        rows += [dict(zip(KEYS, part, strict=True)) for part in parts]
    rows = [dict(row, doc_ids=torch.zeros_like(row['doc_ids'])) for row in rows]
    return _stacked(rows or [{key: samples[0][key] for key in KEYS}], None, pad_id)


def _stacked(rows: Sequence[Sample], length: int | None, pad_id: int) -> dict[str, Tensor]:
    """Rows ``(n,)`` as a batch ``(B, L)``; of one place at least."""
    longest = max(len(row['input_ids']) for row in rows)
    if length is not None and longest > length:
        raise UserError(
            f'a pack has {longest} tokens, length of padded_collate is {length}: it must be the '
            "data set's cap"
        )
    padded = [_padded(row, length or max(1, longest), pad_id) for row in rows]
    return {key: torch.stack([row[key] for row in padded]) for key in KEYS}


def _padded(row: Sample, length: int, pad_id: int) -> dict[str, Tensor]:
    """A row ``(n,)`` as ``(length,)``."""
    rest = length - len(row['input_ids'])
    fill = dict(input_ids=pad_id, labels=IGNORED, doc_ids=-1)
    added = {key: torch.full((rest,), value) for key, value in fill.items()}
    added['position_ids'] = torch.arange(rest)
    return {key: torch.cat([row[key], added[key]]) for key in KEYS}
