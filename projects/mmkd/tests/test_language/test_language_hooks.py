"""What a training of a language model logs: packs as they are, and means over tokens."""

import math

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.language.hooks import PackStatisticsHook, packing_of
from mmkd.language.metric import PerplexityMetric


def test_packs_are_counted():
    docs = torch.tensor([[0, 0, 1, 1, 1, -1], [0, 0, 0, 0, -1, -1]])
    labels = torch.full((2, 6), -100)
    labels[0, 4] = labels[1, 2] = labels[1, 3] = 7
    found = packing_of([dict(doc_ids=docs, labels=labels)])
    assert found == dict(fill=9 / 12, documents=3 / 2, responses=3 / 9)


def test_an_empty_pack_has_no_document():
    docs, labels = torch.full((1, 3), -1), torch.full((1, 3), -100)
    found = packing_of([dict(doc_ids=docs, labels=labels)])
    assert found == dict(fill=0.0, documents=0.0, responses=0.0)


def test_perplexity_is_a_mean_over_tokens_not_over_rows():
    metric = PerplexityMetric()
    rows = [dict(nll=torch.tensor(6.0), tokens=torch.tensor(2)), dict(nll=1.0, tokens=6)]
    metric.process(None, rows[:1])
    metric.process(None, rows[1:])
    found = metric.evaluate(2)
    assert found['language/nll'] == pytest.approx(7 / 8)
    assert found['language/perplexity'] == pytest.approx(math.exp(7 / 8))


def test_no_token_is_an_error():
    metric = PerplexityMetric()
    metric.process(None, [dict(nll=0.0, tokens=0)])
    with pytest.raises(UserError, match='no token of the validation data'):
        metric.evaluate(1)


def test_an_interval_below_one_is_refused():
    with pytest.raises(UserError, match='at least 1 iteration, got 0'):
        PackStatisticsHook(0)
