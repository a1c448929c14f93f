"""Re-planning early, when what is observed leaves what the plan expected.

    planned at t      E(plan | obs to t)
    j steps later     E(rest of the plan | obs to t + j), the rest being the plan without its first j steps,
                      its last action repeated to fill the horizon

A rise from the first to the second by more than a threshold ends the plan.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.tasks.robot import Policy


class ReplanningAgent(ChunkedAgent):
    """A ChunkedAgent that ends a plan whose energy rises by more than `threshold` under new observations."""

    def __init__(self, policy: Policy, threshold: float):
        if not threshold > 0:
            raise ValueError(f"expected a positive rise of the energy to re-plan at, got {threshold:g}")
        self.threshold = threshold
        super().__init__(policy)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        self._remember(obs)
        if not self.queue or self.rise() > self.threshold:
            self.queue = deque(self._plan())
        return self.queue.popleft()

    def rise(self) -> float:
        """By how much the energy of the plan has risen since it was made."""
        done = self.policy.horizon.execute - len(self.queue)
        rest = torch.cat([self.chunk.plan[:, done:], self.chunk.plan[:, -1:].expand(-1, done, -1)], dim=1)
        if self.chunk.energies is None:
            raise ValueError("re-planning early needs an energy, and this method has none: leave out replan")
        return self.policy.energy(self.window(), rest).item() - self.chunks[-1].energies[-1]
