"""The parts of a person, their codes on the canvas, and the parts on which a joint lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Grain

PER_PERSON = 32
"""Codes per person."""
MOST_PEOPLE = 6
"""People whose codes fit into a byte besides the background and the occluders."""
EMPTY = -1
"""Part of a stroke that belongs to a thing."""


class Part:
    """Numbers of the parts; pairs hold the left one first."""

    TORSO, HEAD, HAIR, NECK, PELVIS, SKIRT = range(6)
    UPPER_ARM, FOREARM, HAND = (6, 7), (8, 9), (10, 11)
    THIGH, SHIN, FOOT = (12, 13), (14, 15), (16, 17)
    EAR = (18, 19)


@dataclass(frozen=True)
class Stroke:
    """One outline to paint.

    Attributes:
        depth: metres towards the camera; larger ones are painted later.
        outline: convex, pixels (N, 2).
        part: one of :class:`Part`, or :data:`EMPTY`.
        paint: fabric (TILE, TILE, 3), or a BGR colour (3,) without grain.
        grain: how the fabric lies, None for a colour.
    """

    depth: float
    outline: np.ndarray
    part: int
    paint: np.ndarray
    grain: Grain | None = None


def code_of(number: int, part: int) -> int:
    """Code of a part of the person ``number`` (from 0)."""
    if not 0 <= number < MOST_PEOPLE:
        raise ValueError(f'person {number} is not one of 0 to {MOST_PEOPLE - 1}')
    return (number + 1) * PER_PERSON + part


def person_of(codes: np.ndarray) -> np.ndarray:
    """Number of the person that each code belongs to; others get other numbers."""
    return codes.astype(np.int16) // PER_PERSON - 1


def _seats() -> np.ndarray:
    """Parts that show a joint, bool (17, PER_PERSON)."""
    table = np.zeros((17, PER_PERSON), bool)
    table[:5, Part.HEAD] = True
    for k in (0, 1):
        table[3 + k, Part.EAR[k]] = True
        table[5 + k, [Part.TORSO, Part.UPPER_ARM[k]]] = True
        table[7 + k, [Part.UPPER_ARM[k], Part.FOREARM[k]]] = True
        table[9 + k, [Part.FOREARM[k], Part.HAND[k]]] = True
        table[11 + k, [Part.TORSO, Part.PELVIS, Part.SKIRT, Part.THIGH[k]]] = True
        table[13 + k, [Part.THIGH[k], Part.SHIN[k], Part.SKIRT]] = True
        table[15 + k, [Part.SHIN[k], Part.FOOT[k]]] = True
    return table


SHOWS = _seats()
"""Parts that show a joint, bool (17, PER_PERSON)."""
