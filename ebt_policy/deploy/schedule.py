"""Which action is due now: plans arrive late, and are followed from where time has come to in the meantime.

    hz ticks a second    To observed steps    Ta executed steps of each plan    n planned steps    Da action dimensions

observed at  |--- camera ---|--- asked, planned, sent back ---|
plan         0    1    2    3    4    5    6  ...                n-1
             past by the time it arrives      joined with the plan before it, then followed for Ta steps
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from ebt_policy import bounds
from ebt_policy.deploy.clock import Jumps
from ebt_policy.deploy.plan import Plan

ROUNDING = 1e-6  # ticks
REMEMBERED = 100  # latencies


@dataclass(frozen=True)
class Timing:
    """How plans are put into time."""

    hz: float
    observe: int  # To
    execute: int  # Ta
    plan: int  # n
    latency: float = 0.0  # s from asking to the plan, assumed until it was measured
    percentile: float = 95.0  # of the measured latencies, that the next plan is asked for ahead
    command: float = 0.0  # s from a command to its effect
    gripper: float | None = None  # s, the same for what follows the `moving` numbers of an action; None: as `command`
    blend: int = 0  # steps over which a plan is faded in, where the one before it goes on so long
    moving: int | None = None  # numbers of an action that move the arm; those after them, of a gripper, are not faded
    delta: bool = False  # those numbers are displacements
    deadline: float | None = None  # s that the planner may take; None: the budget
    anchor: str = "observed"  # time 0 of a plan; "arrived" compensates nothing and is there to be compared with

    def __post_init__(self):
        if self.anchor not in ("observed", "arrived"):
            raise ValueError(f"anchor is 'observed' or 'arrived', got {self.anchor!r}")
        bounds.number("timing.hz", self.hz, "(0, 10000]")
        for name in ("observe", "execute", "plan"):
            bounds.whole(f"timing.{name}", getattr(self, name), "[1, inf)")
        bounds.whole("timing.blend", self.blend, "[0, inf)")
        bounds.whole("timing.moving", self.moving, "[0, inf) or null")
        for name in ("latency", "command"):
            bounds.number(f"timing.{name}", getattr(self, name), "[0, inf)")
        for name in ("gripper", "deadline"):
            bounds.number(f"timing.{name}", getattr(self, name), "[0, inf) or null")
        bounds.number("timing.percentile", self.percentile, "(0, 100]")
        if self.execute > self.plan:
            raise ValueError(f"expected to execute 1 to {self.plan} planned steps, got {self.execute}")

    @property
    def budget(self) -> float:
        """s that may pass from an observation to the effect of an action, while Ta steps of a plan remain."""
        return (self.plan - self.execute) / self.hz

    def check(self, observation: float) -> None:
        """ValueError if a plan that executes Ta steps cannot hide the latencies; observation: s, of the camera."""
        total = observation + self.latency + self.command
        if self.anchor == "observed" and total > self.budget + ROUNDING:
            raise ValueError(
                f"expected at most {1000 * self.budget:.0f} ms from observing to acting ({self.plan} planned steps, "
                f"{self.execute} executed, {self.hz:g} Hz), got {1000 * total:.0f} ms: execute fewer steps of a plan, "
                "or plan faster"
            )


class Scheduler:
    """A timeline of ticks since `start`. Ask when `wants`, hand plans to `join`, execute `action`."""

    def __init__(self, timing: Timing, start: float):
        self.timing, self.start = timing, start
        self.latencies: deque[float] = deque(maxlen=REMEMBERED)
        self.joints: list[int] = []  # ticks at which a new plan took over
        self.dropped = 0  # planned steps that were past when their plan arrived
        self._decided: dict[int, np.ndarray] = {}  # tick -> action (Da,), planned or sent
        self._asked: float | None = None
        self.observed = start  # what the plan asked for last starts from
        self._until = -math.inf  # tick at which the next plan should take over
        self._jumps = Jumps(start)

    def tick(self, now: float) -> int:
        """Ticks go on where a clock goes back: what was decided stays due. Where it leaps ahead they are left out."""
        jumped = self._jumps.until(now)
        if jumped and self._asked is not None:
            self._asked += jumped
        if jumped < 0:
            self.start, self.observed = self.start + jumped, self.observed + jumped
        return round((now - self.start) * self.timing.hz)

    @property
    def lead(self) -> int:
        """Ticks ahead of need that a plan is asked for."""
        known = np.percentile(self.latencies, self.timing.percentile) if self.latencies else self.timing.latency
        return math.ceil(known * self.timing.hz - ROUNDING)

    def wants(self, now: float) -> bool:
        """Whether to ask for the next plan now."""
        here = self.tick(now)
        return self._asked is None and here >= self._until - self.lead

    def ask(self, now: float, observed: float) -> np.ndarray | None:
        """Notes that a plan was asked for; returns the tail (m, Da): what is done or decided from t-To+1 on."""
        self._asked, self.observed = now, observed
        first = self._tick_of(observed, 0) - (self.timing.observe - 1)
        tail = []
        while first + len(tail) in self._decided:
            tail.append(self._decided[first + len(tail)])
        return np.stack(tail) if len(tail) >= self.timing.observe else None

    def give_up(self) -> None:
        """The plan asked for will not come."""
        self._asked = None

    def join(self, plan: Plan, now: float) -> bool:
        """Follow `plan` from now on; False if all of it was past when it came."""
        here = self.tick(now)
        self.latencies.append(now - self._asked)
        self._asked = None
        shift = 0.0 if self.timing.anchor == "observed" else now - self.observed
        ticks = [self._tick_of(self.observed + shift, offset) for offset in plan.offsets]
        actions = dict(zip(ticks, self._faded(ticks, self._gripped(plan.actions), here), strict=True))
        due = [tick for tick in ticks if tick >= here]
        self.dropped += len(ticks) - len(due)
        if not due:
            return False
        self._decided = {tick: a for tick, a in self._decided.items() if here - 2 * self.timing.plan <= tick < here}
        self._decided |= {tick: actions[tick] for tick in due}
        self.joints.append(here)
        self._until = min(here + self.timing.execute, due[-1] + 1)
        return True

    def action(self, now: float) -> np.ndarray | None:
        """The action (Da,) due now; None if nothing is: never an older one."""
        return self._decided.get(self.tick(now))

    def sent(self, now: float, action: np.ndarray) -> None:
        """What was really sent, so that tails tell the truth."""
        self._decided[self.tick(now)] = action

    def _gripped(self, actions: np.ndarray) -> np.ndarray:
        """actions (n, Da) with the gripper's numbers moved ahead by as much as it is slower than the arm."""
        timing = self.timing
        if timing.gripper is None or timing.moving is None:
            return actions
        ahead = round((timing.gripper - timing.command) * timing.hz)
        steps = np.clip(np.arange(len(actions)) + ahead, 0, len(actions) - 1)
        return np.concatenate([actions[:, : timing.moving], actions[steps, timing.moving :]], axis=1)

    def _faded(self, ticks: list[int], actions: np.ndarray, here: int) -> np.ndarray:
        """actions (n, Da) due at `ticks`, joined from `here` on with what was decided before."""
        both = [i for i, tick in enumerate(ticks) if tick in self._decided]
        past = sum(tick < here for tick in ticks)
        if not self.timing.blend or not both or both[-1] < past:
            return actions
        first, moving, result = both[0], slice(self.timing.moving), actions.copy()
        old = np.stack([self._decided[ticks[i]][moving] for i in both])
        joined = fade(old, actions[first:, moving], past - first, self.timing.blend, self.timing.delta)
        result[past:, moving] = joined
        return result

    def _tick_of(self, observed: float, offset: float) -> int:
        """The tick at which to send what is due `offset` after an observation."""
        return round((observed + offset - self.timing.command - self.start) * self.timing.hz)


def fade(old: np.ndarray, new: np.ndarray, past: int, blend: int, delta: bool) -> np.ndarray:
    """From one plan (m, D) to the next (n, D), n >= m > past, of the same steps, `past` of them over -> (n - past, D).

    Displacements are faded as the paths that they add up to, so that what the new plan would have corrected while it
    was on its way is made up for: fading the displacements themselves loses it, and then the arm misses its grasp.
    """
    apart = np.cumsum(new[: len(old)] - old, axis=0) if delta else new[: len(old)] - old
    apart = np.concatenate([apart, np.repeat(apart[-1:], len(new) - len(old), axis=0)])  # the old one goes on beside it
    share = np.minimum(1.0, np.arange(1, len(new) - past + 1) / (blend + 1))
    share = (share**2 * (3 - 2 * share))[:, None]  # starts and ends at rest
    off = (share - 1) * apart[past:]
    if delta:
        off = np.diff(off, axis=0, prepend=-apart[past - 1 : past] if past else np.zeros_like(off[:1]))
    return new[past:] + off
