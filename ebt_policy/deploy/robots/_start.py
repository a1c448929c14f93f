"""Where a displacement starts: where the arm was told to be, as long as it is measured there.

    target = told + way        if |told - measured| <= near, and that target keeps the limits around `measured`
             measured + way    otherwise

An arm hangs a little off where it is told to be. Displacements that always start from where it is measured take this
over into each new target, and so an arm that is only moved sideways sinks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebt_policy import bounds
from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.motion import MotionLimits
from ebt_policy.deploy.robots._rotation import after, apart, to_quaternion


def check_place(base: Sequence[float], share: float, near: float) -> None:
    """ValueError unless an arm stands somewhere (base, 3 numbers in m) and follows displacements; see FrankaConfig."""
    bounds.numbers("arm.base", base, "[-1000, 1000]", 3)
    bounds.number("arm.share", share, "(0, 1]")
    bounds.number("arm.near", near, "[0, 1]")


def displaced(way: np.ndarray, measured: np.ndarray, told: np.ndarray, near: float, limits: Limits) -> np.ndarray:
    """The position (n,) that a displacement (n,) leads to; near: m, rad of joints."""
    target = told + way
    here = np.linalg.norm(told - measured) <= near
    keeps = np.linalg.norm(target - measured) <= limits.motion.step and limits.workspace.depth([target.tolist()]) <= 0
    return target if here and keeps else measured + way


def turned(turn: np.ndarray, measured: np.ndarray, told: np.ndarray, near: float, limits: MotionLimits) -> np.ndarray:
    """The quaternion (4,) that a rotation (3,) about the fixed axes leads to; near: rad."""
    target = after(to_quaternion(turn), told)
    keeps = apart(told, measured) <= near and apart(target, measured) <= limits.step
    return target if keeps else after(to_quaternion(turn), measured)
