"""Demonstrations: one episode of a scripted expert, disturbed while it acts.

T  steps    Da  action dimensions    S  numbers in a simulator state
"""

from __future__ import annotations

import os
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from envs.checks import as_action
from envs.protocol import has_gripper, initial_state, offer, succeeded

STEADY = 0.4  # part of the noise that is left when the hand rests
BURST, REST = (3, 8), (16, 40)  # control steps, both ends included
SLIP = 0.2  # share of bursts in which the gripper does the opposite as well


class Bursts:
    """What is executed instead of the expert's action: Gaussian noise in short bursts, nothing in between.

    In some bursts the gripper slips: it drops what it holds or closes too early, so that missed grasps are in the data.

    A chunk of actions should continue what was seen. Under noise at every step its later actions answer disturbances
    that nobody could foresee, and a policy that imitates them trembles; a burst shows a mistake, the rest after it how
    an undisturbed expert makes it good. The standard deviation is `noise` at full speed and STEADY of that at rest: a
    person's hand, too, is less sure the faster it moves. `steady` is 1 for actions that do not tell the speed.
    """

    def __init__(
        self,
        noise: float,
        rng: np.random.Generator,
        steady: float = STEADY,
        gripper: bool = True,
        low: np.ndarray | float = -1.0,
        high: np.ndarray | float = 1.0,
    ):
        """low, high: the limits of actions, (Da,) or of all their numbers; full speed is the largest of them."""
        self.noise, self.rng, self.steady, self.gripper = noise, rng, steady, gripper
        self.low, self.high, self.full = low, high, np.abs([low, high]).max()
        self.on, self.slip, self.left = False, False, rng.integers(0, REST[1])

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """action (Da,) within the limits -> (Da,), disturbed or not, within the limits."""
        if self.left == 0:
            self.on = not self.on
            self.slip = self.on and self.noise > 0 and self.rng.random() < SLIP
            self.left = self.rng.integers(*(BURST if self.on else REST), endpoint=True)
        self.left -= 1
        if not self.on:
            return action
        arm = len(action) - self.gripper
        scale = self.noise * (self.steady + (1 - self.steady) * min(1.0, np.abs(action[:arm][:3]).max() / self.full))
        moved = np.array(action, dtype=np.float64)
        moved[:arm] += scale * self.rng.standard_normal(arm)
        if self.slip:
            moved[arm:] = (self.low + self.high - action)[arm:]
        return np.clip(moved, self.low, self.high)


def record(env: gym.Env, expert: Any, seed: int, noise: float, tail: int = 10) -> dict[str, np.ndarray]:
    """One episode from the initial state of `seed`, until `tail` steps after success or the end of time.

    obs/<key> (T, *shape) and action (T, Da), what the expert wanted, as float32; executed (T, Da), what was sent;
    success (); seed (); and of an environment that has states, initial_state (S,) float64.
    """
    rng = np.random.default_rng([seed, 1])  # apart from the environment's stream, which starts from `seed` itself
    obs, _ = env.reset(seed=seed)
    expert.reset(rng)
    limits, began = env.action_space, initial_state(env)
    steady = STEADY if offer(env, "spec_dict")()["action"]["mode"] == "delta" else 1.0
    disturb = Bursts(noise, rng, steady, has_gripper(env), limits.low, limits.high)
    seen, wanted, executed, left, over = [], [], [], tail, False
    while left and not over:
        action = np.clip(as_action(expert.act(obs), limits.shape), limits.low, limits.high).astype(np.float32)
        sent = disturb(action).astype(np.float32)
        seen.append({key: np.array(value) for key, value in obs.items()})
        wanted.append(action)
        executed.append(sent)
        obs, _, terminated, truncated, info = env.step(sent)
        over = terminated or truncated
        left -= succeeded(info, env) or left < tail
    return {f"obs/{key}": np.stack([o[key] for o in seen]) for key in seen[0]} | {
        "action": np.stack(wanted),
        "executed": np.stack(executed),
        "success": np.bool_(left < tail),
        "seed": np.int64(seed),
        **({} if began is None else {"initial_state": began}),
    }


def record_into(folder: str | os.PathLike, env_id: str, noise: float, seeds: list[int]) -> None:
    """Records each seed into its own file in `folder` (`part`); one that is there appears whole or not at all.

    In a process that another one started it ends when that one is gone, killed or not.
    """
    parent = parent_process()
    env = gym.make(env_id, disable_env_checker=True)
    expert = offer(env, "expert")()
    for seed in seeds:
        if parent is not None and not parent.is_alive():
            break
        episode = record(env, expert, seed, noise)
        partial = Path(folder) / f".{seed}.{os.getpid()}.partial"
        with open(partial, "wb") as file:
            np.savez(file, **episode)
        os.replace(partial, part(folder, seed))
    env.close()


def part(folder: str | os.PathLike, seed: int) -> Path:
    """Where `record_into` leaves the episode of `seed`."""
    return Path(folder) / f"seed_{seed:08d}.npz"
