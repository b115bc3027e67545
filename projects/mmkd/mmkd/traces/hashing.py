"""Hashes that decide what is drawn: the same on every machine, and in any order of the input."""

from __future__ import annotations

import hashlib


def seeded_hash(purpose: str, seed: int, text: str) -> bytes:
    """16 bytes that look random, ``bytes``.

    Args:
        purpose: of the hash, so that two decisions about one text do not depend on each other; at
            most 16 letters.
        seed: another one gives other bytes.
        text: hashed.
    """
    content = f'{seed}\0{text}'.encode('utf-8', 'surrogatepass')
    return hashlib.blake2b(content, digest_size=16, person=purpose.encode()).digest()


def seeded_number(purpose: str, seed: int, text: str) -> int:
    """The same as a number in [0, 2^128)."""
    return int.from_bytes(seeded_hash(purpose, seed, text), 'big')
