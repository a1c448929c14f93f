"""Which of a collection is held out of training, and which of that is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ebt_policy.data.episodes import DataError

Item = TypeVar("Item")


def held_out_rows(count: int, share: float) -> np.ndarray:
    """Indices, `share` of `count`, evenly spread, so that both parts cover the whole collection; may be none."""
    return np.linspace(0, count - 1, round(count * share)).astype(int)


def evenly(count: int, at_most: int) -> np.ndarray:
    """Indices of at most so many of `count`, evenly spread, each once."""
    return np.unique(np.linspace(0, count - 1, min(at_most, count)).astype(np.int64))


def split(items: Sequence[Item], share: float, what: str) -> tuple[list[Item], list[Item]]:
    """(training, held out), neither empty; `what` the items are called in the DataError otherwise."""
    rows = set(held_out_rows(len(items), share).tolist())
    if len(rows) in (0, len(items)):
        raise DataError(
            f"validation={share} of {len(items)} {what} holds out {len(rows)}, expected at least one and "
            f"not all: give more {what}, or change the share"
        )
    return [x for i, x in enumerate(items) if i not in rows], [x for i, x in enumerate(items) if i in rows]
