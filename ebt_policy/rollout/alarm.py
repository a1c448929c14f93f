"""Does a signal foretell failure? How it ranks episodes, and an alarm with a promised rate of false ones.

    E  episodes    C  chunks of the longest one    values (E, C): a signal, NaN where there is none (any more)

    score    of an episode after chunk c: the maximum of its values up to c
    AUROC    P(a failure scores higher than a success) + P(both the same) / 2; 0.5 says nothing, less: low values warn
    AUPRC    mean over the failures of the precision at their score; the share of failures says nothing
    phase    (value - median) / (quartile range) of the values that other successes have at the same chunk
    alarm    at the first score above the k-th smallest of n successes' scores, k = ceil((n + 1) (1 - alpha)):
             P(alarm | another episode that succeeds) <= alpha, whatever the signal (split conformal prediction)

A maximum over more chunks is greater, and failures last until time is up: over whole episodes a clock ranks them
perfectly. So rankings are over `equal_time` as well: over as many chunks as the shortest episode has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from scipy import stats

from ebt_policy.rollout.stats import SuccessRate

LEAST = 5  # successes that make a phase; later chunks count to the last phase
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]


def foretelling(episodes: Sequence[Mapping[str, Any]], alpha: float = 0.1, resamples: int = 1000) -> dict[str, dict]:
    """Signal -> how well it foretells failure, JSON-compatible; ValueError if there is too little to learn from.

    episodes: success, length and signals as in EpisodeLog; every chunk has `elapsed` among its signals.
    alpha: promised rate of alarms in episodes that succeed.
    """
    success = np.array([bool(episode["success"]) for episode in episodes])
    _check(success, alpha)
    length = np.array([episode["length"] for episode in episodes])
    signals = per_chunk(episodes)
    left = length[:, None] - signals["elapsed"]  # control steps
    shortest = np.isfinite(signals["elapsed"]).sum(1).min()
    rows = {}
    for name, values in signals.items():
        phased = by_phase(values, success)
        rows[name] = {
            "equal_time": _ranking(values[:, :shortest], success, resamples),
            "equal_time_phase": _ranking(phased[:, :shortest], success, resamples),
            "whole": _ranking(values, success, resamples),
            "alarm": alarm(values, success, left, alpha),
            "alarm_phase": alarm(values, success, left, alpha, phase=True),
        }
    return rows


def per_chunk(episodes: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Signal -> values (E, C)."""
    if not all(episode["signals"] for episode in episodes):
        raise ValueError("expected signals in every episode: run with a MonitoredAgent")
    names = dict.fromkeys(name for episode in episodes for chunk in episode["signals"] for name in chunk)
    values = {name: np.full((len(episodes), max(len(e["signals"]) for e in episodes)), np.nan) for name in names}
    for row, episode in enumerate(episodes):
        for column, chunk in enumerate(episode["signals"]):
            for name, value in chunk.items():
                values[name][row, column] = np.nan if value is None else value
    return values


def scores(values: np.ndarray) -> np.ndarray:
    """values (E, C) -> scores (E, C); -inf until there is a value."""
    return np.nan_to_num(np.fmax.accumulate(values, axis=1), nan=-np.inf, posinf=np.inf, neginf=-np.inf)


def auroc(failed: np.ndarray, succeeded: np.ndarray) -> np.ndarray:
    """Scores (..., F) and (..., S) -> (...), by ranks: all pairs would fill the memory."""
    ranks = stats.rankdata(np.concatenate([failed, succeeded], axis=-1), axis=-1)
    F, S = failed.shape[-1], succeeded.shape[-1]
    return (ranks[..., :F].sum(-1) - F * (F + 1) / 2) / (F * S)


def average_precision(failed: np.ndarray, succeeded: np.ndarray) -> np.ndarray:
    """Scores (..., F) and (..., S) -> AUPRC (...), the area under the steps of precision over recall."""
    caught = stats.rankdata(-failed, method="max", axis=-1)  # how many failures score as high or higher
    alarms = stats.rankdata(-np.concatenate([failed, succeeded], axis=-1), method="max", axis=-1)
    return (caught / alarms[..., : failed.shape[-1]]).mean(-1)


@dataclass(frozen=True)
class Phases:
    """What is usual at every chunk of successful episodes."""

    median: np.ndarray  # (C',)
    spread: np.ndarray  # (C',) between the quartiles; 1 where there is none

    @classmethod
    def of(cls, values: np.ndarray) -> Phases:
        """values (E, C) of successes; chunks that fewer than LEAST of them have are left out."""
        enough = np.isfinite(values).sum(0) >= LEAST
        if not enough.any():
            raise ValueError(f"expected {LEAST} successful episodes to learn phases from, got {len(values)}: run more")
        columns = np.where(enough)[0]
        low, median, high = (np.full(columns[-1] + 1, np.nan) for _ in range(3))
        low[columns], median[columns], high[columns] = np.nanpercentile(values[:, columns], [25, 50, 75], axis=0)
        return cls(median, np.where(high > low, high - low, 1.0))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """values (..., C) -> the same, in quartile ranges from the median of their phase."""
        phase = np.minimum(np.arange(values.shape[-1]), len(self.median) - 1)
        return (values - self.median[phase]) / self.spread[phase]


def by_phase(values: np.ndarray, success: np.ndarray) -> np.ndarray:
    """values (E, C) by the phases of the successes; each success by those of the others, as a failure is."""
    everyone = Phases.of(values[success])(values)
    for row in np.flatnonzero(success):
        others = success & (np.arange(len(success)) != row)
        everyone[row] = Phases.of(values[others])(values[row])
    return everyone


def needed(alpha: float) -> int:
    """How many successful episodes a threshold for `alpha` takes: the least n with ceil((n + 1)(1 - alpha)) <= n."""
    if not 0 < alpha < 1:
        raise ValueError(f"expected a rate of false alarms in (0, 1), got {alpha}")
    return ceil(round(1 / alpha - 1, 9))


def least(alpha: float) -> tuple[int, int]:
    """How many failures and how many successes `foretelling` takes: of these a third each for phases, a threshold and
    its test."""
    return 2, 3 * max(needed(alpha), LEAST)


def threshold(succeeded: np.ndarray, alpha: float) -> float:
    """From the scores (n,) of successful episodes; ValueError if they are too few for alpha."""
    n = len(succeeded)
    if n < needed(alpha):
        raise ValueError(
            f"a false-alarm rate of {alpha:g} needs {needed(alpha)} successful episodes to set its threshold, got {n}: "
            "run more episodes, or promise less"
        )
    return float(np.sort(succeeded)[ceil(round((n + 1) * (1 - alpha), 9)) - 1])


def alarm(values: np.ndarray, success: np.ndarray, left: np.ndarray, alpha: float, phase: bool = False) -> dict:
    """The alarm on values (E, C): its threshold from every other success, measured on the others and on the failures.

    left (E, C): control steps from a chunk to the end. phase: by phases, learnt from a third of the successes.
    """
    successes = np.flatnonzero(success)
    if phase:
        values, successes = Phases.of(values[successes[::3]])(values), np.delete(successes, np.s_[::3])
    score = scores(values)
    limit = threshold(score[successes[::2], -1], alpha)
    others, failures = successes[1::2], np.flatnonzero(~success)
    raised = score[failures] > limit
    caught = raised[:, -1]
    lead = left[failures][caught, raised[caught].argmax(1)]
    return {
        "promised": alpha,
        "false_alarms": _rate(score[others, -1] > limit),
        "caught": _rate(caught),
        "lead_steps": float(np.median(lead)) if len(lead) else None,  # median over the caught failures
        "threshold": limit,
        "calibrated_on": len(successes[::2]),
    }


def _ranking(values: np.ndarray, success: np.ndarray, resamples: int) -> dict[str, list[float]]:
    """AUROC and AUPRC, each with the ends of its 95 % interval: bootstrap over failures and over successes."""
    score = scores(values)[:, -1]
    sides = score[~success], score[success]
    return {name: _interval(f, sides, resamples) for name, f in (("auroc", auroc), ("auprc", average_precision))}


def _interval(statistic: Statistic, sides: tuple[np.ndarray, np.ndarray], resamples: int) -> list[float]:
    def measure(failed, succeeded, axis):
        return statistic(failed, succeeded)

    found = stats.bootstrap(sides, measure, n_resamples=resamples, method="percentile", batch=100, rng=0)
    return [float(statistic(*sides)), *(float(end) for end in found.confidence_interval)]


def _rate(hits: np.ndarray) -> dict[str, Any]:
    rate = SuccessRate(int(hits.sum()), len(hits))
    return {"text": str(rate), "rate": rate.rate, "interval": list(rate.interval)}


def _check(success: np.ndarray, alpha: float) -> None:
    found, wanted = (int((~success).sum()), int(success.sum())), least(alpha)
    short = [max(0, w - f) for w, f in zip(wanted, found, strict=True)]
    if any(short):
        more = [f"{n} more {name}" for n, name in zip(short, ("failures", "successes"), strict=True) if n]
        raise ValueError(
            f"expected at least {wanted[0]} failures and {wanted[1]} successes for a false-alarm rate of {alpha:g}, "
            f"got {found[0]} and {found[1]}: run more episodes until there are {' and '.join(more)} (until=1), or make "
            "the task harder or easier, e.g. by noise"
        )
