"""Random numbers: functions of their key, and states that come back."""

import io
import random

import numpy as np
import pytest
import torch

from mmdistill.core.rng import (
    key_generator,
    preserve_rng,
    rng_state,
    seed_cpu,
    set_rng_state,
    stable_seed,
)


def draws():
    """One number of each generator."""
    return random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(()))  # noqa: NPY002


def test_seed_is_the_same_everywhere():
    """Golden values: a change would silently change every training."""
    assert stable_seed(1, -2, 2**70) == 5616214735586262129
    assert float(torch.rand((), generator=key_generator(3, 1, 4))) == pytest.approx(
        0.3454284071922302, abs=1e-7
    )


def test_seed_depends_on_each_integer_and_their_order():
    keys = [(0,), (1,), (0, 0), (1, 0), (0, 1), (12,), (1, 2), (-1, 2), ()]
    seeds = [stable_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys) and all(0 <= seed < 2**63 for seed in seeds)
    assert stable_seed(np.int64(5), 3) == stable_seed(5, 3)


@pytest.mark.parametrize('bad', [1.0, '1', True, None])
def test_seed_takes_integers_only(bad):
    with pytest.raises(TypeError, match='integers'):
        stable_seed(1, bad)


def test_key_generator_is_a_pure_function():
    first = torch.rand(5, generator=key_generator(3, 1, 4))
    torch.rand(7)
    assert torch.rand(5, generator=key_generator(3, 1, 4)).equal(first)
    assert not torch.rand(5, generator=key_generator(3, 1, 5)).equal(first)


def test_neighbouring_keys_are_independent():
    rows = torch.stack([torch.rand(2000, generator=key_generator(0, i)) for i in range(8)])
    assert (torch.corrcoef(rows) - torch.eye(8)).abs().max() < 0.1


def test_state_comes_back():
    np.random.randn()  # noqa: NPY002  (leaves a cached Gaussian behind)
    state = rng_state()
    first = [draws() for _ in range(3)]
    set_rng_state(state)
    assert [draws() for _ in range(3)] == first


def test_state_survives_a_safe_checkpoint():
    file = io.BytesIO()
    torch.save(rng_state(), file)
    first = draws()
    file.seek(0)
    set_rng_state(torch.load(file, weights_only=True))
    assert draws() == first


def test_taking_the_state_draws_nothing():
    state = rng_state()
    first = draws()
    set_rng_state(state)
    rng_state()
    assert draws() == first


@pytest.mark.parametrize('part', ['python', 'numpy', 'torch'])
def test_bad_state_is_named(part):
    state = rng_state()
    for bad in (dict(state, **{part: None}), {k: v for k, v in state.items() if k != part}):
        with pytest.raises(ValueError, match='random number generators'):
            set_rng_state(bad)


def test_preserve():
    state = rng_state()
    first = draws()
    set_rng_state(state)
    with pytest.raises(KeyError), preserve_rng():
        seed_cpu(1)
        draws()
        raise KeyError
    assert draws() == first


def test_seed_cpu_fixes_all_three():
    seed_cpu(2**62 + 5)
    first = draws()
    seed_cpu(2**62 + 5)
    assert draws() == first


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_state_of_the_gpu_comes_back():
    torch.rand(1, device='cuda')
    state = rng_state()
    first = torch.rand(4, device='cuda')
    set_rng_state(state)
    assert torch.rand(4, device='cuda').equal(first)
    key = key_generator(1, 2, device='cuda')
    again = key_generator(1, 2, device='cuda')
    a, b = (torch.rand(4, device='cuda', generator=g) for g in (key, again))
    assert a.equal(b)
