"""Attention inside packed documents: masks and arguments for each kernel of Hugging Face.

A row of a batch holds several documents, ``doc_ids`` says which token belongs to which. A token
sees the earlier tokens of its own document and nothing else. Numbers of documents count as runs:
two neighbours differ, a number may come back later in the row. Padding (``-1``) is a run of its
own that sees itself, so that no row of a mask is empty and no softmax becomes NaN.

Orca packs its examples (arXiv 2306.02707, section 4.1) and does not say whether they see each
other; separate documents are our completion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from mmdistill.core.errors import UserError, did_you_mean

FLASH = ('flash_attention_2', 'flash_attention_3')
IMPLEMENTATIONS = ('eager', 'sdpa', 'flex_attention', *FLASH)
FLAT = ('cu_seq_lens_q', 'cu_seq_lens_k', 'max_length_q', 'max_length_k')


def runs(doc_ids: Tensor) -> Tensor:
    """Numbers the documents of each row from 0 in their order.

    Args:
        doc_ids: ``(B, L)``, -1 for padding.

    Returns:
        ``(B, L)`` integers that never fall along a row.
    """
    changes = doc_ids[:, 1:] != doc_ids[:, :-1]
    return torch.nn.functional.pad(changes.long().cumsum(1), (1, 0))


def visible(doc_ids: Tensor, window: int | None = None) -> Tensor:
    """Which keys a query sees.

    Args:
        doc_ids: ``(B, L)``, -1 for padding.
        window: number of tokens that a query sees, itself included; None: the whole document.

    Returns:
        ``(B, 1, L, L)`` bool, queries by keys; the diagonal is true.
    """
    number, place = runs(doc_ids), torch.arange(doc_ids.shape[1], device=doc_ids.device)
    distance = place[:, None] - place[None, :]
    near = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    return ((number[:, :, None] == number[:, None, :]) & near)[:, None]


def additive_mask(doc_ids: Tensor, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """:func:`visible` as a summand of the scores: 0, or the least number of the type.

    Args:
        doc_ids: ``(B, L)``, -1 for padding.
        dtype: of the scores.
        window: see :func:`visible`.

    Returns:
        ``(B, 1, L, L)``.
    """
    seen = visible(doc_ids, window)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)


def flex_mask(doc_ids: Tensor, window: int | None = None) -> BlockMask:
    """:func:`visible` as a ``BlockMask`` of FlexAttention, shared by all heads.

    Build it once per batch: layers share it.

    Args:
        doc_ids: ``(B, L)``, -1 for padding.
        window: see :func:`visible`.
    """
    number, (rows, length) = runs(doc_ids), doc_ids.shape

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = (query >= key) & (number[row, query] == number[row, key])
        return same if window is None else same & (query - key < window)

    on_gpu = doc_ids.is_cuda
    return create_block_mask(sees, rows, None, length, length, doc_ids.device, _compile=on_gpu)


def flash_lengths(doc_ids: Tensor) -> dict[str, Any]:
    """Where documents begin in the rows laid end to end, for kernels of variable length.

    The greatest length comes to the CPU: one wait per batch, where a kernel that finds the
    documents by itself waits in each layer.

    Args:
        doc_ids: ``(B, L)``, -1 for padding.

    Returns:
        ``cu_seq_lens_q`` and ``cu_seq_lens_k`` (``(documents + 1,)`` int32, from 0 to ``B * L``),
        ``max_length_q`` and ``max_length_k`` (integers).
    """
    number = runs(doc_ids)
    first = torch.ones_like(number, dtype=torch.bool)
    first[:, 1:] = number[:, 1:] != number[:, :-1]
    starts = first.flatten().nonzero().flatten()
    ends = torch.nn.functional.pad(starts, (0, 1), value=doc_ids.numel()).to(torch.int32)
    longest = int(ends.diff().max())
    return dict(zip(FLAT, (ends, ends, longest, longest), strict=True))


def windows(config: Any) -> dict[str, int | None] | int | None:
    """What the layers of a network see, by its config.

    Returns:
        One window (None: everything) for all layers; or windows by type of layer, for networks
        that take a dict of masks.
    """
    kinds = set(getattr(config, 'layer_types', None) or ())
    if 'sliding_attention' in kinds:
        return dict(full_attention=None, sliding_attention=config.sliding_window)
    return None if kinds else getattr(config, 'sliding_window', None)


def packed_arguments(
    config: Any, doc_ids: Tensor, dtype: torch.dtype, flat: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a network of Hugging Face is called with so that documents do not see each other.

    Call the network with ``use_cache=False`` besides; a cache or a mask of two dimensions makes it
    forget the documents.

    Args:
        config: of the network; its attention implementation decides the form.
        doc_ids: ``(B, L)``, -1 for padding.
        dtype: of the network's scores, for the additive mask of ``eager``.
        flat: ``cu_seq_lens_q`` and so on where the batch has them already.

    Returns:
        ``attention_mask``, and the lengths for flash kernels, which take no mask.

    Raises:
        UserError: an implementation that is not known.
    """
    name = config._attn_implementation
    check_implementation(name)
    if name in FLASH:
        return dict(attention_mask=None, **(flat or flash_lengths(doc_ids)))

    def mask(window: int | None) -> Tensor | BlockMask:
        if name == 'flex_attention':
            return flex_mask(doc_ids, window)
        return visible(doc_ids, window) if name == 'sdpa' else additive_mask(doc_ids, dtype, window)

    sizes = windows(config)
    if isinstance(sizes, dict):
        return dict(attention_mask={kind: mask(window) for kind, window in sizes.items()})
    return dict(attention_mask=mask(sizes))


def check_implementation(name: str) -> None:
    """Checks the name of an attention implementation.

    Raises:
        UserError: it is not one of :data:`IMPLEMENTATIONS`.
    """
    if name not in IMPLEMENTATIONS:
        near = did_you_mean(name, IMPLEMENTATIONS)
        raise UserError(f'attention {name!r} is not known{near}; use one of {IMPLEMENTATIONS}')
