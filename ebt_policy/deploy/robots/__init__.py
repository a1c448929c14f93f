"""Real arms: each module here has `connect(cfg, clock) -> Robot`, and a robot's YAML names it as `kind`.

cfg is that YAML as plain data. Vendors' libraries are imported where an arm is entered, so that the rest needs none.
"""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ebt_policy.deploy.clock import Clock
from ebt_policy.deploy.robot import Robot


def connect(cfg: Mapping[str, Any], clock: Clock) -> Robot:
    """The robot of a YAML, not entered yet; ValueError for a kind that there is not."""
    known = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    if cfg["kind"] not in known:
        raise ValueError(f"expected a robot of kind sim, {', '.join(known)}, got {cfg['kind']!r}")
    return import_module(f"{__name__}.{cfg['kind']}").connect(cfg, clock)
