"""Filters of questions that were asked before, in the same words or in nearly the same ones.

Of repetitions the first one stays, in the order in which traces come. Answers of several teachers
to a question are none, nor are several samples of one teacher.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from mmdistill.core.errors import UserError
from mmkd.registry import TRACE_FILTERS
from mmkd.traces.ngrams import ngram_hashes, words
from mmkd.traces.schema import Trace, digest

_PRIME = (1 << 31) - 1
_CHUNK = 4096


@TRACE_FILTERS.register_module()
class RepeatedQuery:
    """Objects to a query that the same teacher has answered, ``filtered:duplicate``.

    Equal are queries of one ``query_key``: system message and question. Memory: about 100 bytes a
    trace.
    """

    rule = 'duplicate'

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def objects(self, traces: Sequence[Trace]) -> list[bool]:
        """Whether each was there before."""
        found = []
        for trace in traces:
            key = bytes.fromhex(digest([trace.teacher, trace.sample_index, trace.query_key]))
            found.append(key in self._seen)
            self._seen.add(key)
        return found


@TRACE_FILTERS.register_module()
class NearlyRepeated:
    """Objects to a text that is nearly one that was kept, ``filtered:near_duplicate``.

    Texts are sets of runs of words (shingles); how alike two of them are is the share of shingles
    in both of those in either (Jaccard). It is estimated by MinHash, for pairs that agree in a band
    of rows at least (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).
    A pair of likeness s is compared with the probability ``1 - (1 - s^rows)^bands``, and the
    estimate's standard deviation is ``sqrt(s (1 - s) / (bands rows))``. Memory: about 2.5 kB for a
    trace that is kept, with the default numbers.

    Args:
        threshold: likeness in (0, 1] from which on it objects.
        of: the text that is compared.
        shingle: words of a run; a shorter text is one run.
        bands: of the signature.
        rows: of a band.
        seed: of the permutations.
    """

    rule = 'near_duplicate'

    def __init__(
        self,
        threshold: float = 0.8,
        of: Literal['user_text', 'response_text'] = 'user_text',
        shingle: int = 5,
        bands: int = 16,
        rows: int = 8,
        seed: int = 0,
    ) -> None:
        if not 0 < threshold <= 1:
            raise UserError(f'threshold must be in (0, 1], got {threshold}')
        if of not in ('user_text', 'response_text'):
            raise UserError(f"of must be 'user_text' or 'response_text', got {of!r}")
        if min(shingle, bands, rows) < 1:
            raise UserError('shingle, bands and rows must be at least 1')
        self.threshold, self.of, self.shingle = threshold, of, shingle
        self.bands, self.rows = bands, rows
        self.factors = permutations(bands * rows, seed)
        self._kept: list[np.ndarray] = []
        self._buckets: dict[bytes, list[int]] = {}

    def objects(self, traces: Sequence[Trace]) -> list[bool]:
        """Whether each is nearly one that was kept."""
        signatures = self.signatures([getattr(trace, self.of) for trace in traces])
        found = []
        for trace, signature in zip(traces, signatures, strict=True):
            keys = self._keys(trace, signature)
            near = {n for key in keys for n in self._buckets.get(key, ())}
            alike = [float((self._kept[n] == signature).mean()) for n in near]
            found.append(any(each >= self.threshold for each in alike))
            if not found[-1]:
                for key in keys:
                    self._buckets.setdefault(key, []).append(len(self._kept))
                self._kept.append(signature)
        return found

    def signatures(self, texts: Sequence[str]) -> np.ndarray:
        """MinHash signatures ``(N, bands * rows)`` uint32.

        Args:
            texts: N of them.
        """
        shingles = [shingles_of(text, self.shingle) for text in texts]
        return minhash(shingles, self.factors)

    def _keys(self, trace: Trace, signature: np.ndarray) -> list[bytes]:
        """Names of the bucket of each band."""
        group = digest([trace.teacher, trace.sample_index]).encode()
        bands = signature.reshape(self.bands, self.rows)
        texts = (b'%b %d ' % (group, n) + band.tobytes() for n, band in enumerate(bands))
        return [hashlib.blake2b(each, digest_size=8).digest() for each in texts]


def shingles_of(text: str, size: int) -> np.ndarray:
    """Different runs of words as numbers ``(M,)`` uint64, M at least 1.

    Args:
        text: of any length.
        size: words of a run; a shorter text is one run.
    """
    count = len(words(text))
    if not count:
        return np.zeros(1, np.uint64)
    return np.unique(ngram_hashes(text, min(size, count)))


def permutations(count: int, seed: int) -> np.ndarray:
    """Factors and summands ``(2, count)`` of the maps ``a h + b`` modulo 2^31 - 1.

    Args:
        count: maps.
        seed: of the generator.
    """
    random = np.random.default_rng(seed)
    factors = random.integers(1, _PRIME, count, dtype=np.uint64)
    return np.stack([factors, random.integers(0, _PRIME, count, dtype=np.uint64)])


def minhash(shingles: Sequence[np.ndarray], factors: np.ndarray) -> np.ndarray:
    """The least image of each set under each map, ``(N, K)`` uint32.

    Args:
        shingles: N arrays ``(M,)`` uint64, none empty.
        factors: ``(2, K)``, see :func:`permutations`.
    """
    found = np.zeros((len(shingles), factors.shape[1]), np.uint32)
    for number, each in enumerate(shingles):
        plain = (each % np.uint64(_PRIME))[:, None]
        parts = [
            ((plain[start : start + _CHUNK] * factors[0] + factors[1]) % np.uint64(_PRIME)).min(0)
            for start in range(0, len(plain), _CHUNK)
        ]
        found[number] = np.min(parts, axis=0)
    return found
