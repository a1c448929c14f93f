"""Plans relative to where the robot was seen last, each place of them with limits of its own.

Absolute targets mean the same whatever happens on the way. But a network that predicts them has to copy where it is
before it can say where to go, and a first action of centimetres drowns in the width of the table. Relative
trajectories (UMI, Chi et al., 2024) need no copying; limits for each place keep the first actions, which are short and
executed, as exact as the last ones, which are long and guessed.

N  windows    To  observed steps    Tp  predicted steps    Da  action dimensions
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ebt_policy.data.normalizer import Limits, action_floor
from ebt_policy.data.ranges import full_range
from ebt_policy.data.spec import Spec


class RelativePlans(nn.Module):
    """Plans in env units to [-1, 1] on the training data and back, given the observations they answer."""

    def __init__(self, spec: Spec, predict: int, key: str, scale: float = 1.0):
        """key: an observation (Da,) of what actions set the target of; scale: action units to one of its units."""
        super().__init__()
        if spec.obs.get(key) != (spec.action.dim,) or spec.action.mode != "absolute":
            raise ValueError(
                f"expected absolute actions and an observation of their {spec.action.dim} dimensions as the origin of "
                f"plans, got {spec.action.mode} actions and {key} of shape {spec.obs.get(key)}: set task.origin=null, "
                "or where the file cannot say so, state task.action={mode: absolute}"
            )
        self.key, self.scale, self.floor = key, scale, action_floor(spec.action)
        self.limits = Limits((predict, spec.action.dim))

    def fit(self, obs: Mapping[str, Tensor], plans: Tensor) -> None:
        """Sets the limits to those of plans (N, Tp, Da) under obs[k] (N, To, *shape)."""
        self.limits.fit(*full_range((plans - self._origin(obs)).numpy()), self.floor)

    def forward(self, plan: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """plan (B, Tp, Da) and obs[k] (B, To, *shape) in env units -> (B, Tp, Da) in [-1, 1]."""
        return self.limits(plan - self._origin(obs))

    def inverse(self, y: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        return self.limits.inverse(y) + self._origin(obs)

    def _origin(self, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, 1, Da) action units."""
        return self.scale * obs[self.key][:, -1:]
