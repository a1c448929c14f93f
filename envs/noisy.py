"""A task whose actions are executed with noise: `gym.make("envs:Noisy-v0", task="envs:Square-v0", sigma=0.2)`."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import register

from envs.protocol import without_limit


class Noisy(gym.Wrapper):
    """Noise of `sigma` action units on every action, clipped to the limits, drawn from the seed of the reset alone."""

    def __init__(self, env: gym.Env, sigma: float):
        super().__init__(env)
        if not sigma >= 0:
            raise ValueError(f"expected a standard deviation sigma >= 0 in action units, got {sigma}")
        self.sigma, self.rng = sigma, np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        if seed is not None:  # its own numbers: the initial state stays that of the seed without noise
            self.rng = np.random.default_rng([seed, 1])
        return self.env.reset(seed=seed, options=options)

    def step(self, action: np.ndarray):
        limits = self.action_space
        noise = self.sigma * self.rng.standard_normal(limits.shape)
        return self.env.step(np.clip(action + noise, limits.low, limits.high).astype(limits.dtype))


def noisy(task: str, sigma: float, **kwargs) -> Noisy:
    """The environment `task` without its time limit, under noise; `kwargs` are its own."""
    return Noisy(without_limit(task, **kwargs), sigma)


register(id="Noisy-v0", entry_point=noisy)
