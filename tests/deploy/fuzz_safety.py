"""Commands that nobody should send, to every class of arm, and what came out held against the declared limits.

python tests/deploy/fuzz_safety.py 100000

Fuzzed are commands that are not finite, huge, oscillating, out of the box or missing, observations that are not looked
at until they are stale, releases of a stopped arm, and clocks that jump. Judged is what was sent, by time as it passed,
and for the classes of real arms also what reached the vendor's library, which is replaced at its border.
tests/deploy/franka_figures.py has the real one.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ebt_policy.deploy.clock import Clock, paced
from ebt_policy.deploy.robot import Motion
from ebt_policy.deploy.safety import SafeRobot

TOLERANCE = 1e-5  # relative; actions are sent as float32
HABIT = 25  # ticks of each way to ask


@dataclass
class Case:
    """An arm with the plain data of its limits, as in its YAML."""

    robot: SafeRobot
    clock: Clock
    declared: dict[str, Any]
    truth: Callable[[], np.ndarray] | None = None  # (n,) where the arm is, however old the observation; None: unknown
    broken: Counter = field(default_factory=Counter)  # limits that the vendor's library was told to break
    leave: Callable[[], None] = lambda: None  # before the arm is left
    passed: Callable[[], float] | None = None  # s that really passed; None: as the clock says


def fuzz(case: Case, ticks: int, seed: int = 0) -> Counter:
    """Counts broken limits as `BROKEN <limit>`, commands, causes of interventions; and two more.

    `ms to rest`: at most, from the last action that counts to the last command that moves the arm. `had to jump`:
    commands to an arm that was moved by others so far that staying would have broken its step.
    """
    robot, rng, found, asking, blind = case.robot, np.random.default_rng(seed), Counter(), _nothing, False
    passed = case.passed or case.clock.now
    with robot:
        judge = Judge(case.declared, robot.motion, robot.spec, robot.observe().values[robot.motion.key])
        judge.fresh(passed())
        for k, _ in paced(case.clock, robot.spec.hz, case.clock.now(), ticks):
            if k % HABIT == 0:
                asking, blind = HABITS[rng.integers(len(HABITS))], rng.random() < 0.1
            if not blind:
                seen = robot.observe()
            if robot.stopped and rng.random() < 0.1:
                robot.release()
                judge.fresh(passed())
            action, now = asking(rng, k, robot.spec.action.dim), passed()
            meant = action is not None and np.isfinite(action).all() and not robot.stopped
            if meant and case.clock.now() - seen.time <= case.declared["stale"]:
                judge.fresh(now)
            measured = np.array(seen.values[robot.motion.key], float)
            truth = np.array(case.truth(), float) if case.truth else measured
            sent = robot.hold("nothing is due") if action is None else robot.command(action)
            found.update(f"BROKEN {limit}" for limit in judge.violations(sent, measured, truth, now))
            found["commands"] += 1
        case.leave()
    found.update({f"BROKEN {what} in the library": n for what, n in case.broken.items()})
    found.update(re.sub(r"\d+(\.\d+)?", "_", i.cause.partition(":")[0]) for i in robot.interventions)
    found["ms to rest"], found["had to jump"] = round(1000 * judge.longest), judge.torn
    return found


class Judge:
    """Recomputes from declared limits, measured positions and sent commands which limits were broken."""

    def __init__(self, declared: dict[str, Any], motion: Motion, spec, measured: np.ndarray):
        self.declared, self.motion, self.action, self.hz = declared, motion, spec.action, spec.hz
        self.delta, self.n = spec.action.mode == "delta", len(measured)
        self.place = np.array(measured, float)
        self.ways = [np.zeros(self.n)] * 2  # m in each of the last two ticks
        self.turns = [np.zeros(3)] * 2
        self.grips: list[tuple[float, bool]] = []  # when it turned, and where to
        self.longest = self.last = 0.0  # s
        self.torn = 0  # commands that had to jump, because the arm had been moved by others

    def fresh(self, now: float) -> None:
        """An action that counts, or a release, at this time."""
        self.last = now

    def violations(self, sent: np.ndarray, measured: np.ndarray, truth: np.ndarray, now: float) -> list[str]:
        if not np.isfinite(sent).all():
            return ["not finite"]
        n, limits = self.n, self.declared["motion"]
        target = self.motion.scale * sent[:n].astype(float) + (measured if self.delta else 0.0)
        way = target - (measured if self.delta else self.place)
        torn = not self.delta and np.linalg.norm(self.place - measured) > limits["step"]  # staying would break the step
        wrong = [] if torn else self._motion("", limits, [*self.ways, way])
        wrong += ["step"] * bool(np.linalg.norm(target - measured) > limits["step"] * (1 + TOLERANCE) + 1e-6)
        wrong += ["range"] * bool((np.abs(sent) > self.action.high * (1 + TOLERANCE)).any())
        wrong += beyond(self.declared["workspace"], truth + way if self.delta else target, truth)
        moves = np.linalg.norm(way) > 1e-6 and not torn
        self.ways, self.place = [np.zeros(self.n)] * 2 if torn else [self.ways[1], way], target
        self.torn += torn
        if (limits := self.declared["turn"]) is not None:
            turn = self.motion.turn * sent[n : n + 3].astype(float)
            wrong += self._motion("turn ", limits, [*self.turns, turn])
            wrong += ["turn step"] * bool(np.linalg.norm(turn) > limits["step"] * (1 + TOLERANCE))
            self.turns, moves = [self.turns[1], turn], moves or turn.any()
        if moves:
            self.longest = max(self.longest, now - self.last)
            wrong += ["watchdog"] * bool(now - self.last > self.declared["watchdog"] + 1e-6)
        return wrong + self._gripper(float(sent[-1]), now)

    def _gripper(self, value: float, now: float) -> list[str]:
        if (limits := self.declared["gripper"]) is None:
            return []
        wrong = ["gripper"] * (not limits["low"] <= value <= limits["high"])
        if value and (not self.grips or (value > 0) != self.grips[-1][1]):
            wrong += ["dwell"] * bool(self.grips and now - self.grips[-1][0] < limits["dwell"] - 1e-6)
            self.grips.append((now, value > 0))
        return wrong

    def _motion(self, name: str, limits: dict[str, float], ways: list[np.ndarray]) -> list[str]:
        rates = [ways[2], ways[2] - ways[1], ways[2] - 2 * ways[1] + ways[0]]
        return [
            name + key
            for i, (key, rate) in enumerate(zip(("velocity", "acceleration", "jerk"), rates, strict=True), 1)
            if np.linalg.norm(rate) * self.hz**i > limits[key] * (1 + TOLERANCE) + 1e-6 * self.hz**i  # of float32, 1 um
        ]


def beyond(space: dict[str, Any], target: np.ndarray, place: np.ndarray) -> list[str]:
    """Of which edges of a workspace a target (n,) is a micrometre beyond, and further than the arm already is."""
    return [
        what
        for (what, there), (_, here) in zip(_edges(space, target), _edges(space, place), strict=True)
        if there < space["margin"] + min(0.0, here - space["margin"]) - 1e-6
    ]


def _edges(space: dict[str, Any], point: np.ndarray) -> list[tuple[str, float]]:
    """How far inside of each."""
    box = np.r_[point - space["low"], np.array(space["high"]) - point]
    planes = [("plane", np.dot(normal, point) - offset) for normal, offset in space["planes"]]
    spheres = [("sphere", np.linalg.norm(point - centre) - radius) for centre, radius in space["spheres"]]
    return [*(("box", gap) for gap in box), *planes, *spheres]


def _nothing(rng, k, dim):
    return None


HABITS = (
    _nothing,
    lambda rng, k, dim: np.full(dim, np.nan),
    lambda rng, k, dim: np.where(rng.random(dim) < 0.1, rng.choice([np.inf, -np.inf, np.nan], dim), 0.3),
    lambda rng, k, dim: rng.normal(size=dim) * 10.0 ** rng.integers(-3, 30),
    lambda rng, k, dim: np.full(dim, 1.0 if k % 2 else -1.0),  # oscillating at the limits
    lambda rng, k, dim: np.full(dim, (-1.0) ** (k // 7)),
    lambda rng, k, dim: np.sin(0.7 * k + np.arange(dim)) * 0.25,
    lambda rng, k, dim: np.r_[1.0, np.zeros(dim - 1)],  # straight out of the box
    lambda rng, k, dim: np.full(dim, -1.0),  # into a corner
    lambda rng, k, dim: np.full(dim, 0.11),  # into the sphere
    lambda rng, k, dim: rng.uniform(-1, 1, dim),
    lambda rng, k, dim: rng.uniform(-0.2, 0.2, dim) if rng.random() < 0.5 else None,  # half of it missing
)


def main() -> None:
    from fuzz_cases import CASES  # it needs what is judged here

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ticks", type=int, nargs="?", default=100_000, help="of each arm; of Lift, slow, a fiftieth")
    parser.add_argument("--only", choices=sorted(CASES))
    said = parser.parse_args()
    for name in [said.only] if said.only else CASES:
        ticks = said.ticks // 50 if name == "lift" else said.ticks
        print(name, dict(fuzz(CASES[name](), ticks).most_common()), flush=True)


if __name__ == "__main__":
    main()
