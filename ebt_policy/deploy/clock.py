"""Time as an argument: the loop, the safety layer and the simulated robot are told the time and never ask for it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Protocol

EPSILON = 1e-6  # s, what summing periods may be off by
LEAP = 60.0  # s between two looks at a clock; on by more it was set, or whoever looks was asleep


class Clock(Protocol):
    """Seconds that should only grow; who relies on it looks for `Jumps`."""

    def now(self) -> float: ...

    def sleep_until(self, moment: float) -> None: ...


class WallClock:
    """The machine's own monotonic time."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        time.sleep(max(0.0, moment - time.monotonic()))


class FakeClock:
    """Passes only where somebody sleeps, so that ten seconds of control are some milliseconds of test."""

    def __init__(self, start: float = 0.0):
        self.time = start

    def now(self) -> float:
        return self.time

    def sleep_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


class Jumps:
    """By how much a clock jumped between two looks at it: back, or on by more than LEAP.

    One that is set back by less than what passed between the looks cannot be told from one that is slow.
    """

    def __init__(self, now: float):
        self.last = now

    def until(self, now: float) -> float:
        """s, below 0 for back; 0 for a clock that runs."""
        gone, self.last = now - self.last, now
        return 0.0 if -EPSILON <= gone <= LEAP else gone


def paced(clock: Clock, hz: float, start: float, ticks: float = math.inf) -> Iterator[tuple[int, float]]:
    """Control periods since `start`: the number of each and how late it begins, s. Missed ones are not made up for.

    A clock that jumps shifts those that follow, so that none is waited for and none is missed because of it.
    """
    k, jumps = 0, Jumps(clock.now())
    while k < ticks:
        clock.sleep_until(start + k / hz)
        now = clock.now()
        start = now - k / hz if jumps.until(now) else start
        yield k, now - (start + k / hz)
        now = clock.now()
        start = now - k / hz if jumps.until(now) else start
        k = max(k + 1, math.floor((now - start) * hz))
