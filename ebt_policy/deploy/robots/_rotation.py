"""Rotations as arms and policies write them: quaternions xyzw, and vectors along the axis of the length of the angle.

q = (axis * sin(angle / 2), cos(angle / 2))    v = axis * angle
"""

from __future__ import annotations

import numpy as np


def to_quaternion(vector: np.ndarray) -> np.ndarray:
    """v (3,) rad -> q (4,)"""
    vector = np.asarray(vector, np.float64)
    half = np.linalg.norm(vector) / 2
    return np.r_[vector / 2 * np.sinc(half / np.pi), np.cos(half)]


def to_vector(quaternion: np.ndarray) -> np.ndarray:
    """q (4,) of any length but 0 -> v (3,), at most pi long"""
    q = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    q = q if q[3] >= 0 else -q  # the same rotation, the shorter way
    sine = np.linalg.norm(q[:3])
    return 2 * q[:3] if sine < 1e-9 else q[:3] * (2 * np.arctan2(sine, q[3]) / sine)


def after(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The rotation (4,) that turns by `first` and then, about the fixed axes, by `second`."""
    (a, b, c, w), (x, y, z, v) = second, first
    vector = w * x + v * a + b * z - c * y, w * y + v * b + c * x - a * z, w * z + v * c + a * y - b * x
    return np.array([*vector, w * v - a * x - b * y - c * z])


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """rad between two unit quaternions (4,)"""
    return float(np.linalg.norm(to_vector(after(a, np.r_[-b[:3], b[3]]))))
