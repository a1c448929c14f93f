"""What a robot offers, and a robot made of a simulator with the delays that real ones have.

n dimensions of the arm's position    Da action dimensions
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.deploy.clock import EPSILON, Clock


@dataclass(frozen=True)
class Observation:
    """One look at everything."""

    time: float  # s on the robot's clock, when it was measured, not when it arrived
    values: dict[str, np.ndarray]  # values[k] (*shape) in env units


@dataclass(frozen=True)
class Motion:
    """What an action does to the arm: its first numbers move it, the next three turn it, the last is the gripper."""

    key: str  # observation with the measured position (n,): m of the hand, or rad of the joints
    scale: float = 1.0  # m or rad of one action unit in the first n numbers
    turn: float = 0.0  # rad of one action unit in the three numbers of rotation; 0: there are none

    def __post_init__(self):
        if self.scale <= 0 or self.turn < 0:
            raise ValueError(f"expected scale > 0 and turn >= 0, got scale {self.scale} and turn {self.turn}")


class RobotError(RuntimeError):
    """The arm cannot be reached or refuses; the message says what to do."""


class Robot(Protocol):
    """An arm with its cameras. Entering makes it ready to move; leaving stops it safely, whatever happened."""

    spec: Spec  # hz included: how often `command` is called
    motion: Motion

    def __enter__(self) -> Robot: ...

    def __exit__(self, *error) -> None: ...

    def observe(self) -> Observation:
        """The newest observation that has arrived. Returns at once."""
        ...

    def command(self, action: np.ndarray) -> np.ndarray:
        """action (Da,) in env units -> (Da,), what was really sent. Returns at once; the arm obeys until the next."""
        ...

    def trouble(self) -> str:
        """Why the arm stopped by itself since this was asked last; "" if it did not."""
        ...


@dataclass(frozen=True)
class Delays:
    """What lies between an event and its report, and between a command and its effect."""

    observation: float = 0.0  # s
    jitter: float = 0.0  # s, at most this much later, uniformly drawn
    dropped: float = 0.0  # share of the observations that never arrive
    command: float = 0.0  # s

    def __post_init__(self):
        if min(self.observation, self.jitter, self.command) < 0 or not 0 <= self.dropped < 1:
            raise ValueError(f"expected delays >= 0 s and a share dropped in [0, 1), got {self}")


class SimRobot:
    """Any Gymnasium environment of ours as a robot; a command lasts one control period, then comes a new observation.

    The first observation is never dropped or late. `success` says whether the task has been solved since `reset`.
    """

    def __init__(self, env: Any, motion: Motion, clock: Clock, delays: Delays | None = None, seed: int = 0):
        self.env, self.motion, self.clock, self.delays = env, motion, clock, delays or Delays()
        self.spec = spec_of(env)
        self._seed = seed

    @classmethod
    def from_dict(cls, data: dict[str, Any], env: Any, clock: Clock, seed: int = 0) -> SimRobot:
        """data: as in configs/robot. ValueError for a robot that is not simulated."""
        if data["kind"] != "sim":
            raise ValueError(f"expected robot=sim, got a robot of kind {data['kind']!r}: there is no other here yet")
        return cls(env, Motion(**data["motion"]), clock, Delays(**data["delays"]), seed)

    def __enter__(self) -> SimRobot:
        self.reset(self._seed)
        return self

    def __exit__(self, *error) -> None:
        self._commands.clear()  # nothing is left to obey; the environment belongs to who made it

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """To the initial state of `seed`, which delays are drawn from as well; options: the environment's own."""
        self._rng = np.random.default_rng(seed)
        self._values, _ = self.env.reset(seed=seed, options=options)
        self.success = False
        self._commands: list[tuple[float, np.ndarray]] = []  # (takes effect, action), in order
        self._effective = np.zeros(self.spec.action.dim, np.float32)
        now = self.clock.now()
        self._stepped, self._reports = (
            now,
            [(now, Observation(now, self._values))],
        )  # (arrives, observation), as measured

    def observe(self) -> Observation:
        now = self.clock.now() + EPSILON
        if now > self._stepped + 1 / self.spec.hz + 2 * EPSILON:  # nothing was commanded: the world stands still
            self._stepped = now - 1 / self.spec.hz
            self._reports.append((now + self.delays.observation, Observation(now, self._values)))
        arrived = [i for i, (arrives, _) in enumerate(self._reports) if arrives <= now]
        del self._reports[: arrived[-1]]  # measured before the newest that is here
        return self._reports[0][1]

    def command(self, action: np.ndarray) -> np.ndarray:
        sent = np.clip(action, self.spec.action.low, self.spec.action.high).astype(np.float32)
        now = self.clock.now()
        self._commands.append((now + self.delays.command, sent))
        while self._commands and self._commands[0][0] <= now + EPSILON:
            self._effective = self._commands.pop(0)[1]
        self._values, _, _, _, info = self.env.step(self._effective)
        self._stepped = now
        self.success = self.success or bool(info.get("success", False))
        if self._rng.random() >= self.delays.dropped:
            measured = now + 1 / self.spec.hz
            late = self.delays.observation + self.delays.jitter * self._rng.random()
            self._reports.append((measured + late, Observation(measured, self._values)))
        return sent

    def trouble(self) -> str:
        return ""


def spec_of(env: Any) -> Spec:
    """What an environment says about itself; ValueError where it does not say what a robot must."""
    inner = env.unwrapped
    if hasattr(inner, "spec_dict"):
        return Spec.from_dict(inner.spec_dict())
    spaces, hz = getattr(env.observation_space, "spaces", None), inner.metadata.get("render_fps")
    if spaces is None or not hz:
        raise ValueError(
            f"expected named observations and a control rate from {type(inner).__name__}: "
            "give it a Dict observation space and metadata['render_fps']"
        )
    low, high = float(env.action_space.low.min()), float(env.action_space.high.max())
    action = ActionSpec(prod(env.action_space.shape), "eef", "delta", "none", "none", low, high)
    return Spec({key: tuple(space.shape) for key, space in spaces.items()}, action, float(hz))
