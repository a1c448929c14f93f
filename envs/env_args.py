"""The environment that a data set was recorded in, from its `env_args`, whichever robosuite wrote them.

`gym.make("envs:Recorded-v0", env_args=...)` is that environment, without a time limit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import register
from robosuite.environments.base import REGISTERED_ENVS

from envs.protocol import without_limit
from envs.robosuite_env import RobosuiteEnv

ROBOSUITE, GYM = 1, 2  # env_args["type"]
RENAMED = {"damping": "damping_ratio", "damping_limits": "damping_ratio_limits"}  # of a controller, since 1.5


def from_env_args(env_args: dict[str, Any], **render: Any) -> gym.Env:
    """The environment of a data set; `render` may hold render_mode, size and camera. ValueError if it is not here.

    Of type 2 it is one that is registered by the name `env_name` and made with `env_kwargs`. Of type 1 it is
    robosuite's: `controller_configs` that robosuite up to 1.4 wrote describe one arm; they become the BASIC composite
    controller, physics is stepped as it was then and `object` is laid out as in the data sets of that time.
    """
    name, kwargs = env_args.get("env_name"), copy.deepcopy(env_args.get("env_kwargs") or {})
    if not isinstance(name, str) or not isinstance(kwargs, dict):
        raise ValueError(f"expected a name and a mapping as env_name and env_kwargs of env_args, got {env_args}"[:200])
    kind = env_args.get("type", ROBOSUITE)
    if kind == GYM:
        return _registered(name, kwargs, render)
    if kind != ROBOSUITE:
        raise ValueError(
            f"expected a robosuite (type {ROBOSUITE}) or registered (type {GYM}) environment, got {kind!r}"
        )
    if name not in REGISTERED_ENVS:
        raise ValueError(f"expected a robosuite task ({', '.join(sorted(REGISTERED_ENVS))}), got {name!r}")
    if not kwargs.get("robots"):
        raise ValueError(f"expected env_kwargs with the robots of {name}, got {sorted(kwargs)}: it cannot be rebuilt")
    order = env_args.get("object_order", "robosuite_1.4" if _is_old(kwargs) else "robosuite")
    try:
        return RobosuiteEnv(name, _renewed(kwargs), object_order=order, **render)
    except Exception as error:  # whatever robosuite raises over arguments that it was not written for
        raise ValueError(f"robosuite cannot make {name} of these env_kwargs: {error}"[:300]) from error


def _registered(name: str, kwargs: dict[str, Any], render: dict[str, Any]) -> gym.Env:
    """A registered id never imports a module, and neither may what it is made with: a wrapper would by `task`."""
    if name not in gym.registry:
        raise ValueError(f"expected an environment that is registered here, got {name!r}: add its file to envs/")
    if any(":" in text for text in _texts(kwargs)):
        raise ValueError(f"expected env_kwargs of {name} without a name of a module, got {kwargs}"[:200])
    return without_limit(name, **kwargs, **render)


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain data, names too."""
    if isinstance(value, str):
        yield value
    for inner in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def _configs(kwargs: dict[str, Any]) -> list[dict[str, Any] | None]:
    """Of each robot, or one for all."""
    configs = kwargs.get("controller_configs")
    return configs if isinstance(configs, list) else [configs]


def _is_old(kwargs: dict[str, Any]) -> bool:
    """Whether robosuite up to 1.4 wrote them."""
    return any(config is not None and "body_parts" not in config for config in _configs(kwargs))


def _renewed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """robosuite 1.5's arguments from those of any version."""
    if _is_old(kwargs):
        kwargs.setdefault("lite_physics", False)
    if "mount_types" in kwargs:
        kwargs["base_types"] = kwargs.pop("mount_types")
    robots = kwargs["robots"] if isinstance(kwargs["robots"], list) else [kwargs["robots"]]
    if kwargs.get("controller_configs") is not None:
        configs = [composite(config) for config in _configs(kwargs)]
        kwargs["controller_configs"] = configs * len(robots) if len(configs) == 1 else configs
    return kwargs


def composite(config: dict[str, Any]) -> dict[str, Any]:
    """robosuite 1.5's controller configuration, arms at the top of `body_parts`, from one of any version."""
    if "body_parts" in config:
        parts = dict(config["body_parts"])
        return config | {"body_parts": parts.pop("arms", {}) | parts}
    arm = {RENAMED.get(key, key): value for key, value in config.items() if key != "control_delta"}
    arm.setdefault("input_type", "delta" if config.get("control_delta", True) else "absolute")
    arm.setdefault("input_ref_frame", "world")
    arm.setdefault("gripper", {"type": "GRIP"})
    return {"type": "BASIC", "body_parts": {"right": arm}}


register(id="Recorded-v0", entry_point=from_env_args)
