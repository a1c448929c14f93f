"""A point that is pushed to a target, and policies that push it: small enough to know the answers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from ebt_policy.tasks.robot import ActionChunk, Policy


class Point(gym.Env):
    """obs position, target (2,); the action moves the point by 0.1; wind depends on the reset's seed."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = gym.spaces.Dict({k: gym.spaces.Box(-9, 9, (2,), np.float32) for k in ("position", "target")})
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode=None, radius=0.1, wind=0.02, broken_gl=False):
        self.render_mode, self.radius, self.wind, self.broken_gl = render_mode, radius, wind, broken_gl

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.target = self.np_random.uniform(-1, 1, (2, 2))
        return self._obs(), {}

    def step(self, action):
        self.position = self.position + 0.1 * np.clip(action, -1, 1) + self.wind * self.np_random.normal(size=2)
        near = bool(np.linalg.norm(self.position - self.target) < self.radius)
        return self._obs(), float(near), False, False, {"success": near}

    def render(self):
        if self.broken_gl:
            raise RuntimeError("no display")
        frame = np.full((96, 128, 3), 240, np.uint8)
        for (x, y), colour in ((self.target, (60, 160, 90)), (self.position, (40, 90, 200))):
            row, column = int(48 - 22 * y), int(64 + 22 * x)
            frame[max(row - 4, 0) : row + 4, max(column - 4, 0) : column + 4] = colour
        return frame

    def _obs(self):
        return {"position": self.position.astype(np.float32), "target": self.target.astype(np.float32)}


gym.register(id="Point-v0", entry_point=Point, max_episode_steps=60)
gym.register(id="EndlessPoint-v0", entry_point=Point)
POINT = "toy_rollout:Point-v0"


@dataclass(frozen=True)
class Horizon:
    observe: int = 2
    predict: int = 6
    execute: int = 4

    @property
    def run(self) -> slice:
        return slice(self.observe - 1, self.observe - 1 + self.execute)


class ToyPolicy(nn.Module):
    """Descends |y - g(obs)|^2 / 2 + small network energy from noise towards the direction of the target."""

    complete = Policy.complete

    def __init__(self, steps=3, energies=True):
        super().__init__()
        self.spec = SimpleNamespace(obs={"position": (2,), "target": (2,)})
        self.horizon, self.steps, self.energies = Horizon(), steps, energies
        self.net = nn.Linear(2, 32, bias=False)
        with torch.no_grad():
            self.net.weight.copy_(torch.linspace(-0.3, 0.3, 64).view(32, 2))
        self.windows, self.normalizer = [], SimpleNamespace(action=lambda action: action)

    @property
    def device(self):
        return self.net.weight.device

    @torch.no_grad()
    def predict_action(self, obs, generator=None, start=None):
        self.windows.append(obs)
        goal = self._goal(obs)
        y = torch.randn(len(goal), self.horizon.predict, 2, generator=generator) if start is None else start
        energies, norm = [], None
        for _ in range(self.steps):
            energy, grad = self._energy_and_grad(y, goal)
            energies.append(energy)
            norm = grad.flatten(1).norm(dim=1)
            y = y - 0.7 * grad
        return ActionChunk(
            actions=y[:, self.horizon.run],
            plan=y,
            energies=torch.stack(energies) if self.energies else None,
            grad_norm=norm if self.energies else None,
            score=(lambda: self._energy_and_grad(y, goal)[0]) if self.energies else None,
            steps=torch.full((len(y),), self.steps),
        )

    def energy(self, obs, plan):
        return self._energy_and_grad(plan, self._goal(obs))[0]

    def _goal(self, obs):
        return (5 * (obs["target"] - obs["position"])[:, -1:]).clamp(-1, 1)

    def _energy_and_grad(self, y, goal):
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            energy = 0.5 * (y - goal).pow(2).sum((1, 2)) + 0.01 * self.net(y).tanh().pow(2).sum((1, 2))
            (grad,) = torch.autograd.grad(energy.sum(), y)
        return energy.detach(), grad


def toy_agent(**kwargs):
    from ebt_policy.rollout.agent import ChunkedAgent

    return ChunkedAgent(ToyPolicy(**kwargs))


class Scripted:
    """Moves straight to the target until `leave_after` actions, then away."""

    def __init__(self, leave_after=10**6):
        self.leave_after, self.chunks = leave_after, []

    def reset(self, seed):
        self.taken, self.seed = 0, seed

    def act(self, obs):
        self.taken += 1
        way = np.clip(10 * (obs["target"] - obs["position"]), -1, 1)
        return way if self.taken <= self.leave_after else -np.ones(2, np.float32)


class Dying(Scripted):
    """Takes its process down with it."""

    def act(self, obs):
        os._exit(9)


class Raising(Scripted):
    def act(self, obs):
        raise ValueError("the arm fell off")
