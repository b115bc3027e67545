"""run_gloo: results in rank order; a rank that raises, dies or hangs fails the test at once."""

import os
import time

import pytest
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size

from mmdistill.testing import RankError, run_gloo


def _add(rank, factor):
    value = torch.tensor([factor * (rank + 1.0)])
    all_reduce(value)
    return get_rank(), get_world_size(), value, os.environ['LOCAL_RANK']


@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_results_in_rank_order(world_size):
    total = 10.0 * sum(range(1, world_size + 1))
    found = run_gloo(_add, world_size, 10.0)
    assert found == [
        (rank, world_size, torch.tensor([total]), str(rank)) for rank in range(world_size)
    ]


def _misbehave(rank, how):
    if rank == 1:
        if how == 'raise':
            raise KeyError('lost')
        if how == 'die':
            os._exit(9)
        time.sleep(600)
    all_reduce(torch.ones(1))


@pytest.mark.parametrize(
    'how, words',
    [('raise', "rank 1 raised:.*KeyError: 'lost'"), ('die', 'rank 1 died'), ('hang', 'no answer')],
)
def test_one_bad_rank_fails_all(how, words):
    with pytest.raises(RankError, match=f'(?s){words}'):
        run_gloo(_misbehave, 2, how, timeout=8 if how == 'hang' else 120)
