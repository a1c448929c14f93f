"""What figures say of a claim: the one rule that every hypothesis is judged by.

    d  difference of one to the other, with its 95 % interval [low, high]   m  margin, the least difference that matters

    claim        supported if    not supported if
    better       low > 0         high < m
    not worse    low > -m        high < 0

In this order; what is neither is underpowered. An interval narrower than m always decides.
A hypothesis is all of its claims: one that is not supported refutes it, else one that is not run leaves it open, else
one that is underpowered. Being supported takes all, so no claim is corrected for the number of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

SUPPORTED, NOT_SUPPORTED, UNDERPOWERED, NOT_RUN = "supported", "not supported", "underpowered", "not run"
ORDER = (NOT_SUPPORTED, NOT_RUN, UNDERPOWERED, SUPPORTED)
CLAIMS = ("better", "not worse")


def bound(claim: str, margin: float) -> float:
    """What the difference is claimed to be above."""
    if claim not in CLAIMS or margin <= 0:
        raise ValueError(f"expected a claim of {', '.join(CLAIMS)} and a margin above 0, got {claim!r} and {margin}")
    return 0.0 if claim == "better" else -margin


def verdict(claim: str, margin: float, interval: tuple[float, float] | None) -> str:
    """Of one claim; None: there are no figures."""
    limit = bound(claim, margin)
    if interval is None:
        return NOT_RUN
    low, high = interval
    if low > limit:
        return SUPPORTED
    return NOT_SUPPORTED if high < limit + margin else UNDERPOWERED


def combined(verdicts: Sequence[str]) -> str:
    """Of a hypothesis, from those of its claims."""
    return min(verdicts, key=ORDER.index, default=NOT_RUN)
