"""Re-planning early, when what is observed leaves what the plan expected.

    ReplanningAgent    planned at t      E(plan | obs to t)
                       j steps later     E(rest of the plan | obs to t + j), the rest being the plan without its
                                         first j steps, its last action repeated to fill the horizon
    RedrawingAgent     j steps later     a plan drawn anew, and how far it lies from the plan where both go on

A rise from the first energy to the second, or a distance, by more than a threshold ends the plan. The first costs one
energy a step; the second a whole plan a step, but asks of the policy no more than that it plans.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque

import numpy as np

from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.tasks.robot import Policy


class _EarlyAgent(ChunkedAgent):
    """A ChunkedAgent that plans anew as soon as `surprise` exceeds a threshold."""

    def __init__(self, policy: Policy, threshold: float, warm: float | None = None):
        if not threshold > 0:
            raise ValueError(f"expected a positive threshold to re-plan at, got {threshold:g}")
        self.threshold = threshold
        super().__init__(policy, warm)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        self._remember(obs)
        if not self.queue or self.surprise() > self.threshold:
            self.queue = deque(self._plan())
        return self.queue.popleft()

    @abstractmethod
    def surprise(self) -> float:
        """How little what is observed fits the plan that is being executed."""


class ReplanningAgent(_EarlyAgent):
    """It ends a plan whose energy rises by more than `threshold` under new observations."""

    def surprise(self) -> float:
        if self.chunk.energies is None:
            raise ValueError("re-planning early needs an energy, and this method has none: use redraw, not replan")
        now = self.policy.energy(self.window(), self.policy.complete(self.rest)).item()
        return now - self.chunks[-1].energies[-1]


class RedrawingAgent(_EarlyAgent):
    """It ends a plan that one drawn anew leaves by more than `threshold`, a root mean square of normalised actions,
    over the steps that both still have to execute or plan."""

    def surprise(self) -> float:
        anew, rest = self.policy.predict_action(self.window(), generator=self.generator).plan, self.rest
        now = self.policy.horizon.observe - 1  # a plan's first steps are past
        both = [self.policy.normalizer.action(plan[:, now : rest.shape[1]]) for plan in (rest, anew)]
        return (both[0] - both[1]).pow(2).mean().sqrt().item()
