"""Power laws of losses: how steeply a loss falls with size, how sure that is, and whether two methods differ in it.

    loss = scale * x^-exponent        least squares of log loss on log x, one point for each x: its seeds are averaged

A curve that bends moves all seeds of an x together; counted as points of their own they make 95 % intervals that cover
70 % (3 seeds, a bend of twice the noise). Intervals are studentised bootstraps over the residuals (Davison and
Hinkley, 1997, 6.2), which cover 92 to 96 % with 4 to 6 values of x, where plain percentiles cover 80 to 88 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import f as f_distribution

FEWEST = 4  # values of x for an interval: the residuals of three hold one number, and say nothing of its spread
CONFIDENCE = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True)
class PowerLaw:
    x: np.ndarray  # (n,) increasing
    loss: np.ndarray  # (n,) geometric means over seeds

    @classmethod
    def of(cls, x: Sequence[float], loss: Sequence[float]) -> PowerLaw:
        """Of cells with size x (m,) and loss (m,); seeds of one size have the same x.

        ValueError unless all are positive and there are two sizes or more.
        """
        x, loss = np.asarray(x, dtype=float), np.asarray(loss, dtype=float)
        if not ((x > 0).all() and (loss > 0).all() and np.isfinite([x, loss]).all()):
            raise ValueError(f"expected positive sizes and losses, got {x.tolist()} and {loss.tolist()}")
        sizes = np.unique(x)
        if len(sizes) < 2:
            raise ValueError(
                f"a power law takes two sizes or more, got {sizes.tolist()}: give other values of the axis"
            )
        return cls(sizes, np.exp([np.log(loss[x == size]).mean() for size in sizes]))

    @property
    def exponent(self) -> float:
        return float(-self._line.slope)

    @property
    def scale(self) -> float:
        return float(np.exp(self._line.height(np.zeros(1))[0]))

    @property
    def interval(self) -> Interval | None:
        """Of the exponent; None of fewer than four sizes."""
        if len(self.x) < FEWEST:
            return None
        low, high = _studentised(self._line.slope, self._line.slope_error, *_slopes(self._line.redrawn()))
        return float(-high), float(-low)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Loss (k,) at sizes x (k,)."""
        return np.exp(self._line.height(np.log(x)))

    def band(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Interval of the law itself, size by size, at x (k,): 2 x (k,); None of fewer than four sizes."""
        if len(self.x) < FEWEST:
            return None
        at, line, again = np.log(x), self._line, self._line.redrawn()
        limits = _studentised(line.height(at), line.height_error(at), again.height(at), again.height_error(at))
        return tuple(map(np.exp, limits))

    @property
    def _line(self) -> _Line:
        return _Line(np.log(self.x), np.log(self.loss))


@dataclass(frozen=True)
class Difference:
    """Of the exponents of two methods, whose sizes need not be the same ones."""

    exponent: float  # the one's less the other's
    interval: Interval | None

    @classmethod
    def of(cls, one: PowerLaw, other: PowerLaw) -> Difference:
        exponent = one.exponent - other.exponent
        if min(len(one.x), len(other.x)) < FEWEST:
            return cls(exponent, None)
        a, b = one._line, other._line
        (a_again, a_errors), (b_again, b_errors) = _slopes(a.redrawn(stream=1)), _slopes(b.redrawn(stream=2))
        error, errors = np.hypot(a.slope_error, b.slope_error), np.hypot(a_errors, b_errors)
        low, high = _studentised(b.slope - a.slope, error, b_again - a_again, errors)
        return cls(exponent, (float(low), float(high)))

    def __str__(self) -> str:
        if self.interval is None:
            return f"not distinguishable with this many cells: fewer than {FEWEST} sizes give no interval"
        low, high = self.interval
        verdict = "not distinguishable with this many cells" if low <= 0 <= high else "differ"
        return f"{verdict}: by {self.exponent:.3g} [{low:.3g}, {high:.3g}]"


@dataclass(frozen=True)
class Floor:
    """The loss that no size gets below, if a curve shows it: loss = scale * x^-exponent + value."""

    value: float | None  # None: not identified
    exponent: float | None  # above the floor
    p: float | None  # that a law without a floor leaves residuals as much larger

    @classmethod
    def of(cls, law: PowerLaw) -> Floor:
        """A floor and a smaller exponent look alike over few sizes, so it takes an F test to tell them apart."""
        x, loss, n = np.log(law.x), np.log(law.loss), len(law.x)
        if n < FEWEST:
            return cls(None, None, None)

        def residuals(parameters: np.ndarray) -> np.ndarray:
            return np.logaddexp(parameters[0] - parameters[1] * x, np.log(parameters[2])) - loss

        lowest = law.loss.min()
        above = _Line(x, np.log(law.loss - lowest / 2))
        start = [above.height(np.zeros(1))[0], -above.slope, lowest / 2]
        found = least_squares(residuals, start, bounds=([-np.inf, -np.inf, 1e-9 * lowest], [np.inf, np.inf, lowest]))
        plain = (law._line.residuals**2).sum()
        p = float(f_distribution.sf(max(plain / (2 * found.cost) - 1, 0.0) * (n - 3), 1, n - 3))
        return cls(float(found.x[2]), float(found.x[1]), p) if p < 1 - CONFIDENCE else cls(None, None, p)

    def __str__(self) -> str:
        if self.p is None:
            return f"no floor can be told from a smaller exponent with fewer than {FEWEST} sizes"
        if self.value is None:
            return f"no floor: it would explain no more than chance does (F test, p = {self.p:.2g})"
        return f"floor {self.value:.3g}, exponent above it {self.exponent:.3g} (F test, p = {self.p:.2g})"


class _Line:
    """Least squares of y (..., n) on x (n,), for many y at once."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y = x, y
        self.centred = x - x.mean()
        self.square = (self.centred**2).sum()
        self.mean, self.slope = y.mean(-1), y @ self.centred / self.square
        self.residuals = y - self.height(x)
        degrees = max(len(x) - 2, 1)
        self.noise = np.sqrt((self.residuals**2).sum(-1) / degrees)  # (...)

    @property
    def slope_error(self) -> np.ndarray:
        return self.noise / np.sqrt(self.square)

    def height(self, at: np.ndarray) -> np.ndarray:
        """(..., k) at `at` (k,)."""
        return self.mean[..., None] + self.slope[..., None] * (at - self.x.mean())

    def height_error(self, at: np.ndarray) -> np.ndarray:
        return self.noise[..., None] * np.sqrt(1 / len(self.x) + (at - self.x.mean()) ** 2 / self.square)

    def redrawn(self, draws: int = 4000, stream: int = 0) -> _Line:
        """The line's own points again, `draws` times, each with residuals drawn from all; always the same draws."""
        n = len(self.x)
        leverage = 1 / n + self.centred**2 / self.square
        residuals = self.residuals / np.sqrt(1 - leverage)
        residuals = residuals - residuals.mean()
        index = np.random.default_rng(stream).integers(n, size=(draws, n))
        return _Line(self.x, self.height(self.x) + residuals[index])


def _slopes(line: _Line) -> tuple[np.ndarray, np.ndarray]:
    return line.slope, line.slope_error


def _studentised(estimate, error, again, errors) -> tuple[np.ndarray, np.ndarray]:
    """Limits (...) from an estimate (...), its redrawn values (draws, ...) and the standard errors of all."""
    told = errors > 1e-6 * error  # where all residuals drawn are the same one, nothing is left to divide by
    t = np.where(told, (again - estimate) / np.where(told, errors, 1.0), np.nan)
    low, high = np.nanquantile(t, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return estimate - high * error, estimate - low * error
