"""How many episodes it takes to see a difference between two success rates, before they are run.

    psi  share of initial states on which the two policies differ    m  their number, binomial in n and psi

Unpaired: the normal approximation for two proportions. Paired: the exact power of the exact McNemar test,

    power(n) = sum over m of P(m) P(test rejects | m),    psi = p (1 - q) + q (1 - p) - 2 c,

with c = correlation sqrt(p (1 - p) q (1 - q)): the more policies fail on the same states, the fewer episodes it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom
from statsmodels.stats.proportion import power_proportions_2indep

MOST = 100_000  # episodes: nobody runs more


@dataclass(frozen=True)
class SampleSize:
    """Episodes for each of two policies."""

    rate: float
    difference: float
    power: float
    alpha: float
    paired: int  # on shared initial states
    unpaired: int  # on initial states of their own

    def __str__(self) -> str:
        return (
            f"to see a difference of {100 * self.difference:.3g} points at {self.rate:.3g} with "
            f"{100 * self.power:.3g} % power (level {self.alpha:.3g}, two-sided) you need n = {self.paired} initial "
            f"states shared by both policies, or {self.unpaired} of each one's own"
        )


def sample_size(
    rate: float, difference: float, power: float = 0.8, alpha: float = 0.05, correlation: float = 0.0
) -> SampleSize:
    """Episodes to tell success rates `rate` and `rate + difference` apart.

    correlation: of the two policies' successes over initial states; 0 if they fail independently of each other.
    """
    other = rate + difference
    if not (0 < rate < 1 and 0 < other < 1 and difference):
        raise ValueError(f"expected two different rates between 0 and 1, got {rate:g} and {other:g}")
    if not (0 < alpha < power < 1):
        raise ValueError(f"expected 0 < alpha < power < 1, got alpha {alpha:g}, power {power:g}")
    paired = _smallest(lambda n: paired_power(n, rate, other, alpha, correlation), power)
    return SampleSize(rate, difference, power, alpha, paired, _unpaired(rate, difference, power, alpha))


def paired_power(n: int, rate: float, other: float, alpha: float = 0.05, correlation: float = 0.0) -> float:
    """Probability that the exact McNemar test on n shared initial states rejects."""
    both = rate * other + correlation * sqrt(rate * (1 - rate) * other * (1 - other))
    only_one, only_other = rate - both, other - both
    if min(only_one, only_other, both, 1 - rate - other + both) < -1e-12:
        raise ValueError(f"success rates {rate:g} and {other:g} cannot have a correlation of {correlation:g}")
    psi = max(only_one, 0.0) + max(only_other, 0.0)
    m = np.arange(n + 1)
    critical = binom.ppf(alpha / 2, m, 0.5)  # smallest k with P(X <= k) >= alpha / 2
    critical -= binom.cdf(critical, m, 0.5) > alpha / 2  # largest with P(X <= k) <= alpha / 2, or -1
    share = max(only_one, 0.0) / psi
    rejects = binom.cdf(critical, m, share) + binom.sf(m - critical - 1, m, share)
    return float(binom.pmf(m, n, psi) @ rejects)


def to_decide(n: int, width: float, of_episodes: float, margin: float) -> int | None:
    """Initial states after which an interval is narrower than `margin`; None if no number of them makes it so.

    n: initial states that gave an interval of `width`. of_episodes: what its width would be if the training runs were
    these and no others; that part falls as 1 / sqrt(n), the rest stays, and the squares of both add up.
    """
    stays = max(width**2 - of_episodes**2, 0.0)
    return None if stays >= margin**2 else ceil(n * of_episodes**2 / (margin**2 - stays))


def _smallest(power_of, power: float) -> int:
    """Power grows with n but for small teeth: the first n from which a bisection finds it reached."""
    low, high = 1, 2
    while power_of(high) < power:
        low, high = high, 2 * high
        if low >= MOST:
            raise ValueError(f"more than {MOST} episodes would be needed: look for a larger difference")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def _unpaired(rate: float, difference: float, power: float, alpha: float) -> int:
    def short(n: float) -> float:
        return power_proportions_2indep(difference, rate, n, alpha=alpha, return_results=False) - power

    if short(MOST) < 0:
        raise ValueError(f"more than {MOST} episodes would be needed: look for a larger difference")
    return ceil(brentq(short, 2, MOST))
