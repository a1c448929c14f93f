"""Commands that nobody should send, to every kind of arm, and what came out held against the declared limits.

python tests/deploy/fuzz_safety.py 100000
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from toy_arms import ToyArm, limits, motion_of

from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.robot import Delays, SimRobot
from ebt_policy.deploy.safety import SafeRobot

KINDS = ("delta", "absolute", "joints")
TOLERANCE = 1e-5  # relative; actions are sent as float32


def fuzz(kind: str, ticks: int, seed: int = 0, delays: Delays | None = None, **changes) -> Counter:
    """Counts broken limits as `BROKEN <limit>`, commands, and the causes of interventions."""
    clock = FakeClock()
    robot = SafeRobot(SimRobot(ToyArm(kind), motion_of(kind), clock, delays, seed), limits(kind, **changes), clock)
    rng, found, asking = np.random.default_rng(seed), Counter(), _nothing
    with robot:
        judge = Judge(robot)
        for k in range(ticks):
            clock.sleep_until(k / robot.spec.hz)
            if k % 25 == 0:
                asking = HABITS[rng.integers(len(HABITS))]
            robot.observe()
            if robot.stopped and rng.random() < 0.1:
                robot.release()
            action = asking(rng, k, robot.spec.action.dim)
            sent = robot.hold("nothing is due") if action is None else robot.command(action)
            found.update(f"BROKEN {limit}" for limit in judge.violations(sent))
            found["commands"] += 1
    found.update(i.cause.partition(":")[0] for i in robot.interventions)
    return found


class Judge:
    """Recomputes from what was measured and sent, without the safety layer's arithmetic, which limits were broken."""

    def __init__(self, robot: SafeRobot):
        self.robot, self.limits, self.hz = robot, robot.limits, robot.spec.hz
        self.delta = robot.spec.action.mode == "delta"
        self.place = np.array(robot._measured)
        self.ways = [np.zeros(robot.size)] * 2  # m in each of the last two ticks
        self.turns = [np.zeros(3)] * 2

    def violations(self, sent: np.ndarray) -> list[str]:
        if not np.isfinite(sent).all():
            return ["not finite"]
        n, motion = self.robot.size, self.robot.motion
        measured = np.array(self.robot._measured)
        target = motion.scale * sent[:n].astype(float) + (measured if self.delta else 0.0)
        way = target - (measured if self.delta else self.place)
        wrong = self._motion("", self.limits.motion, [*self.ways, way])
        wrong += ["step"] * bool(np.linalg.norm(target - measured) > self.limits.motion.step * (1 + TOLERANCE) + 1e-6)
        wrong += ["range"] * bool((np.abs(sent) > self.robot.spec.action.high * (1 + TOLERANCE)).any())
        wrong += self._space(target)
        self.ways, self.place = [self.ways[1], way], target
        if self.limits.turn is not None:
            turn = motion.turn * sent[n : n + 3].astype(float)
            wrong += self._motion("turn ", self.limits.turn, [*self.turns, turn])
            self.turns = [self.turns[1], turn]
        if (gripper := self.limits.gripper) is not None and not gripper.low <= sent[-1] <= gripper.high:
            wrong.append("gripper")
        return wrong

    def _motion(self, name: str, limits, ways: list[np.ndarray]) -> list[str]:
        values = {
            "velocity": (ways[2] * self.hz, limits.velocity),
            "acceleration": ((ways[2] - ways[1]) * self.hz**2, limits.acceleration),
            "jerk": ((ways[2] - 2 * ways[1] + ways[0]) * self.hz**3, limits.jerk),
        }
        slack = 1e-6 * self.hz ** np.arange(1, 4)  # m, what float32 targets are off by
        return [
            name + key
            for (key, (value, limit)), s in zip(values.items(), slack, strict=True)
            if np.linalg.norm(value) > limit * (1 + TOLERANCE) + s
        ]

    def _space(self, target: np.ndarray) -> list[str]:
        space, wrong = self.limits.workspace, []
        if (target < np.array(space.low) - 1e-6).any() or (target > np.array(space.high) + 1e-6).any():
            wrong.append("box")
        wrong += ["plane" for normal, offset in space.planes if np.dot(normal, target) < offset - 1e-6]
        inside = [radius - np.linalg.norm(target - centre) > 1e-6 for centre, radius in space.spheres]
        return wrong + ["sphere"] * any(inside)


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
    lambda rng, k, dim: np.full(dim, 0.11),  # into the sphere
    lambda rng, k, dim: rng.uniform(-1, 1, dim),
    lambda rng, k, dim: rng.uniform(-0.2, 0.2, dim) if rng.random() < 0.5 else None,  # half of it missing
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ticks", type=int, nargs="?", default=100_000, help="of each kind of arm")
    for kind in KINDS:
        print(kind, dict(fuzz(kind, parser.parse_args().ticks).most_common()))


if __name__ == "__main__":
    main()
