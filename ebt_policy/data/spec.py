"""What a data set, an environment, a robot and a checkpoint must agree on.

To  observed steps    Tp  predicted steps    Da  action dimensions    hz  control steps a second
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import inf
from typing import Any

UNKNOWN = (None, "unknown", -inf, inf)  # what a spec has where nobody said it; it fits everything
MEANINGS = {  # field of an action -> what may be said of it
    "frame": ("eef", "joint", "planar", "unknown"),  # what is commanded
    "mode": ("delta", "absolute", "unknown"),
    "rotation": ("axis_angle", "rotation_6d", "quaternion", "none", "unknown"),
    "gripper": ("close_positive", "none", "unknown"),  # sign convention of the last dimension
}


@dataclass(frozen=True)
class ActionSpec:
    """What the numbers of one action (Da,) mean."""

    dim: int
    frame: str = "unknown"  # these four: the words of MEANINGS
    mode: str = "unknown"
    rotation: str = "unknown"
    gripper: str = "unknown"
    low: float = -1.0  # the range that the controller accepts, same for every dimension
    high: float = 1.0

    def __post_init__(self):
        if self.dim < 1:
            raise ValueError(f"an action has at least 1 dimension, got {self.dim}")
        if not self.low < self.high:
            raise ValueError(f"action range must satisfy low < high, got [{self.low:.6g}, {self.high:.6g}]")
        for name, words in MEANINGS.items():
            if getattr(self, name) not in words:
                raise ValueError(f"action.{name} is one of {', '.join(words)}, got {getattr(self, name)!r}")


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

    def stating(self, hz: float | None = None, action: Mapping[str, Any] | None = None) -> Spec:
        """What somebody who knows says of the data, over what the file says or does not say; ValueError if it makes no
        sense.

        hz: control steps a second. action: some of frame, mode, rotation, gripper, low and high. A mode that is not the
        file's makes the file's range void, which was in other units.
        """
        if not isinstance(action, Mapping | None):
            raise ValueError(f"expected action={{mode: absolute}} or the like, got {action!r}: name what is stated")
        said = {name: value for name, value in dict(action or {}).items() if value is not None}
        known = [f.name for f in fields(ActionSpec) if f.name != "dim"]
        if unknown := sorted(set(said) - set(known)):
            raise ValueError(f"of actions {', '.join(known)} can be stated, got {', '.join(unknown)}")
        if said.get("mode", self.action.mode) != self.action.mode:
            said = {"low": -inf, "high": inf} | said
        said |= {name: _number(said[name], f"action.{name}") for name in ("low", "high") if name in said}
        rate = self.hz if hz is None else _number(hz, "hz")
        if rate is not None and not 0 < rate < inf:
            raise ValueError(f"expected a rate of control above 0 Hz, got hz={rate}")
        return replace(self, hz=rate, action=replace(self.action, **said))

    def contradictions(self, other: Spec) -> list[str]:
        """Where `other` says something else than this says, as texts with the field and both values."""
        mine, others = _leaves(self.to_dict()), _leaves(other.to_dict())
        known = [name for name, value in mine.items() if value not in UNKNOWN and others.get(name) not in UNKNOWN]
        return [f"{name}: {mine[name]} against {others[name]}" for name in known if mine[name] != others[name]]

    def differences(self, other: Spec) -> list[str]:
        """Where `other` is not the same, as texts with the field and both values."""
        mine, others = _leaves(self.to_dict()), _leaves(other.to_dict())
        fields = sorted(name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name))
        return [f"{name}: {mine.get(name, 'none')} against {others.get(name, 'none')}" for name in fields]


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number for {name}, got {value!r}")
    return float(value)


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Dotted name -> value, for all that is not a dict; tuples as the lists that JSON makes of them."""
    if not isinstance(value, dict):
        return {name: list(value) if isinstance(value, tuple) else value}
    parts = (_leaves(inner, f"{name}.{key}" if name else str(key)) for key, inner in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}
