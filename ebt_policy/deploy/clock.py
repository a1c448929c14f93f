"""Time as an argument: the loop, the safety layer and the simulated robot are told the time and never ask for it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Protocol

EPSILON = 1e-6  # s, what summing periods may be off by


class Clock(Protocol):
    """Seconds that only grow."""

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


def paced(clock: Clock, hz: float, start: float, ticks: float = math.inf) -> Iterator[tuple[int, float]]:
    """Control periods since `start`: the number of each and how late it begins, s. Missed ones are not made up for."""
    k = 0
    while k < ticks:
        clock.sleep_until(start + k / hz)
        yield k, clock.now() - (start + k / hz)
        k = max(k + 1, math.floor((clock.now() - start) * hz))
