"""Every class of arm, to be fuzzed: toys and environments of ours under SimRobot, and the classes of real arms."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
from fuzz_safety import Case
from toy_arms import ToyArm, declared, motion_of
from vendor_arms import franka_case, plain, ur_case

from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.robot import Delays, Motion, SimRobot
from ebt_policy.deploy.safety import SafeRobot

PLANAR = {  # PushT and Avoid: one action unit is 0.25 m from the centre
    "workspace": {"low": [-0.22] * 2, "high": [0.22] * 2, "planes": [[[0.6, -0.8], -0.2]], "spheres": []}
    | {"margin": 0.005},
    "motion": {"step": 0.1, "velocity": 0.5, "acceleration": 2.0, "jerk": 20.0},
    "turn": None,
    "gripper": None,
    "watchdog": 0.8,
    "stale": 0.5,
}


def simulated(
    env: gym.Env,
    motion: Motion,
    limits: dict,
    delays: Delays | None = None,
    seed: int = 0,
    clock: FakeClock | None = None,
) -> Case:
    clock = clock or FakeClock()
    robot = SimRobot(env, motion, clock, delays, seed)
    safe = SafeRobot(robot, Limits.from_dict(limits), clock)
    return Case(safe, clock, limits, lambda: robot._values[motion.key])


class JumpingClock(FakeClock):
    """Whoever looks at it may see it set: back by ticks, by seconds or by hours, or ahead by hours."""

    def __init__(self, often: float = 0.005, seed: int = 0):
        super().__init__(10_000.0)
        self.often, self.set, self._rng = often, 0.0, np.random.default_rng(seed)

    def now(self) -> float:
        if self._rng.random() < self.often:
            self.set += self._rng.choice([-0.3, -3.2, -7200.0, 7200.0])
        return super().now() + self.set

    def sleep_until(self, moment: float) -> None:
        super().sleep_until(moment - self.set)

    def passed(self) -> float:
        return super().now()


def jumping(kind: str, delays: Delays | None = None) -> Case:
    clock = JumpingClock()
    case = simulated(ToyArm(kind), motion_of(kind), declared(kind), delays, clock=clock)
    return replace(case, passed=clock.passed)


def toy(kind: str, delays: Delays | None = None, seed: int = 0, **changes) -> Case:
    return simulated(ToyArm(kind), motion_of(kind), declared(kind, **changes), delays, seed)


def planar(name: str) -> Case:
    return simulated(gym.make(f"envs:{name}").unwrapped, Motion("tool", scale=0.25), PLANAR)


def lift() -> Case:
    cfg = plain("sim")
    case = simulated(gym.make("envs:Lift-v0").unwrapped, Motion(**cfg["motion"]), cfg["limits"])
    return replace(case, truth=None)  # this arm creeps by micrometres while nobody looks


CASES = {
    "delta": lambda: toy("delta"),
    "absolute": lambda: toy("absolute"),
    "joints": lambda: toy("joints"),
    "delta_jumping": lambda: jumping("delta"),
    "absolute_jumping": lambda: jumping("absolute"),
    "delayed_jumping": lambda: jumping("delta", Delays(0.05, 0.1, 0.2)),
    "push_t": lambda: planar("PushT-v0"),
    "avoid": lambda: planar("Avoid-v0"),
    "lift": lift,
    "ur": ur_case,
    "franka": franka_case,
}
