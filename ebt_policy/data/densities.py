"""Densities in a square whose truth is known, to try generative models on: moons, rings and eight Gaussians.

Each is a mixture of equal Gaussians, so that samples and values are exact: isotropic noise around points that lie
along a curve so densely that nobody can tell them from it.

    p(y) = mean over centres c of N(y; c, std^2),   all but 1e-3 of it in [-1, 1]^2
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

DENSE = 200  # centres along a curve


@dataclass(frozen=True)
class Density:
    centres: np.ndarray  # (parts, points, 2); a part is what a model may find or miss as a whole
    std: float = 0.08

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, 2)."""
        centres = self.centres.reshape(-1, 2)
        return centres[rng.integers(len(centres), size=count)] + self.std * rng.standard_normal((count, 2))

    def log_prob(self, y: np.ndarray) -> np.ndarray:
        """Nats at y (n, 2): (n,)."""
        exponent = -0.5 * (self.distances(y) / self.std) ** 2
        highest = exponent.max((1, 2), keepdims=True)
        mean = np.exp(exponent - highest).mean((1, 2))
        return np.log(mean) + highest[:, 0, 0] - math.log(2 * math.pi * self.std**2)

    def distances(self, y: np.ndarray) -> np.ndarray:
        """From y (n, 2) to every centre: (n, parts, points)."""
        return np.linalg.norm(y[:, None, None] - self.centres, axis=-1)


def moons() -> Density:
    """Two half circles, each with an end in the other's opening."""
    angle = np.linspace(0, math.pi, DENSE)
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], axis=1)
    return Density(0.5 * np.stack([upper, -upper]))


def rings() -> Density:
    """Two circles around one centre, as likely as each other."""
    angle = 2 * math.pi * np.arange(DENSE) / DENSE
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Density(np.stack([0.32 * circle, 0.72 * circle]), std=0.06)


def eight_gaussians() -> Density:
    """Eight bumps around a circle."""
    angle = 2 * math.pi * np.arange(8) / 8
    return Density(0.7 * np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None])


DENSITIES = {"moons": moons, "rings": rings, "eight_gaussians": eight_gaussians}


@dataclass(frozen=True)
class Square:
    """Midpoints of n x n equal cells of [-half, half]^2, to integrate over."""

    n: int = 200
    half: float = 1.0

    @property
    def points(self) -> np.ndarray:
        """(n * n, 2); the first coordinate changes slowest."""
        side = self.half * (2 * (np.arange(self.n) + 0.5) / self.n - 1)
        return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)

    def normalise(self, log_density: np.ndarray) -> np.ndarray:
        """Add what makes exp(log_density) (n * n,) integrate to one over the square."""
        highest = log_density.max()
        cell = (2 * self.half / self.n) ** 2
        return log_density - highest - math.log(np.exp(log_density - highest).sum() * cell)

    def kl(self, log_p: np.ndarray, log_q: np.ndarray) -> float:
        """KL(p || q) in nats over the square, of log densities at `points` up to constants."""
        log_p, log_q = self.normalise(log_p), self.normalise(log_q)
        return float((np.exp(log_p) * (log_p - log_q)).sum() * (2 * self.half / self.n) ** 2)
