"""Motion within limits that can always be stopped within them.

    v velocity (n,)    d its change in one tick    k tick

A velocity is allowed only if from it a braking motion leads to rest, every tick of which keeps all limits and which
nobody objects to. The rest of that motion is what follows when no further velocity is allowed: there is always a way
out, found before it is needed. Whatever lies between the wish and the way out is tried, so an arm slows down towards
a limit instead of being stopped at it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ebt_policy import bounds

Vector = list[float]  # plain floats: at three to seven dimensions several times faster than arrays

SLACK = 1e-9
BRAKING_TICKS = 400  # more means that limits and rate do not fit
TRIALS = 5  # halvings between the wish and the way out


class LimitsError(ValueError):
    """Limits that are missing, contradict themselves or do not fit the robot; the message says which."""


@dataclass(frozen=True)
class MotionLimits:
    """Per second, of the length of the vector; rad instead of m for rotations and joints."""

    step: float  # m, from the measured position to where a command may send the arm
    velocity: float  # m/s
    acceleration: float  # m/s^2
    jerk: float  # m/s^3

    def __post_init__(self):
        bounds.number("step", self.step, "(0, 1000]", LimitsError)
        for name in ("velocity", "acceleration", "jerk"):
            bounds.number(name, getattr(self, name), "(0, inf)", LimitsError)


class Glide:
    """A velocity that follows wishes as far as its limits let it. At rest when new."""

    def __init__(self, size: int, limits: MotionLimits, dt: float, axis: float = math.inf):
        """dt: s between ticks; axis: what no single component of the velocity may exceed."""
        self.fastest, self.axis = min(limits.velocity, limits.step / dt), axis
        self.change, self.bend = limits.acceleration * dt, limits.jerk * dt * dt
        self.size = size
        self.rest()

    def rest(self) -> None:
        """Forget all motion: what follows starts from a standstill."""
        self.v, self.d = [0.0] * self.size, [0.0] * self.size

    @property
    def moving(self) -> bool:
        return any(self.v) or any(self.d)

    def follow(self, wish: Vector, allowed: Callable[[list[Vector]], bool]) -> Vector | None:
        """The velocity of the next tick, or None if not even braking is allowed; then nothing has changed.

        allowed: says whether velocities of successive ticks, the last of them zero, may be driven.
        """
        out = self._braked(self.v, self.d)
        aim = self._reachable(wish, out)
        if (v := self._accept(aim, allowed)) is not None:
            return v
        low, high, best = 0.0, 1.0, None
        for _ in range(TRIALS):
            middle = (low + high) / 2
            path = self._path([o + middle * (a - o) for o, a in zip(out, aim, strict=True)])
            if path is not None and allowed(path):
                low, best = middle, path
            else:
                high = middle
        if best is not None:
            return self._take(best[0])
        return self._accept(out, allowed)

    def brake(self) -> Vector:
        """The velocity of the next tick on the way out that the last one was allowed with."""
        return self._take(self._braked(self.v, self.d))

    def _accept(self, v: Vector, allowed: Callable[[list[Vector]], bool]) -> Vector | None:
        path = self._path(v)
        return self._take(v) if path is not None and allowed(path) else None

    def _take(self, v: Vector) -> Vector:
        self.d = [a - b for a, b in zip(v, self.v, strict=True)]
        self.v = v
        return v

    def _reachable(self, wish: Vector, out: Vector) -> Vector:
        """The wish as far as velocity, acceleration and jerk let it come true in one tick."""
        aim = _shorten([min(max(w, -self.axis), self.axis) for w in wish], self.fastest)
        d = [a - v for a, v in zip(aim, self.v, strict=True)]
        d = _near(self.d, d, self.bend)
        aim = [v + x for v, x in zip(self.v, _shorten(d, self.change), strict=True)]
        if self._fits(aim, self.v, self.d):
            return aim
        for share in (0.75, 0.5, 0.25):  # one limit undid what another asked for: towards the way out, which keeps all
            between = [o + share * (a - o) for o, a in zip(out, aim, strict=True)]
            if self._fits(between, self.v, self.d):
                return between
        return out

    def _path(self, v: Vector) -> list[Vector] | None:
        """v and the braking after it, down to zero; None if that breaks a limit or does not end."""
        last, change, path = self.v, self.d, []
        while self._fits(v, last, change):
            path.append(v)
            last, change = v, [a - b for a, b in zip(v, last, strict=True)]
            if not any(v) and math.hypot(*change) <= self.bend:
                return path
            if len(path) > BRAKING_TICKS:
                return None
            v = self._braked(last, change)
        return None

    def _braked(self, v: Vector, d: Vector) -> Vector:
        """The next velocity on the way to rest: changes that grow to their limit and shrink again to land on zero."""
        speed = math.hypot(*v)
        if speed <= SLACK:
            change = _near(d, [-x for x in v], self.bend)
        else:
            ticks = max(1, math.ceil((math.sqrt(1 + 8 * speed / self.bend) - 1) / 2 - SLACK))
            size = min(2 * speed / (ticks + 1), self.change)
            change = _near(d, [-size * x / speed for x in v], self.bend)
        v = [a + b for a, b in zip(v, _shorten(change, self.change), strict=True)]
        return v if math.hypot(*v) > SLACK else [0.0] * len(v)

    def _fits(self, v: Vector, last: Vector, change: Vector) -> bool:
        d = [a - b for a, b in zip(v, last, strict=True)]
        return (
            math.hypot(*v) <= self.fastest + SLACK
            and max(map(abs, v)) <= self.axis + SLACK
            and math.hypot(*d) <= self.change + SLACK
            and math.dist(d, change) <= self.bend + SLACK
        )


def _shorten(v: Vector, length: float) -> Vector:
    size = math.hypot(*v)
    return v if size <= length else [x * length / size for x in v]


def _near(centre: Vector, v: Vector, radius: float) -> Vector:
    """The point of a ball around `centre` that is closest to v."""
    size = math.dist(centre, v)
    return v if size <= radius else [c + (x - c) * radius / size for c, x in zip(centre, v, strict=True)]
