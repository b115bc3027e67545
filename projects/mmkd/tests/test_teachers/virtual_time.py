"""An event loop whose clock jumps to the next timer, and what is true of times on it."""

import asyncio
import math


class VirtualLoop(asyncio.SelectorEventLoop):
    """Nothing takes time but sleeping, and sleeping takes none of ours."""

    def __init__(self):
        self.now = 1000.0
        super().__init__()
        self._clock_resolution = math.ulp(self.now)
        select = self._selector.select

        def jump(timeout):
            found = select(0)
            if not found and timeout is None:
                raise RuntimeError('everybody waits for ever')
            if not found and timeout > 0:
                self.now = max(self.now + timeout, self._scheduled[0]._when)
                self._clock_resolution = math.ulp(self.now)
            return found

        self._selector.select = jump

    def time(self):
        return self.now


def run_virtual(work):
    """Runs a coroutine on a virtual clock."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def fullest(events, window):
    """The largest sum of amounts within any half-open window; events are (time, amount)."""
    return max(
        (sum(a for t, a in events if start <= t < start + window) for start, _ in events), default=0
    )
