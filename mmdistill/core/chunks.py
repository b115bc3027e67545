"""Many items made by several processes, in chunks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def in_chunks(
    make: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    size: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Results of all items, in their order, whatever the number of workers.

    OpenCV works with one thread meanwhile: the processes are forked, and one that is forked off
    its thread pool would wait for ever. Who has started other threads stops them before.

    Args:
        make: gives one result per item of a chunk; picklable when there are workers.
        items: what to make.
        size: items of a chunk.
        workers: processes; one works in this process.
        progress: called with the items done and all items after each chunk.
    """
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    made: list[Result] = []

    def collect(parts) -> None:
        for part in parts:
            made.extend(part)
            if progress is not None:
                progress(len(made), len(items))

    with _one_opencv_thread():
        if workers > 1:
            with ProcessPoolExecutor(workers) as pool:
                collect(pool.map(make, chunks))
        else:
            collect(map(make, chunks))
    return made


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Keeps OpenCV, where somebody has loaded it, to one thread."""
    opencv = sys.modules.get('cv2')
    if opencv is None:
        yield
        return
    before = opencv.getNumThreads()
    opencv.setNumThreads(1)
    try:
        yield
    finally:
        opencv.setNumThreads(before)
