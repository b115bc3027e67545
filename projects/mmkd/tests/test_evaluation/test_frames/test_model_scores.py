"""BERTScore and MAUVE: what is asked of their libraries, and what is refused."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.evaluation.frames.model_scores import bert_score_f1, last_token_features, mauve_score


def features(rows, seed=0):
    """Random features."""
    return np.random.default_rng(seed).normal(size=(rows, 4))


def test_bert_score_asks_its_library(monkeypatch, tmp_path):
    asked = {}

    def score(predictions, references, **options):
        asked.update(options, texts=(predictions, references))
        return torch.zeros(2), torch.zeros(2), torch.tensor([0.25, 0.5])

    monkeypatch.setitem(sys.modules, 'bert_score', SimpleNamespace(score=score))
    found = bert_score_f1(('a', 'b'), (['c', 'd'], ['e']), tmp_path, layer=3)
    assert found.tolist() == [0.25, 0.5] and found.dtype == np.float64
    assert asked['texts'] == (['a', 'b'], [['c', 'd'], ['e']])
    assert asked['model_type'] == str(tmp_path) and asked['num_layers'] == 3
    with pytest.raises(UserError, match='nowhere: there is no such folder'):
        bert_score_f1(['a'], ['b'], tmp_path / 'nowhere', layer=3)


def test_mauve_is_the_mean_over_seeds(monkeypatch):
    asked = []

    def compute(p_features, q_features, seed, verbose):
        asked.append((p_features.shape, q_features.shape, seed))
        return SimpleNamespace(mauve=0.5 + 0.01 * seed)

    monkeypatch.setitem(sys.modules, 'mauve', SimpleNamespace(compute_mauve=compute))
    found = mauve_score(features(6), features(7), min_rows=6)
    assert asked == [((6, 4), (7, 4), seed) for seed in range(5)]
    assert found.values == pytest.approx((0.5, 0.51, 0.52, 0.53, 0.54))
    assert found.mean == pytest.approx(0.52) and found.sd == pytest.approx(0.01 * 2.5**0.5)


def test_what_mauve_refuses():
    with pytest.raises(UserError, match='of 999 predictions and 1000 references is refused'):
        mauve_score(features(999), features(1000))
    for seeds in ((0, 1, 2, 3), (0, 1, 2, 3, 3), (0, 1, 2, 3, 4, 4)):
        with pytest.raises(UserError, match='5 different ones'):
            mauve_score(features(9), features(9), seeds, min_rows=9)
    with pytest.raises(UserError, match=r'\(9, 4\) and \(9, 3\)'):
        mauve_score(features(9), features(9)[:, :3], min_rows=9)


@pytest.mark.parametrize('module', ['bert_score', 'mauve'])
def test_missing_libraries_have_a_command(module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    command = dict(bert_score='bert-score', mauve='mauve-text')[module]
    with pytest.raises(UserError, match=f'pip install {command}$'):
        if module == 'mauve':
            mauve_score(features(9), features(9), min_rows=9)
        else:
            bert_score_f1(['a'], ['b'], tmp_path, layer=1)


def test_mauve_of_its_library():
    pytest.importorskip('mauve')
    same, far = (mauve_score(features(60), features(60, 1) + by, min_rows=60) for by in (0, 9))
    assert 0 <= far.mean < 0.5 < same.mean <= 1


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A tiny language model of bytes on disk."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({each: n for n, each in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('model')
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token='</s>').save_pretrained(path)
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=32, vocab_size=257)
    GPT2Model(config).save_pretrained(path)
    return path


def test_features_are_those_of_the_last_token(folder):
    texts = ['hello', 'well done, all of you', '', 'hello']
    found = last_token_features(texts, folder)
    assert found.shape == (4, 8)
    for one in (1, 3):
        np.testing.assert_allclose(
            last_token_features(texts, folder, batch_size=one), found, atol=1e-6
        )
    assert (found[0] == found[3]).all() and abs(found[0] - found[1]).max() > 0.01
    assert last_token_features(['hello, you'], folder, max_tokens=5) == pytest.approx(
        found[:1], abs=1e-6
    )
    with pytest.raises(UserError, match='no such folder'):
        last_token_features(texts, folder / 'other')
