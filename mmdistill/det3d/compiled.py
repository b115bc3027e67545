"""Loops that numba compiles."""

from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """Compiles for the CPU, kept on disk where a cache folder is writable."""
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # numba: no locator available for file
        return numba.njit(function)
