"""What a robot offers, and a robot made of a simulator with the delays that real ones have.

n dimensions of the arm's position    Da action dimensions
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np

from ebt_policy import bounds
from ebt_policy.data.spec import Spec
from ebt_policy.deploy.clock import EPSILON, Clock, Jumps


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
        bounds.number("motion.scale", self.scale, "(0, inf)")
        bounds.number("motion.turn", self.turn, "[0, inf)")


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
        for name in ("observation", "jitter", "command"):
            bounds.number(f"delays.{name}", getattr(self, name), "[0, inf)")
        bounds.number("delays.dropped", self.dropped, "[0, 1)")


class SimRobot:
    """Any environment as a robot, see envs/README.md; a command lasts one control period, then comes a new observation.

    The first observation is never dropped or late. `success` says whether the task has been solved since `reset`.
    When the clock goes back, what is on its way still takes as long as it would have.
    """

    def __init__(self, env: Any, motion: Motion, clock: Clock, delays: Delays | None = None, seed: int = 0):
        self.env, self.motion, self.clock, self.delays = env, motion, clock, delays or Delays()
        self.spec = spec_of(env)
        self._seed = seed

    @classmethod
    def from_dict(cls, data: dict[str, Any], env: Any, clock: Clock, seed: int = 0) -> SimRobot:
        """data: as in configs/robot/sim.yaml. ValueError for a robot that is not simulated, or is of another task."""
        if data["kind"] != "sim":
            raise ValueError(f"expected robot=sim, got a robot of kind {data['kind']!r}: there is no other here yet")
        robot = cls(env, Motion(**data["motion"]), clock, Delays(**data["delays"]), seed)
        if robot.motion.key not in robot.spec.obs:
            raise ValueError(
                f"expected the measured position among the observations {', '.join(robot.spec.obs)}, got "
                f"{robot.motion.key!r}: say in the task's YAML what robot=sim is there, see envs/README.md"
            )
        return robot

    def __enter__(self) -> SimRobot:
        self.reset(self._seed)
        return self

    def __exit__(self, *error) -> None:
        self._commands.clear()  # nothing is left to obey; the environment belongs to who made it

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """To the initial state of `seed`, which delays are drawn from as well; options: the environment's own."""
        self._rng = np.random.default_rng(seed)
        self._values = _with_shapes(self.env.reset(seed=seed, options=options)[0])
        self.success, self._ended = False, False
        self._commands: list[tuple[float, np.ndarray]] = []  # (takes effect, action), in order
        self._effective = np.zeros(self.spec.action.dim, np.float32)
        now = self.clock.now()
        self._jumps, self._stepped = Jumps(now), now
        self._reports = [(now, Observation(now, self._values))]  # (arrives, observation), as measured

    def observe(self) -> Observation:
        now = self._now() + EPSILON
        if now > self._stepped + 1 / self.spec.hz + 2 * EPSILON:  # nothing was commanded: the world stands still
            self._stepped = now - 1 / self.spec.hz
            self._reports.append((now + self.delays.observation, Observation(now, self._values)))
        newest = max((i for i, (arrives, _) in enumerate(self._reports) if arrives <= now), default=0)
        del self._reports[:newest]
        return self._reports[0][1]

    def command(self, action: np.ndarray) -> np.ndarray:
        sent = np.clip(action, self.spec.action.low, self.spec.action.high).astype(np.float32)
        now = self._now()
        self._commands.append((now + self.delays.command, sent))
        while self._commands and self._commands[0][0] <= now + EPSILON:
            self._effective = self._commands.pop(0)[1]
        if not self._ended:  # nothing moves in a world that has come to its end
            values, _, self._ended, _, info = self.env.step(self._effective)
            self._values = _with_shapes(values)
            self.success = self.success or bool(np.all(info.get("success", False)))
        self._stepped = now
        if self._rng.random() >= self.delays.dropped:
            measured = now + 1 / self.spec.hz
            late = self.delays.observation + self.delays.jitter * self._rng.random()
            self._reports.append((measured + late, Observation(measured, self._values)))
        return sent

    def trouble(self) -> str:
        return ""

    def _now(self) -> float:
        now = self.clock.now()
        if (gone := self._jumps.until(now)) < 0:
            self._stepped += gone
            self._commands = [(effect + gone, action) for effect, action in self._commands]
            self._reports = [(arrives + gone, replace(o, time=o.time + gone)) for arrives, o in self._reports]
        return now


def spec_of(env: Any) -> Spec:
    """What an environment says about itself: the shapes of its observations, its limits, and `spec_dict()`, as
    envs/README.md has it. What it does not say is unknown; ValueError for observations without names and no rate.
    """
    said = env.get_wrapper_attr("spec_dict")() if env.has_wrapper_attr("spec_dict") else {}
    spaces, hz = getattr(env.observation_space, "spaces", None), said.get("hz") or env.metadata.get("render_fps")
    if spaces is None or not hz:
        raise ValueError(
            f"expected named observations and a control rate from {type(env.unwrapped).__name__}: "
            "give it a Dict observation space and metadata['render_fps'], see envs/README.md"
        )
    low, high = (float(str(edge)) for edge in (env.action_space.low.min(), env.action_space.high.max()))
    action = {"dim": prod(env.action_space.shape), "low": low, "high": high} | said.get("action", {})
    obs = {key: tuple(space.shape) or (1,) for key, space in spaces.items()}
    try:
        return Spec.from_dict(said | {"obs": obs, "action": action, "hz": float(hz)})
    except TypeError as error:
        raise ValueError(f"expected spec_dict() of {env} as in envs/README.md, got {error}") from error


def _with_shapes(values: dict[str, Any]) -> dict[str, np.ndarray]:
    """Observations as arrays of an environment's own; a single number is (1,), as in data sets."""
    return {key: np.atleast_1d(np.array(value)) for key, value in values.items()}
