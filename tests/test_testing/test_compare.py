"""Comparison of states: every difference is found and named, nothing else."""

import copy
import logging
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from mmdistill.testing import assert_same_state, captured_log, state_differences

NAN = float('nan')


@pytest.mark.parametrize(
    'a',
    [
        torch.tensor([1.0, NAN, -0.0]),
        torch.tensor([[1, 2]]).T,
        torch.zeros(0, 3),
        torch.tensor(True),
        torch.tensor([1 + 2j]),
        torch.tensor([1.5], dtype=torch.bfloat16),
        np.arange(4.0),
        {'a': [1, 2.5, None, 'x'], 'b': {'c': (torch.ones(2), NAN)}},
        OrderedDict(x=torch.ones(1)),
        nn.BatchNorm1d(3),
    ],
)
def test_everything_equals_itself_and_its_copy(a):
    assert state_differences(a, a) == []
    assert_same_state(a, copy.deepcopy(a))


@pytest.mark.parametrize(
    'a, b, words',
    [
        (torch.zeros(2), torch.tensor([0.0, -0.0]), '1 of 2 differ, by at most 0'),
        (torch.ones(3), torch.tensor([1.0, 1.0, 1.5]), '1 of 3 differ, by at most 0.5'),
        (torch.ones(2), torch.ones(3), r'\(2,\) torch.float32 and \(3,\)'),
        (torch.ones(2), torch.ones(2).double(), 'torch.float32 and .* torch.float64'),
        (torch.tensor(1 + 1j), torch.tensor(1 + 2j), '1 of 1 differ, by at most 1'),
        (torch.tensor(True), torch.tensor(False), '1 of 1 differ'),
        (np.zeros(2), np.ones(2), '2 of 2 differ'),
        ({'a': {'b': 1}}, {'a': {'b': 2}}, r'a\.b: 1 and 2'),
        ({'a': {'b': 1}}, {'a': {}}, r'a\.b: only in the first'),
        ({}, {'a': 1}, 'a: only in the second'),
        ([1, [2, 3]], [1, [2, 4]], r'\[1\]\[1\]: 3 and 4'),
        ([1], [1, 2], '1 entries and 2 entries'),
        (1, 1.0, '1 and 1.0'),
        (None, 0, 'None and 0'),
        (torch.ones(1), 1.0, 'tensor'),
    ],
)
def test_differences_are_named(a, b, words):
    with pytest.raises(AssertionError, match=words):
        assert_same_state(a, b)
    assert state_differences(b, a)


def test_modules_are_compared_by_their_state():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    assert state_differences(a, b)
    b.load_state_dict(a.state_dict())
    assert_same_state(a, b)
    assert_same_state(a, b.state_dict())


def test_long_lists_of_differences_are_cut():
    a, b = {str(i): i for i in range(20)}, {str(i): -1 for i in range(20)}
    with pytest.raises(AssertionError) as error:
        assert_same_state(a, b, limit=3)
    assert len(str(error.value).splitlines()) == 5
    assert 'and 17 more' in str(error.value)


def test_log_of_a_block_and_of_nothing_else():
    logger = MMLogger.get_current_instance()
    handlers = list(logger.handlers)
    logger.warning('before')
    with captured_log() as lines:
        logger.log(logging.WARNING, 'inside %d', 3)
    logger.warning('behind')
    assert lines == ['WARNING inside 3']
    assert logger.handlers == handlers
