"""Observations and actions to [-1, 1] and back; the limits are buffers, so they travel with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import numpy as np
import torch
from torch import Tensor, nn

from ebt_policy.data.episodes import IMAGE_RANK
from ebt_policy.data.ranges import full_range, robust_range
from ebt_policy.data.spec import ActionSpec, Spec

ABSOLUTE_FLOOR = 0.01  # 1 cm, 0.01 rad, 0.01 of a quaternion or of an action unit
NOTHING = 1e-9  # what never moves is not divided by zero
RELATIVE_FLOOR = 1e-3  # of a dimension's own largest number: 0.4 mm for one that is near 400 mm


class Limits(nn.Module):
    """The affine map of [center - half_range, center + half_range] to [-1, 1], per dimension. Identity until set."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        size = shape if len(shape) < IMAGE_RANK else (1,) * len(shape)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("half_range", torch.ones(size))

    def fit(self, low: np.ndarray, high: np.ndarray, floor: float = ABSOLUTE_FLOOR) -> None:
        """Sets the limits to the ranges low to high, which broadcast to the shape, widened around their middle to the
        floor, or a share of their largest number if that is more."""
        floor = np.maximum(floor, RELATIVE_FLOOR * np.maximum(np.abs(low), np.abs(high)))
        self.center.copy_(torch.as_tensor((low + high) / 2))
        self.half_range.copy_(torch.as_tensor(np.maximum(high - low, floor) / 2))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.center) / self.half_range

    def inverse(self, x: Tensor) -> Tensor:
        return x * self.half_range + self.center


def action_floor(spec: ActionSpec) -> float:
    """What a dimension of actions varies by at the least: 0.01 of [-1, 1], less of a narrower range. Without a range
    nobody knows their unit, and all that moves is meant."""
    width = spec.high - spec.low
    return ABSOLUTE_FLOOR * min(1.0, width / 2) if width < inf else NOTHING


class Normalizer(nn.Module):
    """Maps the range seen in the data to [-1, 1], each dimension by itself; values outside of it are not clipped.

    A dimension that hardly moved is not blown up: its range counts as at least 0.01 (SI units; of actions see
    `action_floor`), and at least a thousandth of its own largest number. Other dimensions of the same key do not count,
    as they may be in other units (metres beside a gripper of 0 to 850). Single numbers ten times as far out as all
    others do not widen a range. An image has one range, 0 to 255 if it is made of bytes.
    """

    def __init__(self, spec: Spec):
        """The identity, with the shapes of `spec`: ready for `load_state_dict`."""
        super().__init__()
        self.keys = tuple(spec.obs)
        if len(set(map(_module_name, self.keys))) < len(self.keys):
            raise ValueError(f"expected keys that differ in more than a dot, got {list(self.keys)}: rename one")
        for key, shape in spec.obs.items():
            self.add_module(_module_name(key), Limits(shape))
        self.action_limits, self.action_spec = Limits((spec.action.dim,)), spec.action

    def fit(self, obs: Mapping[str, Tensor], action: Tensor) -> Normalizer:
        """Sets the limits to those of obs[k] (N, *shape) and action (N, Da): the labels, not what was executed."""
        for key in self.keys:
            self.get_submodule(_module_name(key)).fit(*robust_range(obs[key].numpy()))
        # outliers among labels are refused before, see `oddities`
        self.action_limits.fit(*full_range(action.numpy()), action_floor(self.action_spec))
        return self

    def obs(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """obs[k] (..., *shape) in env units -> [-1, 1], the spec's keys; KeyError if one is missing."""
        missing = [key for key in self.keys if key not in obs]
        if missing:
            raise KeyError(f"expected observations {list(self.keys)}, {missing} are missing")
        return {key: self.get_submodule(_module_name(key))(obs[key]) for key in self.keys}

    def action(self, action: Tensor) -> Tensor:
        """(..., Da) env units -> [-1, 1]."""
        return self.action_limits(action)

    def unaction(self, action: Tensor) -> Tensor:
        """(..., Da) [-1, 1] -> env units; the inverse of `action`."""
        return self.action_limits.inverse(action)


def _module_name(key: str) -> str:
    return f"obs/{key.replace('.', '_')}"  # a dot would nest modules
