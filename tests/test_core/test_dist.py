"""Collectives: alone they change nothing, on two ranks all end with the same."""

import pytest
import torch
from torch import nn

from mmdistill.core.dist import (
    OtherRankError,
    broadcast_buffers,
    broadcast_object,
    broadcast_tensors,
    gather_objects,
    on_all_ranks,
    raise_together,
)
from mmdistill.testing import assert_same_state, run_gloo

KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]


def tensors(rank: int) -> list[torch.Tensor]:
    """Tensors of all kinds and odd shapes that differ by rank; some are not contiguous."""
    made = [torch.full((2, 3), rank).to(kind) for kind in KINDS]
    made += [torch.tensor(float(rank)), torch.zeros(0), torch.full((4, 5), float(rank)).T]
    made.append(torch.full((4,), rank)[::4])
    made[0][0, 0] = float('nan')
    return made


def on_a_rank(rank: int) -> dict:
    """Everything at once, to start the ranks once."""
    mine = tensors(rank)
    broadcast_tensors(mine, src=1)
    norm = nn.BatchNorm1d(2)
    norm.running_mean += rank + 1
    broadcast_buffers(norm)
    flags = [on_all_ranks(torch.tensor(flag)).item() for flag in (True, rank == 0, rank == 1)]
    told = []
    for error in (None, ValueError('bad file') if rank == 1 else None):
        try:
            raise_together(error, 'reading')
        except (OtherRankError, ValueError) as caught:
            told.append(f'{type(caught).__name__}: {caught}')
    return dict(
        tensors=mine,
        mean=norm.running_mean,
        flags=flags,
        told=told,
        gathered=gather_objects({'rank': rank}),
        shared=broadcast_object(rank),
        from_one=broadcast_object(rank, src=1),
    )


def test_two_ranks_agree():
    first, second = run_gloo(on_a_rank, 2)
    for found in (first, second):
        assert_same_state(found['tensors'], tensors(1))
        assert found['mean'].tolist() == [1, 1]
        assert found['flags'] == [True, False, False]
        assert (found['shared'], found['from_one']) == (0, 1)
    assert first['gathered'] == [{'rank': 0}, {'rank': 1}]
    assert second['gathered'] is None
    assert first['told'] == ['OtherRankError: reading failed on rank 1: ValueError: bad file']
    assert second['told'] == ['ValueError: bad file']


def test_alone_nothing_changes():
    mine = tensors(3)
    broadcast_tensors(mine)
    assert_same_state(mine, tensors(3))
    flag = torch.tensor(True)
    assert on_all_ranks(flag) is flag
    assert gather_objects(5) == [5]
    assert broadcast_object('x') == 'x'
    raise_together(None, 'reading')
    with pytest.raises(ValueError, match='bad file'):
        raise_together(ValueError('bad file'), 'reading')
