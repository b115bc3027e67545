"""Random numbers as a function of a position, and the generators' state as plain data."""

# ruff: noqa: NPY002  (transforms of all hosts draw from numpy's global generator)
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def stable_seed(*ints: int) -> int:
    """Hashes integers to a seed, equal in every process, version and machine.

    Args:
        *ints: For instance (seed, iteration, rank, sample). Order matters; negative and
            arbitrarily large integers are fine.

    Returns:
        An integer in [0, 2**63).

    Raises:
        TypeError: If something is not an integer.
    """
    for value in ints:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f'stable_seed takes integers, got {value!r}')
    text = ','.join(str(int(value)) for value in ints)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1


def key_generator(*ints: int, device: str | torch.device = 'cpu') -> torch.Generator:
    """Makes a generator whose draws are a pure function of the integers.

    A method that draws from ``key_generator(seed, cur_iter, rank, sample)`` needs no saved
    state to be resumed exactly, and draws the same numbers whatever was drawn before.

    Args:
        *ints: The key, see :func:`stable_seed`.
        device: Device of the generator. CPU and CUDA generators give different numbers.

    Returns:
        A new generator.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(stable_seed(*ints))
    return generator


def rng_state() -> dict[str, Any]:
    """Takes the state of Python's, numpy's, torch's CPU and the current GPU's generators.

    Returns:
        A dict of tuples, numbers and CPU tensors only, so that ``torch.load`` reads it with
        ``weights_only=True``. ``cuda`` is None where CUDA was not initialised.
    """
    name, keys, pos, has_gauss, cached = np.random.get_state()
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return dict(
        python=random.getstate(),
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), int(pos), int(has_gauss), cached),
        torch=torch.get_rng_state(),
        cuda=cuda,
    )


def set_rng_state(state: dict[str, Any]) -> None:
    """Puts the generators back to a state taken by :func:`rng_state`.

    Args:
        state: The state; its tensors may lie on any device.

    Raises:
        ValueError: If a generator's state is missing or not understood.
    """
    try:
        version, words, gauss = state['python']
        name, keys, pos, has_gauss, cached = state['numpy']
        random.setstate((version, tuple(words), gauss))
        np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), pos, has_gauss, cached))
        torch.set_rng_state(state['torch'].cpu())
        if state['cuda'] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state['cuda'].cpu())
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f'not a state of the random number generators: {type(error).__name__}: {error}'
        ) from error


def seed_cpu(seed: int) -> None:
    """Seeds Python's, numpy's and torch's CPU generators (CUDA is left alone).

    Args:
        seed: Any integer; numpy gets its low 32 bits.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed % 2**63)


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Leaves the CPU generators as they were, whatever the block draws."""
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        torch.set_rng_state(cpu)
