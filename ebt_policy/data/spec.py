"""What a data set, an environment, a robot and a checkpoint must agree on.

To  observed steps    Tp  predicted steps    Da  action dimensions    hz  control steps a second
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ActionSpec:
    """What the numbers of one action (Da,) mean."""

    dim: int
    frame: Literal["eef", "joint", "planar", "unknown"] = "unknown"  # what is commanded
    mode: Literal["delta", "absolute", "unknown"] = "unknown"
    rotation: Literal["axis_angle", "rotation_6d", "quaternion", "none", "unknown"] = "unknown"
    gripper: Literal["close_positive", "none", "unknown"] = "unknown"  # sign convention of the last dimension
    low: float = -1.0  # the range that the controller accepts, same for every dimension
    high: float = 1.0

    def __post_init__(self):
        if self.dim < 1:
            raise ValueError(f"an action has at least 1 dimension, got {self.dim}")
        if not self.low < self.high:
            raise ValueError(f"action range must satisfy low < high, got [{self.low}, {self.high}]")


@dataclass(frozen=True)
class Spec:
    """The interface between data, policy and environment."""

    obs: dict[str, tuple[int, ...]]  # key -> shape of one observation, SI units, quaternions as xyzw
    action: ActionSpec
    hz: float | None = None  # None: the file does not say
    env_args: dict = field(default_factory=dict)  # robomimic's env_args: env_name, type, env_kwargs
    simulator: dict[str, str] = field(default_factory=dict)  # package -> version that recorded the data

    def to_dict(self) -> dict:
        """Plain JSON-compatible data; `Spec.from_dict` inverts it."""
        return asdict(self) | {"obs": {k: list(v) for k, v in self.obs.items()}}

    @classmethod
    def from_dict(cls, data: dict) -> Spec:
        obs = {k: tuple(v) for k, v in data["obs"].items()}
        return cls(**(data | {"obs": obs, "action": ActionSpec(**data["action"])}))

    def differences(self, other: Spec) -> list[str]:
        """Where `other` is not the same, as texts with the field and both values."""
        mine, others = _leaves(self.to_dict()), _leaves(other.to_dict())
        fields = sorted(name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name))
        return [f"{name}: {mine.get(name, 'none')} against {others.get(name, 'none')}" for name in fields]


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Dotted name -> value, for all that is not a dict; tuples as the lists that JSON makes of them."""
    if not isinstance(value, dict):
        return {name: list(value) if isinstance(value, tuple) else value}
    parts = (_leaves(inner, f"{name}.{key}" if name else str(key)) for key, inner in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}
