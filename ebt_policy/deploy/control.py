"""The loop: once a tick, look, ask for a plan if one is needed, send what is due.

    clock -> observe -> monitors -> [ask] -> [plan arrived: join] -> action due? -> SafeRobot -> log

The loop never waits for a plan. Without an action that is due the arm is held, and the watchdog counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ebt_policy import bounds
from ebt_policy.deploy.clock import EPSILON, Clock, paced
from ebt_policy.deploy.link import Link
from ebt_policy.deploy.plan import Plan, PlanError, Request
from ebt_policy.deploy.robot import Observation
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.schedule import Scheduler

Monitor = Callable[[Observation, Plan | None], str]  # every tick, with the plan if one just came; "" or an alarm


class Operator(Protocol):
    """Who watches. Both are asked every tick and answer at once."""

    def wants_stop(self) -> bool: ...

    def lets_go_on(self, why: str) -> bool:
        """Whether an arm that is held because of `why` may go on; False while there is no answer."""
        ...


class Nobody:
    """No operator: what stops, stays."""

    def wants_stop(self) -> bool:
        return False

    def lets_go_on(self, why: str) -> bool:
        return False


@dataclass(frozen=True)
class Tick:
    """What happened in one control period."""

    time: float  # s on the clock
    observation: Observation
    asked: np.ndarray | None  # (Da,) None: nothing was due
    sent: np.ndarray  # (Da,)
    cause: str  # why what was sent is not what was asked, or ""
    plan: Plan | None  # that arrived in this tick
    late: float  # s that this tick began after its time


@dataclass
class Outcome:
    """A run that has ended."""

    ticks: int = 0
    missed: int = 0  # ticks that were left out because one before took too long
    held: int = 0  # ticks without an action that was due
    refused: int = 0  # plans that came too late, or not at all
    changed: int = 0  # commands other than asked for
    stopped: str = ""  # why the arm was stopped for good, or ""
    latencies: list[float] = field(default_factory=list)  # s, the last ones


def control(
    robot: SafeRobot,
    link: Link,
    scheduler: Scheduler,
    clock: Clock,
    seconds: float,
    *,
    keys: Sequence[str] | None = None,
    done: Callable[[], bool] = lambda: False,
    on_tick: Callable[[Tick], None] = lambda tick: None,
    monitors: Sequence[Monitor] = (),
    operator: Operator | None = None,
) -> Outcome:
    """Drive an entered robot for `seconds`, until `done`, or until it was stopped and nobody lets it go on.

    keys: observations that the policy reads; None: all that the robot makes. TypeError for a robot that is not safe.
    """
    bounds.number("seconds", seconds, "[0, inf)")
    if not isinstance(robot, SafeRobot):
        raise TypeError(f"expected a SafeRobot, got {type(robot).__name__}: no arm moves without its limits")
    operator, outcome, hz = operator or Nobody(), Outcome(), robot.spec.hz
    loop = _Loop(robot, link, scheduler, clock, keys or tuple(robot.spec.obs))
    for k, late in paced(clock, hz, scheduler.start, round(seconds * hz)):
        outcome.missed = k - outcome.ticks
        if operator.wants_stop():
            robot.stop("the operator's stop key")
        elif robot.stopped and operator.lets_go_on(robot.stopped):
            robot.release()
        tick = loop.turn(late, monitors, outcome)
        on_tick(tick)
        outcome.ticks += 1
        if done() or (robot.stopped and isinstance(operator, Nobody)):
            break
    outcome.stopped = robot.stopped
    outcome.latencies = list(scheduler.latencies)
    return outcome


def heed(monitors: Sequence[Monitor], robot: SafeRobot, observation: Observation, plan: Plan | None = None) -> None:
    """Any alarm stops the arm."""
    for monitor in monitors:
        if alarm := monitor(observation, plan):
            robot.stop(f"alarm: {alarm}")


class _Loop:
    """What one tick needs of those before it."""

    def __init__(self, robot: SafeRobot, link: Link, scheduler: Scheduler, clock: Clock, keys: Sequence[str]):
        self.robot, self.link, self.scheduler, self.clock, self.keys = robot, link, scheduler, clock, keys
        self.history: deque[Observation] = deque(maxlen=scheduler.timing.observe)
        self.asked, self.why = 0, "no plan yet"

    def turn(self, late: float, monitors: Sequence[Monitor], outcome: Outcome) -> Tick:
        now, observation = self.clock.now(), self.robot.observe()
        if self.history and observation.time < self.history[-1].time - EPSILON:
            self.history.clear()  # the clock went back, and what was seen before has no time
        if not self.history or observation.time > self.history[-1].time + EPSILON:
            self.history.append(observation)
        self._ask(now)
        plan = self._arrived(now, outcome)
        heed(monitors, self.robot, observation, plan)
        action, before = self.scheduler.action(now), self.robot.intervened
        sent = self.robot.hold(self.why) if action is None else self.robot.command(action)
        self.scheduler.sent(now, sent)
        cause = self.robot.interventions[-1].cause if self.robot.intervened > before else ""
        outcome.held += action is None
        outcome.changed += action is not None and bool(cause)
        return Tick(now, observation, action, sent, cause, plan, late)

    def _ask(self, now: float) -> None:
        if not self.scheduler.wants(now):
            return
        newest = self.history[-1]
        tail = self.scheduler.ask(now, newest.time)
        self.asked += 1
        window = [self.history[0]] * (self.history.maxlen - len(self.history)) + list(self.history)
        obs = {key: np.stack([o.values[key] for o in window]) for key in self.keys}
        timing = self.scheduler.timing
        self.link.ask(Request(self.asked, obs, timing.deadline or timing.budget, tail))

    def _arrived(self, now: float, outcome: Outcome) -> Plan | None:
        try:
            plan = self.link.poll()
        except PlanError as error:
            self.why = str(error)
            self.scheduler.give_up()
            outcome.refused += 1
            return None
        if plan is None:
            return None
        if not np.isfinite(plan.actions).all():
            self.scheduler.give_up()
            self.robot.stop("alarm: a plan that is not finite")
            outcome.refused += 1
            return None
        if not self.scheduler.join(plan, now):
            self.why = f"the plan came {now - self.scheduler.observed:.2f} s after its observation, all of it past"
            outcome.refused += 1
            return None
        self.why = "the next plan is late"
        return plan
