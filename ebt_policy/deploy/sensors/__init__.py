"""What an arm does not measure itself: each module here has `connect(cfg, clock) -> Sensor`.

A robot's YAML has them under `sensors`, by observation key, with the module's name as `kind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ebt_policy.deploy import kinds
from ebt_policy.deploy.clock import Clock
from ebt_policy.deploy.robot import Observation, Robot


class Sensor(Protocol):
    """Entering opens it and waits for the first reading, leaving gives it back."""

    shape: tuple[int, ...]

    def __enter__(self) -> Sensor: ...

    def __exit__(self, *error) -> None: ...

    def read(self) -> np.ndarray:
        """(*shape), the newest. Returns at once."""
        ...

    def trouble(self) -> str:
        """Why the newest is not to be relied on, or ""."""
        ...


def connect(cfg: Mapping[str, Any], clock: Clock) -> Sensor:
    """The sensor of a YAML, not entered yet; ValueError for a kind that there is not."""
    return kinds.find(__name__, cfg["kind"]).connect({k: v for k, v in cfg.items() if k != "kind"}, clock)


class Sensed:
    """A robot that observes more than its arm measures: the newest of each sensor, at the time of the arm's reading.

    A sensor in trouble stops the arm. Sensors are opened before the arm and given back after it.
    """

    def __init__(self, robot: Robot, sensors: Mapping[str, Sensor]):
        if twice := sorted(set(robot.spec.obs) & set(sensors)):
            raise ValueError(f"expected sensors for what the arm does not measure, got {', '.join(twice)} twice")
        shapes = {key: tuple(sensor.shape) for key, sensor in sensors.items()}
        self.robot, self.sensors = robot, sensors
        self.spec, self.motion = replace(robot.spec, obs=robot.spec.obs | shapes), robot.motion

    def __enter__(self) -> Sensed:
        with ExitStack() as opened:  # what cannot be opened closes what was opened before it
            for part in (*self.sensors.values(), self.robot):
                opened.enter_context(part)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._opened.__exit__(*error)

    def observe(self) -> Observation:
        own = self.robot.observe()
        return replace(own, values=own.values | {key: sensor.read() for key, sensor in self.sensors.items()})

    def command(self, action: np.ndarray) -> np.ndarray:
        return self.robot.command(action)

    def trouble(self) -> str:
        said = {key: sensor.trouble() for key, sensor in self.sensors.items()}
        return self.robot.trouble() or "; ".join(f"{key}: {why}" for key, why in said.items() if why)
