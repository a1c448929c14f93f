"""Where pushes of a round, frictionless tool take a block that stays where it is left, for many pushes at a time.

The block resists with a drag f on its centre and f r^2 on its turning, r^2 being the mean squared distance of its area
from the centre. A tool that has sunk into it by d along the unit vector n, with lever arm l, therefore moves it by
a n and turns it by a l / r^2 where a = d / (1 + l^2 / r^2): the least motion by which they part.

Points and directions are complex numbers, x + iy, in arrays of any one shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Block:
    """Rectangles that do not overlap, around the common centre of their areas."""

    centres: np.ndarray  # (R,) complex m
    halves: np.ndarray  # (R,) complex m, half of width and height

    @property
    def spread(self) -> float:
        """r^2, m^2."""
        areas = self.halves.real * self.halves.imag
        own = np.abs(self.halves) ** 2 / 3
        return float(areas @ (np.abs(self.centres) ** 2 + own) / areas.sum())

    def nearest(self, point: np.ndarray, part: int) -> np.ndarray:
        """The point of one rectangle that is nearest to `point`, both in the block's frame."""
        centre, half = self.centres[part], self.halves[part]
        way = point - centre
        return centre + np.clip(way.real, -half.real, half.real) + 1j * np.clip(way.imag, -half.imag, half.imag)

    def distance(self, point: np.ndarray) -> np.ndarray:
        """m from the block; 0 inside."""
        return np.minimum.reduce([abs(point - self.nearest(point, part)) for part in range(len(self.centres))])


@dataclass(frozen=True)
class Pose:
    """Of a block, or of many."""

    at: np.ndarray  # complex m
    turn: np.ndarray  # complex, of length 1

    def inside(self, point: np.ndarray) -> np.ndarray:
        """A point of the table in the block's frame."""
        return (point - self.at) * np.conj(self.turn)

    def outside(self, point: np.ndarray) -> np.ndarray:
        """A point in the block's frame on the table."""
        return self.at + self.turn * point


def push(block: Block, pose: Pose, tool: np.ndarray, radius: float) -> Pose:
    """Where a block is after a tool of `radius` m has come to `tool`, a little way from where it last touched."""
    for part in range(len(block.centres)):
        seen = pose.inside(tool)
        contact = block.nearest(seen, part)
        gap = contact - seen
        length = np.maximum(abs(gap), 1e-9)
        normal = gap / length
        lever = contact.real * normal.imag - contact.imag * normal.real
        moved = np.maximum(radius - length, 0) / (1 + lever**2 / block.spread)
        pose = Pose(pose.at + pose.turn * normal * moved, pose.turn * np.exp(1j * moved * lever / block.spread))
    return pose
