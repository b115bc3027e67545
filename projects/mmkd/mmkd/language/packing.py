"""Packs: which samples share a sequence of limited length.

A packer is a pure function of lengths, capacity and keys of a random generator. Samples are never
split. Orca shuffles its examples, puts them one after the other into sequences while they fit, and
fills the rest with padding (arXiv:2306.02707, section 4.1, by secondary texts): :func:`next_fit`.
:func:`best_fit` fills the same sequences almost to the brim and is our completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmdistill.core.errors import UserError, did_you_mean
from mmdistill.core.rng import key_generator

WINDOW = 100_000
"""Samples that are packed together at most; more make packs hardly fuller."""


@dataclass(frozen=True)
class Packs:
    """Groups of samples; pack ``p`` is ``sample_ids[indptr[p]:indptr[p + 1]]``.

    Attributes:
        indptr: ``(P + 1,)`` int64, from 0 to the number of samples.
        sample_ids: ``(N,)`` int64.
    """

    indptr: np.ndarray
    sample_ids: np.ndarray

    def __len__(self) -> int:
        """Number of packs."""
        return len(self.indptr) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        """Samples of a pack; IndexError beyond the last one."""
        if not 0 <= number < len(self):
            raise IndexError(f'pack {number} of {len(self)}')
        return self.sample_ids[self.indptr[number] : self.indptr[number + 1]]

    def efficiency(self, lengths: np.ndarray, cap: int) -> float:
        """Share of all places that hold a token, in [0, 1]; 1 without packs."""
        used = int(np.asarray(lengths, np.int64)[self.sample_ids].sum())
        return used / (len(self) * cap) if len(self) else 1.0


Packer = Callable[[np.ndarray, int, Sequence[int]], Packs]


def best_fit(lengths: np.ndarray, cap: int, keys: Sequence[int], window: int = WINDOW) -> Packs:
    """Best-fit decreasing within windows of a random order.

    From the longest sample to the shortest, each goes into the pack with the least room that is
    enough. Samples of a pack, and packs, come in random order.

    Args:
        lengths: ``(N,)`` tokens of the samples.
        cap: tokens of a pack at most.
        keys: integers that the order depends on, for instance (seed, stage, epoch).
        window: samples that are packed together at most; windows are of equal size.

    Raises:
        UserError: a sample is empty or longer than the capacity.
    """
    lengths = checked(lengths, cap)
    order = shuffled(len(lengths), *keys, 0)
    parts = np.array_split(order, max(1, -(-len(lengths) // window)))
    bins, count = [], 0
    for part in parts:
        found, opened = _best_fit_bins(lengths[part], cap)
        bins.append(found + count)
        count += opened
    return _grouped(order, np.concatenate(bins), count, keys)


def next_fit(lengths: np.ndarray, cap: int, keys: Sequence[int]) -> Packs:
    """Samples in random order; one that does not fit any more begins the next pack.

    Args:
        lengths: ``(N,)`` tokens of the samples.
        cap: tokens of a pack at most.
        keys: integers that the order depends on.

    Raises:
        UserError: a sample is empty or longer than the capacity.
    """
    lengths = checked(lengths, cap)
    order = shuffled(len(lengths), *keys, 0)
    starts, used = [], cap
    for place, length in enumerate(lengths[order].tolist()):
        used += length
        if used > cap:
            starts.append(place)
            used = length
    return Packs(np.array([*starts, len(order)], np.int64), order)


def unpacked(lengths: np.ndarray, cap: int, keys: Sequence[int]) -> Packs:
    """A pack for each sample, in random order.

    Args:
        lengths: ``(N,)`` tokens of the samples.
        cap: tokens of a pack at most.
        keys: integers that the order depends on.

    Raises:
        UserError: a sample is empty or longer than the capacity.
    """
    count = len(checked(lengths, cap))
    return Packs(np.arange(count + 1), shuffled(count, *keys, 0))


PACKERS: dict[str, Packer] = dict(best_fit=best_fit, next_fit=next_fit, none=unpacked)
"""Packers by the names of configs."""


def packer_named(name: str) -> Packer:
    """A packer by name.

    Raises:
        UserError: it is not one of :data:`PACKERS`.
    """
    if name not in PACKERS:
        raise UserError(
            f'packer {name!r} is not known{did_you_mean(name, PACKERS)}; use one of '
            f'{", ".join(PACKERS)}'
        )
    return PACKERS[name]


def checked(lengths: np.ndarray, cap: int) -> np.ndarray:
    """Lengths as int64.

    Raises:
        UserError: a sample is empty or longer than the capacity.
    """
    lengths = np.asarray(lengths, np.int64)
    empty, long = np.flatnonzero(lengths < 1), np.flatnonzero(lengths > cap)
    if len(empty):
        raise UserError(f'sample {empty[0]} has no token ({len(empty)} such samples): leave it out')
    if len(long):
        raise UserError(
            f'sample {long[0]} has {lengths[long[0]]} tokens, a pack takes {cap} ({len(long)} such '
            f'samples, the longest of {lengths.max()}): raise cap, or tokenize with max_len={cap}'
        )
    return lengths


def shuffled(count: int, *keys: int) -> np.ndarray:
    """A permutation of ``range(count)`` that depends on the keys alone, int64."""
    return torch.randperm(count, generator=key_generator(*keys)).numpy()


def _grouped(order: np.ndarray, bins: np.ndarray, count: int, keys: Sequence[int]) -> Packs:
    """Packs in random order.

    Args:
        order: ``(N,)`` samples.
        bins: ``(N,)`` number of the pack that each of them is in.
        count: of packs.
        keys: see :func:`best_fit`.
    """
    bins = shuffled(count, *keys, 1)[bins]
    indptr = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(bins, minlength=count), out=indptr[1:])
    return Packs(indptr, order[np.argsort(bins, kind='stable')])


def _best_fit_bins(lengths: np.ndarray, cap: int) -> tuple[np.ndarray, int]:
    """Best-fit decreasing: the bin of every item ``(N,)``, and the number of bins.

    Items of one length are placed together: ``rooms[r]`` lists the bins with room ``r``, and bit
    ``r`` of ``there`` tells whether there are any. A bin with the least room that is enough keeps
    that property until it is too full for the length.
    """
    order = np.argsort(-lengths, kind='stable')
    sizes, counts = np.unique(lengths, return_counts=True)
    rooms: list[list[int]] = [[] for _ in range(cap + 1)]
    there, opened = 0, 0
    placed: list[int] = []
    for size, left in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while left:
            if not there >> size:
                new = -(-left // (cap // size))
                rooms[cap] += range(opened, opened + new)
                opened += new
                there |= 1 << cap
            fitting = there >> size
            room = size + (fitting & -fitting).bit_length() - 1
            each = min(room // size, left)
            taken = rooms[room][-(left // each) :]
            del rooms[room][-len(taken) :]
            if not rooms[room]:
                there ^= 1 << room
            placed += taken * each
            left -= len(taken) * each
            rooms[room - each * size] += taken
            there |= 1 << (room - each * size)
    bins = np.empty(len(lengths), np.int64)
    bins[order] = placed
    return bins, opened
