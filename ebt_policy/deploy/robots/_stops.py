"""Joints that come close to their stops: what Cartesian commands run into, and no limit of the hand's place bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ebt_policy import bounds

STILL = 1e-3  # rad; closer by less than this is noise


@dataclass(frozen=True)
class Stops:
    """Between which angles each joint turns, and the room that is kept to them."""

    low: tuple[float, ...]  # (n,) rad
    high: tuple[float, ...]
    room: float  # rad

    def __post_init__(self):
        for name in ("low", "high"):
            bounds.numbers(f"arm.joints.{name}", getattr(self, name), "[-100, 100]")
        bounds.number("arm.joints.room", self.room, "[0, 100]")
        if len(self.low) != len(self.high) or not all(
            low + 2 * self.room < high for low, high in zip(self.low, self.high, strict=True)
        ):
            raise ValueError(f"expected low < high for each joint, with room {self.room} to both, got {self}")

    def approached(self, before: np.ndarray, now: np.ndarray) -> str:
        """Which joint came closer to its stop, from angles (n,) to angles (n,), inside of the room; empty if none."""
        gap, was = (np.minimum(q - self.low, np.subtract(self.high, q)) for q in (now, before))
        closer = np.flatnonzero((gap < self.room) & (gap < was - STILL))
        return "".join(f"joint {i + 1} comes close to its stop, {gap[i]:.2f} rad" for i in closer[:1])
