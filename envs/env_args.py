"""The environment that a robomimic data set was recorded in, from its `env_args`, whichever robosuite wrote them."""

from __future__ import annotations

import copy
from typing import Any

from robosuite.environments.base import REGISTERED_ENVS

from envs.planar import GYM, PlanarEnv
from envs.robosuite_env import RobosuiteEnv

ROBOSUITE = 1  # env_args["type"]
RENAMED = {"damping": "damping_ratio", "damping_limits": "damping_ratio_limits"}  # of a controller, since 1.5


def from_env_args(env_args: dict[str, Any], **render: Any) -> RobosuiteEnv | PlanarEnv:
    """The environment of a data set; `render` may hold render_mode, size and camera.

    `controller_configs` that robosuite up to 1.4 wrote describe one arm; they become the BASIC composite controller,
    physics is stepped as it was then and `object` is laid out as in the data sets of that time.
    """
    planar = {env.name: env for env in PlanarEnv.__subclasses__()}
    if env_args.get("type") == GYM and env_args.get("env_name") in planar:
        return planar[env_args["env_name"]](**render)
    if env_args.get("type", ROBOSUITE) != ROBOSUITE:
        raise ValueError(
            f"expected a robosuite data set (type {ROBOSUITE}), got type {env_args['type']}, "
            f"{env_args.get('env_name')!r}: of type {GYM} there are {', '.join(sorted(planar))}"
        )
    task, kwargs = env_args["env_name"], copy.deepcopy(env_args["env_kwargs"])
    if task not in REGISTERED_ENVS:
        raise ValueError(f"expected a robosuite task ({', '.join(sorted(REGISTERED_ENVS))}), got {task!r}")
    configs = kwargs.get("controller_configs")
    one_each = configs if isinstance(configs, list) else [configs]
    old = any(config is not None and "body_parts" not in config for config in one_each)
    if old:
        kwargs.setdefault("lite_physics", False)
    if "mount_types" in kwargs:
        kwargs["base_types"] = kwargs.pop("mount_types")
    robots = kwargs["robots"] if isinstance(kwargs["robots"], list) else [kwargs["robots"]]
    if configs is not None:
        configs = [composite(config) for config in one_each]
        kwargs["controller_configs"] = configs * len(robots) if len(configs) == 1 else configs
    order = env_args.get("object_order", "robosuite_1.4" if old else "robosuite")
    return RobosuiteEnv(task, kwargs, object_order=order, **render)


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
