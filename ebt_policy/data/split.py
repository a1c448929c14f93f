"""Which of a collection is held out of training."""

from __future__ import annotations

import numpy as np


def held_out_rows(count: int, share: float) -> np.ndarray:
    """Indices, `share` of `count`, evenly spread, so that both parts cover the whole collection; may be none."""
    return np.linspace(0, count - 1, round(count * share)).astype(int)
