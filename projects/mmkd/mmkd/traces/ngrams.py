"""Runs of n words as 64-bit numbers, for texts that may overlap."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

import numpy as np

_WORD = re.compile(r'\w+')
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """Words of a text without case, marks and Unicode forms."""
    return _WORD.findall(unicodedata.normalize('NFKC', text).casefold())


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    """64 bits of a word."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), 'big')


def ngram_hashes(text: str, n: int) -> np.ndarray:
    """Hashes ``(max(words - n + 1, 0),)`` uint64 of all runs of n words, in their order.

    Args:
        text: of any length.
        n: words of a run.
    """
    found = np.array([_word_hash(word) for word in words(text)], np.uint64)
    count = len(found) - n + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    total = np.zeros(count, np.uint64)
    for shift in range(n):  # a polynomial in an odd factor, modulo 2^64
        total = total * _FACTOR + found[shift : shift + count]
    return _mixed(total)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The same numbers with their bits spread, one to one."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
