"""Real arms: each module here has `connect(cfg, clock) -> Robot`, and a robot's YAML names it as `kind`.

cfg is that YAML as plain data. Vendors' libraries are imported where an arm is entered, so that the rest needs none.
"""

from collections.abc import Mapping
from typing import Any

from ebt_policy.deploy import kinds, sensors
from ebt_policy.deploy.clock import Clock
from ebt_policy.deploy.robot import Robot


def connect(cfg: Mapping[str, Any], clock: Clock) -> Robot:
    """The robot of a YAML with its sensors, not entered yet; ValueError for a kind that there is not."""
    robot = kinds.find(__name__, cfg["kind"]).connect(cfg, clock)
    extra = {key: sensors.connect(one, clock) for key, one in (cfg.get("sensors") or {}).items()}
    return sensors.Sensed(robot, extra) if extra else robot
