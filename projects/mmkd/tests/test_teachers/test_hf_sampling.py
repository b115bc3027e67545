"""Rows draw from the softmax they are asked to draw from, each with its own seed."""

import torch
from transformers import GenerationConfig

from mmkd.teachers.hf_sampling import Draw, RowSampler, draw_of, within_share
from mmkd.traces.schema import Sampling

CPU = torch.device('cpu')


def test_the_fewest_tokens_that_have_the_share():
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    kept = [within_share(logits, p).isfinite().tolist() for p in (0.0, 0.35, 0.45, 0.75, 1.0)]
    assert kept == [
        [False, True, False, False],
        [False, True, False, False],
        [False, True, False, True],
        [False, True, True, True],
        [True, True, True, True],
    ]


def test_frequencies_are_those_of_the_softmax():
    shares = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    sampler = RowSampler([Draw(2.0, 1.0, 0), Draw(1.0, 0.75, 1), Draw()], 4, CPU)
    scores = shares.log().repeat(3, 1)
    drawn = torch.stack([sampler(None, scores).argmax(-1) for _ in range(5000)])
    assert torch.equal(scores, shares.log().repeat(3, 1))
    counts = torch.stack([torch.bincount(row, minlength=4) for row in drawn.T]) / 5000
    flat = shares.sqrt() / shares.sqrt().sum()
    cut = torch.tensor([0.0, 4, 2, 3]) / 9
    # three standard deviations of a share of a half are 0.0212
    assert (counts[0] - flat).abs().max() < 0.022
    assert (counts[1] - cut).abs().max() < 0.022 and counts[1][0] == 0
    assert counts[2].tolist() == [0, 1, 0, 0]


def test_a_row_depends_on_its_seed_alone():
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))

    def chosen(seeds, rows):
        sampler = RowSampler([Draw(1.0, 1.0, seed) for seed in seeds], 50, CPU)
        return [sampler(None, scores[rows]).argmax(-1).tolist() for _ in range(20)]

    three = chosen([7, 8, 7], [0, 1, 0])
    assert [each[0] for each in three] == [each[2] for each in three]
    assert [each[1] for each in three] == [each[0] for each in chosen([8], [1])]
    assert chosen([7], [0]) != chosen([9], [0])
    assert chosen([None], [0]) != chosen([None], [0])


def test_tokens_that_are_none_are_never_chosen():
    sampler = RowSampler([Draw(), Draw(5.0, 1.0, 0)], 3, CPU)
    scores = torch.tensor([[0.0, 1, 0, 90, 80]]).repeat(2, 1)
    assert {int(n) for _ in range(50) for n in sampler(None, scores).argmax(-1)} <= {0, 1, 2}


def test_what_is_left_open_is_the_models_own():
    greedy, own = GenerationConfig(), GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9)
    assert draw_of(Sampling(), greedy) == Draw(0.0, 1.0, None)
    assert draw_of(Sampling(), own) == Draw(0.6, 0.9, None)
    assert draw_of(Sampling(), GenerationConfig(do_sample=True)) == Draw(1.0, 1.0, None)
    asked = Sampling(temperature=0.0, top_p=0.5, seed=3)
    assert draw_of(asked, own) == Draw(0.0, 0.5, 3)
