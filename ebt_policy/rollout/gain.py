"""How much thinking gains, and whether it gains more the further the data is from what was trained on.

    base, thought   cross-entropy of the same rows (n,) with the least thinking and with more, nats a token
    gain            100 (1 - exp(mean(thought - base))), the per cent by which perplexity falls
    bits            of a byte of text: sum of losses / (ln 2 * bytes). Tokens of strange text are short and so easy to
                    guess, wherefore texts are compared by bytes and not by tokens
    degree          2^(bits here - bits on held-out text of the training corpus), the ratio of perplexities of a byte
    relation        Spearman's rho between degree and gain, over a few sets of data

Intervals are 95 %, by resampling whole documents, as rows of one document are alike. A relation has two: for these very
sets, how much the documents in them leave open; and for any such sets, which a handful of them leaves nearly open.

Degree and gain should not share their noise: where the same few rows happen to be hard in one step, both rise. A judge,
another model that measures the degree, keeps them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atanh, log, nan, sqrt, tanh

import numpy as np
from scipy.stats import norm, rankdata

from ebt_policy.rollout.stats import percentiles, resampled_means

DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A figure of some rows, and the same of resamples of their documents."""

    value: float
    draws: np.ndarray  # (draws,)

    def told(self) -> dict:
        return {"value": self.value, "interval": list(percentiles(self.draws))}


def known(value: float) -> Estimate:
    """A figure without doubt, such as a noise level."""
    return Estimate(value, np.full(DRAWS, value))


def mean(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Estimate:
    """Of values (n,); estimates of the same groups (n,) and seed are of the same resamples."""
    return Estimate(float(np.mean(values)), resampled_means(values, groups, DRAWS, seed))


def perplexity(loss: np.ndarray, groups: np.ndarray, seed: int = 0) -> Estimate:
    """Of rows with these cross-entropies (n,)."""
    found = mean(loss, groups, seed)
    return Estimate(float(np.exp(found.value)), np.exp(found.draws))


def bits(loss: np.ndarray, size: np.ndarray, groups: np.ndarray, seed: int = 0) -> Estimate:
    """A byte, of rows with these cross-entropies (n,) in all and this many bytes (n,)."""
    nats, length = mean(loss, groups, seed), mean(size, groups, seed)
    return Estimate(nats.value / length.value / log(2), nats.draws / length.draws / log(2))


def gain(base: np.ndarray, thought: np.ndarray, groups: np.ndarray, seed: int = 0) -> Estimate:
    """Per cent of perplexity, of cross-entropies (n,) of the same rows."""
    ratio = perplexity(thought - base, groups, seed)
    return Estimate(100 * (1 - ratio.value), 100 * (1 - ratio.draws))


def degree(here: Estimate, at_home: Estimate) -> Estimate:
    """How far from home, of the bits of a byte here and there."""
    return Estimate(2 ** (here.value - at_home.value), 2 ** (here.draws - at_home.draws))


def relation(degrees: Sequence[Estimate], gains: Sequence[Estimate]) -> dict:
    """Between the degree of sets of data and the gain on them; nan where ranks are all tied, or sets too few."""
    values = [np.array([x.value for x in side]) for side in (degrees, gains)]
    draws = [np.stack([x.draws for x in side], 1) for side in (degrees, gains)]
    rho = float(spearman(*values))
    of_these = percentiles(spearman(*draws))
    return {
        "spearman": rho,
        "sets": len(degrees),
        "interval_of_these_sets": list(of_these),
        "interval_of_any_such_sets": list(rank_interval(rho, len(degrees))),
    }


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation of (..., n) and (..., n) -> (...); nan where either is constant."""
    a, b = (rankdata(side, axis=-1) - (side.shape[-1] + 1) / 2 for side in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def rank_interval(rho: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Of a rank correlation of `count` independent pairs (Bonett and Wright, 2000); nan of fewer than four.

    A perfect order counts as one swap of neighbours short of it, else no doubt would be left however few there are.
    """
    if count < 4 or np.isnan(rho):
        return nan, nan
    most = 1 - 12 / (count * (count**2 - 1))
    z = atanh(min(max(rho, -most), most))
    width = norm.ppf((1 + confidence) / 2) * sqrt((1 + rho**2 / 2) / (count - 3))
    return tanh(z - width), tanh(z + width)
