"""Plans while the arm goes on: a planner behind a thread, or one with a latency that a clock of our own lets pass."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from ebt_policy.deploy.clock import EPSILON, Clock
from ebt_policy.deploy.plan import Plan, PlanError, Planner, Request


class Link(Protocol):
    """One request at a time."""

    def ask(self, request: Request) -> None: ...

    def poll(self) -> Plan | None:
        """The plan asked for, once; None while it is not there. PlanError if it will not come."""
        ...

    def close(self) -> None:
        """Forget what was asked for."""
        ...


class Threaded:
    """The planner runs beside the control loop."""

    def __init__(self, planner: Planner):
        self._planner, self._pool = planner, ThreadPoolExecutor(1, "planner")
        self._future: Future | None = None

    def ask(self, request: Request) -> None:
        self._future = self._pool.submit(self._planner, request)

    def poll(self) -> Plan | None:
        if self._future is None or not self._future.done():
            return None
        future, self._future = self._future, None
        return future.result()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Delayed:
    """The planner answers at once, and the answer arrives `latency()` seconds later on `clock`."""

    def __init__(self, planner: Planner, clock: Clock, latency: Callable[[], float]):
        self._planner, self._clock, self._latency = planner, clock, latency
        self._pending: tuple[float, Plan | PlanError] | None = None

    def ask(self, request: Request) -> None:
        try:
            answer: Plan | PlanError = self._planner(request)
        except PlanError as error:
            answer = error
        self._pending = (self._clock.now() + self._latency(), answer)

    def poll(self) -> Plan | None:
        if self._pending is None or self._clock.now() + EPSILON < self._pending[0]:
            return None
        answer, self._pending = self._pending[1], None
        if isinstance(answer, PlanError):
            raise answer
        return answer

    def close(self) -> None:
        self._pending = None
