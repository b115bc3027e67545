"""How many queries of each task are drawn, and which; pure functions on arrays.

Orca (arXiv:2306.02707) draws a task uniformly among those that have queries left, then one of its
queries without replacement, until there are enough. That is ``random_quotas``. ``waterfill_quotas``
fills tasks up to one level instead, without that randomness, which is our own completion. Both give
large tasks the same count on average; a task about as large as the level is used up by
``waterfill_quotas``, and less than that on average by ``random_quotas``.
"""

from __future__ import annotations

import numpy as np


def water_level(sizes: np.ndarray, wanted: int) -> tuple[int, int]:
    """The largest level L with ``sum(min(sizes, L)) <= wanted``, and what is then still wanted.

    The rest is less than the number of tasks above the level. Where everything is wanted, the level
    is the largest size and nothing is left to be wanted. Time: O(T log T).

    Args:
        sizes: ``(T,)`` queries of each task.
        wanted: queries in all.
    """
    ordered = np.sort(np.asarray(sizes, np.int64))
    if wanted >= ordered.sum():
        return int(ordered.max(initial=0)), 0
    before = np.concatenate([[0], np.cumsum(ordered)[:-1]])
    above = len(ordered) - np.arange(len(ordered))
    # the first task that a level through its own size would not leave enough for
    first = int(np.argmax(before + above * ordered > wanted))
    level = (wanted - int(before[first])) // int(above[first])
    return level, wanted - int(np.minimum(ordered, level).sum())


def waterfill_quotas(sizes: np.ndarray, wanted: int, random: np.random.Generator) -> np.ndarray:
    """Counts ``(T,)`` whose sum is ``wanted``, or all queries where that is more.

    Tasks that are not used up differ by one at most: who gets one more is drawn.

    Args:
        sizes: ``(T,)`` queries of each task.
        wanted: queries in all.
        random: generator.
    """
    sizes = np.asarray(sizes, np.int64)
    level, rest = water_level(sizes, wanted)
    quotas = np.minimum(sizes, level)
    quotas[random.choice(np.flatnonzero(sizes > level), rest, replace=False)] += 1
    return quotas


def random_quotas(sizes: np.ndarray, wanted: int, random: np.random.Generator) -> np.ndarray:
    """Counts ``(T,)`` of drawing a task uniformly among those that have queries left.

    Ends when everything is taken. Time: O(T + wanted).

    Args:
        sizes: ``(T,)`` queries of each task.
        wanted: queries in all.
        random: generator.
    """
    left = np.asarray(sizes, np.int64).tolist()
    tasks = [task for task, size in enumerate(left) if size]
    for draw in random.random(min(wanted, sum(left))).tolist():
        place = int(draw * len(tasks))
        task = tasks[place]
        left[task] -= 1
        if not left[task]:
            tasks[place] = tasks[-1]
            tasks.pop()
    return np.asarray(sizes, np.int64) - np.asarray(left, np.int64)


def sorted_keys(keys: np.ndarray, *major: np.ndarray) -> np.ndarray:
    """Order ``(N,)`` of rows by other columns first, then by their keys.

    Args:
        keys: ``(N, 2)`` uint64.
        major: columns ``(N,)``, the first one counts most.
    """
    return np.lexsort((keys[:, 1], keys[:, 0], *reversed(major)))


def repeated(keys: np.ndarray, *major: np.ndarray) -> np.ndarray:
    """Whether a key is there already, ``(N,)`` bool: true for all rows of a key but one.

    Args:
        keys: ``(N, 2)`` uint64.
        major: columns ``(N,)``; the row that is kept is the one where they are least.
    """
    order = np.lexsort((*reversed(major), keys[:, 1], keys[:, 0]))
    same = np.zeros(len(keys), bool)
    same[order[1:]] = (keys[order[1:]] == keys[order[:-1]]).all(1)
    return same


def pick(keys: np.ndarray, tasks: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Which queries are drawn, ``(N,)`` bool: of each task those with the least keys.

    With keys that are seeded hashes this is a random permutation of each task, which does not
    depend on the order of the rows.

    Args:
        keys: ``(N, 2)`` uint64, no two alike.
        tasks: ``(N,)`` numbers of tasks.
        quotas: ``(T,)`` queries of each task.
    """
    order = sorted_keys(keys, tasks)
    sizes = np.bincount(tasks, minlength=len(quotas))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    drawn = np.zeros(len(order), bool)
    drawn[order] = rank < quotas[tasks[order]]
    return drawn
