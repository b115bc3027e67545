"""Bitwise comparison of states, and the log of a block of code."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn


def state_differences(a: Any, b: Any, path: str = '') -> list[str]:
    """Where two nested states differ.

    Tensors and arrays must agree in shape, type and every bit (NaN equals NaN); modules are
    compared by their state dicts, everything else by ``==``.

    Args:
        a: tensors, modules, numbers, and dicts, lists and tuples of them.
        b: likewise.
        path: name of the place, put before the names of the parts.

    Returns:
        One line per difference; empty when the states are the same.
    """
    a = a.state_dict() if isinstance(a, nn.Module) else a
    b = b.state_dict() if isinstance(b, nn.Module) else b
    place = path or 'state'
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = [f'{path}.{key}: only in the first'.lstrip('.') for key in a if key not in b]
        found += [f'{path}.{key}: only in the second'.lstrip('.') for key in b if key not in a]
        for key in a:
            if key in b:
                found += state_differences(a[key], b[key], f'{path}.{key}'.lstrip('.'))
        return found
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return [f'{place}: {len(a)} entries and {len(b)} entries']
        pairs = enumerate(zip(a, b, strict=True))
        return [line for i, pair in pairs for line in state_differences(*pair, f'{path}[{i}]')]
    if isinstance(a, (Tensor, np.ndarray)) and isinstance(b, (Tensor, np.ndarray)):
        return _array_difference(torch.as_tensor(a), torch.as_tensor(b), place)
    same = type(a) is type(b) and (a == b or (a != a and b != b))
    return [] if same else [f'{place}: {a!r} and {b!r}']


def _array_difference(a: Tensor, b: Tensor, place: str) -> list[str]:
    """At most one line about two tensors."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return [f'{place}: {tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}']
    # a clone has the plain strides that a view as bytes asks for, also for sizes of 1
    a, b = (each.detach().cpu().clone(memory_format=torch.contiguous_format) for each in (a, b))
    bits = [each.reshape(-1, 1).view(torch.uint8) for each in (a, b)]
    differ = (bits[0] != bits[1]).any(1)
    if not differ.any():
        return []
    wide = torch.complex128 if a.is_complex() else torch.float64
    gap = (a.to(wide) - b.to(wide)).abs().flatten()[differ].max()
    return [f'{place}: {int(differ.sum())} of {a.numel()} differ, by at most {float(gap):.3g}']


def assert_same_state(a: Any, b: Any, limit: int = 10) -> None:
    """Asserts that two nested states are bitwise equal, see :func:`state_differences`.

    Args:
        a: tensors, modules, numbers, and dicts, lists and tuples of them.
        b: likewise.
        limit: number of differences that the message names.

    Raises:
        AssertionError: they are not.
    """
    found = state_differences(a, b)
    if found:
        more = f'\n  and {len(found) - limit} more' if len(found) > limit else ''
        raise AssertionError('states differ:\n  ' + '\n  '.join(found[:limit]) + more)


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collects what is logged on mmengine's current logger: make the Runner first.

    Yields:
        A growing list of lines ``LEVEL message``.
    """
    lines: list[str] = []

    class _Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f'{record.levelname} {record.getMessage()}')

    logger, handler = MMLogger.get_current_instance(), _Collector()
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
