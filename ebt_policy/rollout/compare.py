"""Whether policies differ: tests on shared initial states, corrected for how many are made, and shown as letters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests


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


def _letter(i: int) -> str:
    """a to z, then a1, b1, ..."""
    return chr(ord("a") + i % 26) + (str(i // 26) if i >= 26 else "")
