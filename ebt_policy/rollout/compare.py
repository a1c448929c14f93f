"""Whether policies differ: tests on shared initial states, corrected for how many are made, and shown as letters.

    S  training runs of one method    n  initial states, shared by all runs of all methods    D  draws

A bootstrap draws the initial states anew, the same for both methods, and the training runs: of S runs it draws S - 1,
which makes its variance that between runs (Rao and Wu, 1988). It does so for each method apart, or together where both
are ways to act of the same training runs: what a run is good or bad at then is in both, and not in their difference.
Successes have two initial states added, one that only the one method wins and one that only the other does (Bonett and
Price, 2012): without them methods that never differed would differ with certainty by nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

FREE = ("commit",)  # of the versions: hashes and seeds say what was run
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # weights (D, n), values (n, ...) -> (D,)


@dataclass(frozen=True)
class Paired:
    """Two policies on the same initial states: only the states where one succeeds and the other fails tell of them."""

    both: int
    only_one: int
    only_other: int
    neither: int
    p: float  # of the exact McNemar test, two-sided: a fair coin for each state on which they differ

    @property
    def difference(self) -> float:
        """Success rate of the one less that of the other."""
        return (self.only_one - self.only_other) / (self.both + self.only_one + self.only_other + self.neither)


def paired(one: Sequence[bool], other: Sequence[bool]) -> Paired:
    """Successes (n,) of two policies, state by state. ValueError unless there are as many of both, and some."""
    if len(one) != len(other) or not len(one):
        raise ValueError(f"expected outcomes on the same initial states, got {len(one)} and {len(other)}")
    a, b = np.asarray(one, dtype=bool), np.asarray(other, dtype=bool)
    table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
    return Paired(*table[0], *table[1], p=float(mcnemar(table, exact=True).pvalue))


@dataclass(frozen=True)
class Difference:
    """Of two methods on n shared initial states, with the ends of its 95 % interval."""

    estimate: float
    low: float
    high: float
    of_episodes: float  # width of the interval if the training runs were these and no others
    p: float  # two-sided, that there is none
    n: int


def mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1)


def difference(
    one: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    statistic: Statistic = mean,
    draws: int = 10_000,
    same_runs: bool = False,
) -> Difference:
    """Bootstrap of a statistic, averaged over training runs: values (n, ...) of S runs less those of S' others, or of
    the same ones in the same order.
    """
    sides = [[np.asarray(run) for run in side] for side in (one, other)]
    counts = {len(run) for side in sides for run in side}
    if len(counts) != 1 or not min(map(len, sides)):
        raise ValueError(f"expected values on the same initial states, got {sorted(counts)}")
    if same_runs and len(sides[0]) != len(sides[1]):
        raise ValueError(f"expected the same training runs on both sides, got {len(sides[0])} and {len(sides[1])}")
    n, rng = counts.pop(), np.random.default_rng(0)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws)
    drawn = [np.stack([statistic(weights, run) for run in side], axis=1) for side in sides]  # (D, S)
    here = [np.mean([statistic(np.ones((1, n)), run) for run in side]) for side in sides]
    if same_runs:
        whole = _runs_drawn(drawn[0] - drawn[1], rng)
    else:
        whole = _runs_drawn(drawn[0], rng) - _runs_drawn(drawn[1], rng)
    low, high = np.nanpercentile(whole, [2.5, 97.5])
    inner = np.nanpercentile(drawn[0].mean(1) - drawn[1].mean(1), [2.5, 97.5])
    p = 2 * min(np.mean(whole <= 0), np.mean(whole >= 0))
    p = float(np.clip(p, 1 / draws, 1))
    return Difference(float(here[0] - here[1]), float(low), float(high), float(inner[1] - inner[0]), p, n)


def success_difference(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], draws: int = 10_000, same_runs: bool = False
) -> Difference:
    """Of success rates: outcomes (n,) of S and of S' training runs; exact McNemar p where each is a single run."""
    padded = [[*run, 1, 0] for run in one], [[*run, 0, 1] for run in other]
    found = difference(*padded, draws=draws, same_runs=same_runs)
    here = float(np.mean(one) - np.mean(other))
    single = len(one) == len(other) == 1
    p = paired(one[0], other[0]).p if single else found.p
    return replace(found, estimate=here, n=len(one[0]), p=p)


def _runs_drawn(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """values (D, S) -> (D,): means over S - 1 of the runs, drawn anew for each draw."""
    draws, runs = values.shape
    return np.take_along_axis(values, rng.integers(runs, size=(draws, max(runs - 1, 1))), axis=1).mean(1)


def refuse_unlike(one: Mapping, other: Mapping, expected: str) -> None:
    """ValueError that names the facts in which two results differ."""
    unlike = sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
    if unlike:
        words = "; ".join(f"{k} {_short(one.get(k))} and {_short(other.get(k))}" for k in unlike)
        raise ValueError(f"expected {expected}, got {words}: run both again with the same settings")


def facts(result: dict) -> dict:
    """Of an evaluation: what must be the same for two methods to be compared by it."""
    versions = {k: v for k, v in result["versions"].items() if k not in FREE}
    return result["run"] | versions | {"seeds": result["seeds"]}


def holm(p: Sequence[float]) -> list[float]:
    """p values -> p values that may be held against one level together: no more false alarms than one test has."""
    return multipletests(p, method="holm")[1].tolist() if len(p) else []


def letters(names: Sequence[str], different: Collection[tuple[str, str]]) -> dict[str, str]:
    """Compact letter display: two names share a letter unless they are `different` (Piepho 2004, insert and absorb).

    The letters come in the order of `names`, so give the best first.
    """
    columns = [set(names)]
    for pair in different:
        if unknown := set(pair) - set(names):
            raise ValueError(f"expected pairs of {', '.join(names)}, got {', '.join(sorted(unknown))}")
        split = [column - {name} for column in columns if set(pair) <= column for name in pair]
        columns = [column for column in columns if not set(pair) <= column] + split
        columns = [
            c for i, c in enumerate(columns) if not any(c < d or (c == d and j < i) for j, d in enumerate(columns))
        ]
    columns.sort(key=lambda column: sorted(names.index(name) for name in column))
    return {name: "".join(_letter(i) for i, column in enumerate(columns) if name in column) for name in names}


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"


def _letter(i: int) -> str:
    """a to z, then a1, b1, ..."""
    return chr(ord("a") + i % 26) + (str(i // 26) if i >= 26 else "")
