"""Items made in chunks: order, chunk sizes, progress, errors, with and without processes."""

import os

import cv2
import pytest

from mmdistill.core.chunks import in_chunks


def _squares(numbers):
    """One result per item: the square, the length of the chunk and the process."""
    return [(number**2, len(numbers), os.getpid()) for number in numbers]


def _fail(numbers):
    raise ValueError(f'no {numbers[0]}')


@pytest.mark.parametrize('workers', [1, 3])
@pytest.mark.parametrize('items', [range(11), list(range(11)), tuple(range(11))])
def test_results_keep_the_order_of_the_items(items, workers):
    seen = []
    made = in_chunks(_squares, items, 4, workers, lambda *counts: seen.append(counts))
    assert [square for square, _, _ in made] == [number**2 for number in range(11)]
    assert [length for _, length, _ in made] == [4] * 8 + [3] * 3
    assert seen == [(4, 11), (8, 11), (11, 11)]
    here = {pid == os.getpid() for _, _, pid in made}
    assert here == {workers == 1}


def test_nothing_makes_nothing():
    assert in_chunks(_squares, [], 4, 2) == []


@pytest.mark.parametrize('workers', [1, 2])
def test_errors_of_a_worker_reach_the_caller(workers):
    with pytest.raises(ValueError, match='no 0'):
        in_chunks(_fail, range(3), 2, workers)


def _opencv_threads(numbers):
    return [cv2.getNumThreads() for _ in numbers]


@pytest.mark.parametrize('workers', [1, 2])
def test_opencv_has_one_thread_meanwhile(workers):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        assert set(in_chunks(_opencv_threads, range(4), 2, workers)) == {1}
        with pytest.raises(ValueError, match='no 0'):
            in_chunks(_fail, range(3), 2, workers)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
