"""The range of each dimension of some numbers, also when a few of them are wrong.

A sensor that said 1,000 once must not press everything else of its dimension into a thousandth of [-1, 1].
N  steps    D  dimensions of one array, flattened
"""

from __future__ import annotations

import numpy as np

from ebt_policy.data.episodes import IMAGE_RANK, is_image

EDGE = 0.005  # share of the numbers at each end that may be outliers
FAR = 10.0  # times the range of all others: what lies so far from their middle is one
NARROW = 0.01  # a range below this counts as this: who was still and moves a little is no outlier
SAMPLE = 10_000_000  # numbers of an image that are looked at, or some more
CONSTANT = 1e-6  # beside what never moves nothing is an outlier: a switch may be thrown rarely


def full_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of values (N, *shape) in every dimension, (*shape) float64."""
    return values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)


def robust_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same without outliers. An image has one range for all of it, 0 to 255 if it is made of bytes; bytes that are
    nothing but 0 and 1 are a mask."""
    if is_image(values) and values.max(initial=0) > 1:
        return np.array(0.0), np.array(255.0)
    if values.ndim > IMAGE_RANK:
        sample = values[:: max(1, values.size // SAMPLE)].reshape(-1, 1)
        return tuple(edge[0] for edge in robust_range(sample))
    inside = np.where(outliers(values), np.nan, values.astype(np.float64))
    return np.nanmin(inside, axis=0), np.nanmax(inside, axis=0)


def outliers(values: np.ndarray) -> np.ndarray:
    """(N, *shape) bool: what lies further than FAR ranges from the middle of its dimension without its ends."""
    count = len(values)
    cut = max(1, int(EDGE * count))
    if count <= 2 * cut + 1:
        return np.zeros(values.shape, bool)
    ends = (cut, count - 1 - cut)
    low, high = np.partition(values, ends, axis=0)[list(ends)].astype(np.float64)
    far = np.where(high - low > CONSTANT, FAR * np.maximum(high - low, NARROW), np.inf)
    return np.abs(values - (low + high) / 2) > far
