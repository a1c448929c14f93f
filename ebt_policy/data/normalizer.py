"""Observations and actions to [-1, 1] and back; the limits are buffers, so they travel with the weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ebt_policy.data.spec import Spec

ABSOLUTE_FLOOR = 0.01  # 1 cm, 0.01 rad, 0.01 of a quaternion or of an action unit
RELATIVE_FLOOR = 0.01  # of the widest dimension of the same key
IMAGE_RANK = 3  # (H, W, C): one range for the whole image


class Limits(nn.Module):
    """The affine map of [center - half_range, center + half_range] to [-1, 1], per dimension. Identity until set."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        size = shape if len(shape) < IMAGE_RANK else (1,) * len(shape)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("half_range", torch.ones(size))

    def fit(self, values: np.ndarray) -> None:
        """Sets the limits to the range of values (N, *shape), widened to the floor around its middle."""
        if values.dtype == np.uint8:
            low, high = np.zeros(self.center.shape), np.full(self.center.shape, 255.0)
        else:
            axes = 0 if self.center.shape == values.shape[1:] else tuple(range(values.ndim))
            low, high = (
                np.reshape(f(values, axis=axes), self.center.shape).astype(np.float64) for f in (np.min, np.max)
            )
        floor = max(ABSOLUTE_FLOOR, RELATIVE_FLOOR * float((high - low).max(initial=0.0)))
        self.center.copy_(torch.from_numpy((low + high) / 2))
        self.half_range.copy_(torch.from_numpy(np.maximum(high - low, floor) / 2))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.center) / self.half_range

    def inverse(self, x: Tensor) -> Tensor:
        return x * self.half_range + self.center


class Normalizer(nn.Module):
    """Maps the range seen in the data to [-1, 1], each dimension by itself; values outside of it are not clipped.

    A dimension that hardly moved is not blown up: its range counts as at least 0.01 (SI units, action units), and at
    least 1 % of the widest dimension of the same key. An image has one range, 0 to 255 if it is made of bytes.
    """

    def __init__(self, spec: Spec):
        """The identity, with the shapes of `spec`: ready for `load_state_dict`."""
        super().__init__()
        self.keys = tuple(spec.obs)
        for key, shape in spec.obs.items():
            self.add_module(_module_name(key), Limits(shape))
        self.action_limits = Limits((spec.action.dim,))

    def fit(self, obs: Mapping[str, Tensor], action: Tensor) -> Normalizer:
        """Sets the limits to those of obs[k] (N, *shape) and action (N, Da): the labels, not what was executed."""
        for key in self.keys:
            self.get_submodule(_module_name(key)).fit(obs[key].numpy())
        self.action_limits.fit(action.numpy())
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
