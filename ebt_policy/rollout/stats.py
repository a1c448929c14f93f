"""How sure a number of successes makes us of a success rate, and a sample of its mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta


def success_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson: covers the true rate with at least `confidence`, whatever the rate."""
    if not 0 <= successes <= episodes or episodes < 1:
        raise ValueError(f"expected 0 <= successes <= episodes and episodes >= 1, got {successes} of {episodes}")
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, episodes - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, episodes - successes) if successes < episodes else 1.0
    return float(low), float(high)


def bootstrap_interval(values: Sequence[float], confidence: float = 0.95, draws: int = 2000) -> tuple[float, float]:
    """Of the mean of values (n,): percentiles of the means of resamples, always the same ones."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("expected at least one value, got none")
    rows = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[rows].mean(1), [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


@dataclass(frozen=True)
class SuccessRate:
    """k successes in n episodes; prints as `49/50 = 98 % [89, 100]`."""

    successes: int
    episodes: int
    confidence: float = 0.95

    @property
    def rate(self) -> float:
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        return success_interval(self.successes, self.episodes, self.confidence)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.successes}/{self.episodes} = {100 * self.rate:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
