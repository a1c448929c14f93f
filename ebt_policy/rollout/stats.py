"""How sure a sample makes us of a success rate or a mean, and how much of a rate is owed to one training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from scipy.special import betaincinv, betaln, xlog1py, xlogy  # scipy.stats takes a second longer to import


def success_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson: covers the true rate with at least `confidence`, whatever the rate; (0, 1) of no episodes."""
    if not 0 <= successes <= episodes:
        raise ValueError(f"expected 0 <= successes <= episodes, got {successes} of {episodes}")
    tail = (1 - confidence) / 2
    low = betaincinv(successes, episodes - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, episodes - successes, 1 - tail) if successes < episodes else 1.0
    return float(low), float(high)


def bootstrap_interval(values: Sequence[float], confidence: float = 0.95, draws: int = 2000) -> tuple[float, float]:
    """Of the mean of values (n,): percentiles of the means of resamples, always the same ones."""
    return percentiles(resampled_means(values, draws=draws), confidence)


def resampled_means(
    values: Sequence[float], groups: Sequence[int] | None = None, draws: int = 2000, seed: int = 0
) -> np.ndarray:
    """Means (draws,) of resamples of values (n,), or of whole groups (n,) of them, which then are what was sampled."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("expected at least one value, got none")
    _, group = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    rows = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    return sums[rows].sum(1) / counts[rows].sum(1)


def percentiles(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The interval that holds the middle of draws (n,)."""
    low, high = np.percentile(draws, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


@dataclass(frozen=True)
class SuccessRate:
    """k successes in n episodes; prints as `49/50 = 98 % [89, 100]`."""

    successes: int
    episodes: int
    confidence: float = 0.95

    @property
    def rate(self) -> float:
        """nan of no episodes."""
        return self.successes / self.episodes if self.episodes else nan

    def posterior(self, rates: np.ndarray) -> np.ndarray:
        """Density (n,) at success rates (n,), from a uniform prior: Beta(successes + 1, failures + 1)."""
        k, n = self.successes, self.episodes
        return np.exp(xlogy(k, rates) + xlog1py(n - k, -rates) - betaln(k + 1, n - k + 1))

    @property
    def interval(self) -> tuple[float, float]:
        return success_interval(self.successes, self.episodes, self.confidence)

    def __str__(self) -> str:
        low, high = self.interval
        rate = f"{100 * self.rate:.0f} %" if self.episodes else "unknown"
        return f"{self.successes}/{self.episodes} = {rate} [{100 * low:.0f}, {100 * high:.0f}]"


@dataclass(frozen=True)
class Spread:
    """Success over several training runs of one method: what comes of the training seed, and what of the episodes.

    The variance of the observed rates holds both, so `between` has the sampling error of the episodes taken out of it.
    All runs are measured on as many episodes as one another.
    """

    rate: float  # mean over the training seeds
    between: float  # standard deviation of the true rate from seed to seed; 0 where sampling explains all, nan of one
    within: float  # standard error of one seed's rate, of its episodes alone
    seeds: int
    episodes: int  # of each seed

    @classmethod
    def of(cls, runs: Sequence[SuccessRate]) -> Spread:
        if len({run.episodes for run in runs}) != 1 or runs[0].episodes < 2:
            counts = [run.episodes for run in runs]
            raise ValueError(f"expected training runs with as many episodes each, two or more, got {counts}")
        rates, episodes = np.array([run.rate for run in runs]), runs[0].episodes
        sampling = float(np.mean(rates * (1 - rates))) / (episodes - 1)  # unbiased for p (1 - p) / episodes
        between = sqrt(max(float(rates.var(ddof=1)) - sampling, 0.0)) if len(runs) > 1 else nan
        return cls(float(rates.mean()), between, sqrt(sampling), len(runs), episodes)

    def __str__(self) -> str:
        between = "unknown" if self.seeds == 1 else f"{100 * self.between:.1f}"
        return (
            f"{100 * self.rate:.1f} %; standard deviation {between} over {self.seeds} training seeds, "
            f"{100 * self.within:.1f} over {self.episodes} episodes"
        )
