"""Arms without physics, whose answers are known: they go part of the way to where they are sent in every tick."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.motion import MotionLimits
from ebt_policy.deploy.plan import Plan
from ebt_policy.deploy.robot import Motion

HZ = 20.0
DELTA = Motion("hand", scale=0.05, turn=0.5)
ABSOLUTE = Motion("hand")
JOINTS = Motion("joints")


class ToyArm(gym.Env):
    """kind: delta (hand, turning, gripper), absolute (hand, gripper) or joints (seven, absolute)."""

    metadata = {"render_modes": [], "render_fps": HZ}

    def __init__(self, kind="delta", follows=0.5):
        self.kind, self.follows = kind, follows
        self.key, self.n = ("joints", 7) if kind == "joints" else ("hand", 3)
        dim = {"delta": 7, "absolute": 4, "joints": 7}[kind]
        edge = 1.0 if kind == "delta" else 100.0
        self.action_space = gym.spaces.Box(-edge, edge, (dim,), np.float32)
        self.observation_space = gym.spaces.Dict({self.key: gym.spaces.Box(-np.inf, np.inf, (self.n,), np.float32)})

    def spec_dict(self):
        action = {
            "dim": self.action_space.shape[0],
            "frame": "joint" if self.kind == "joints" else "eef",
            "mode": "delta" if self.kind == "delta" else "absolute",
            "rotation": "axis_angle" if self.kind == "delta" else "none",
            "gripper": "none" if self.kind == "joints" else "close_positive",
            "low": float(self.action_space.low[0]),
            "high": float(self.action_space.high[0]),
        }
        return {"obs": {self.key: [self.n]}, "action": action, "hz": HZ}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = np.zeros(self.n)
        return self._obs(), {}

    def step(self, action):
        way = 0.05 * action[:3] if self.kind == "delta" else action[: self.n] - self.position
        self.position = self.position + self.follows * way
        return self._obs(), 0.0, False, False, {"success": False}

    def _obs(self):
        return {self.key: self.position.astype(np.float32)}


def declared(kind="delta", **changes):
    """The plain data of limits for a toy arm; `changes` replace its top-level entries."""
    n = 7 if kind == "joints" else 3
    walls = {"planes": [[[0.0, 0.6, 0.8], -0.12]], "spheres": [[[0.1, 0.1, 0.1], 0.06]]} if n == 3 else {}
    space = {"low": [-0.2] * n, "high": [0.2] * n, "planes": [], "spheres": [], "margin": 0.0} | walls
    return {
        "workspace": space,
        "motion": {"step": 0.1, "velocity": 0.6, "acceleration": 4.0, "jerk": 80.0},
        "turn": {"step": 0.4, "velocity": 6.0, "acceleration": 60.0, "jerk": 1200.0} if kind == "delta" else None,
        "gripper": None if kind == "joints" else {"low": -1.0, "high": 1.0, "dwell": 0.2},
        "watchdog": 0.5,
        "stale": 0.5,
    } | changes


def limits(kind="delta", **changes):
    return Limits.from_dict(declared(kind, **changes))


def motion_of(kind):
    return {"delta": DELTA, "absolute": ABSOLUTE, "joints": JOINTS}[kind]


def easy(**changes):
    """Motion limits that nothing reaches."""
    return MotionLimits(**({"step": 9.0, "velocity": 99.0, "acceleration": 9e3, "jerk": 9e5} | changes))


def tick(robot, action):
    """One control period of a safe robot: look, command or hold, wait."""
    robot.observe()
    sent = robot.hold("nothing is due") if action is None else robot.command(action)
    robot.clock.sleep_until(robot.clock.now() + 1 / HZ)
    return sent


def straight(request, n=15, dim=7, hz=HZ, speed=0.2):
    """A plan that says in every action for which time it was made: seconds of the observation's tick, and the step."""
    actions = np.zeros((n, dim), np.float32)
    actions[:, 0], actions[:, 1] = speed, np.arange(n) / 100
    return Plan(request.id, actions, np.arange(n) / hz, steps=2, stop="steps", seconds=0.0)
