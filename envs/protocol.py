"""What an environment may offer besides Gymnasium's interface (envs/README.md), asked of it through its wrappers."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


def layer(env: gym.Env, name: str) -> gym.Env:
    """The outermost of an environment's wrappers, or what they wrap, that has `name`; `env` if none has."""
    inner = env
    while isinstance(inner, gym.Wrapper) and not hasattr(inner, name):
        inner = inner.env
    return inner if hasattr(inner, name) else env


def offer(env: gym.Env, name: str, otherwise: Any = None) -> Any:
    return getattr(layer(env, name), name, otherwise)


def rate(env: gym.Env) -> float:
    """Control steps a second; ValueError if the environment does not say."""
    said = offer(env, "spec_dict", dict)().get("hz") or env.metadata.get("render_fps")
    if not said:
        raise ValueError(f"expected spec_dict()['hz'] or metadata['render_fps'] of {env}, got none: see envs/README.md")
    return float(said)


def has_gripper(env: gym.Env) -> bool:
    """Whether the last number of an action is said to close a gripper."""
    said = offer(env, "spec_dict", dict)().get("action", {})
    return said.get("gripper", "unknown") not in ("none", "unknown")


def initial_state(env: gym.Env) -> np.ndarray | None:
    """What the episode began from, for demonstrations; asked right after a reset, None if it cannot say."""
    state = offer(env, "initial_state") or offer(env, "state")
    return state and state()


def succeeded(info: dict[str, Any], env: gym.Env) -> bool:
    """Whether the task is solved after this step; ValueError if the environment does not say."""
    if "success" not in info:
        raise ValueError(f"expected info['success'] of {env} in every step, got {sorted(info)}: see envs/README.md")
    return bool(np.all(info["success"]))


def without_limit(task: str, **kwargs: Any) -> gym.Env:
    """The environment `task`, e.g. envs:Lift-v0, with its wrappers but without its time limit."""
    return gym.make(task, max_episode_steps=-1, disable_env_checker=True, **kwargs)
