"""Where a demonstrator was disturbed: what was executed is neither the label nor on the way to it.

    executed before ---------- label      anywhere between these two and the label before: a limit on speed, on change
                                          or the gripper was at work, or a delay, and a plan made before could know
    outside of that             noise, a hand that was knocked, a stop: nobody could foresee it

An episode of displacements begins at rest; before the first absolute action nothing is known. The tolerance is a share
of the range of actions, or of what each dimension varies by, so it has their unit: rounding in a driver, in a text file
or in float32 is no disturbance. N  steps of all episodes    Da  action dimensions
"""

from __future__ import annotations

import numpy as np

from ebt_policy.data.episodes import EpisodeData

TOLERANCE = 2e-3  # of the range: 0.2 mm where one action unit is 5 cm
STILL = 0.1  # a dimension that varies by less counts as varying by so much


def disturbed_steps(data: EpisodeData) -> np.ndarray:
    """(N,) bool: at which steps the executed action was off the way from the one before to the label."""
    if data.executed is None:
        return np.zeros(len(data.action), bool)
    spec, action = data.spec.action, data.action
    before, asked = (np.concatenate([values[:1], values[:-1]]) for values in (data.executed, action))
    before[data.starts] = 0.0 if spec.mode == "delta" else data.executed[data.starts]
    asked[data.starts] = action[data.starts]
    width = spec.high - spec.low if np.isfinite(spec.high - spec.low) else np.maximum(np.ptp(action, axis=0), STILL)
    slack = TOLERANCE * width + np.finfo(np.float32).eps * np.abs(action)
    low, high = (edge([before, asked, action], axis=0) for edge in (np.min, np.max))
    low, high = low - slack, high + slack
    return ((data.executed < low) | (data.executed > high)).any(axis=1)


def share_that_counts(data: EpisodeData, predict: int) -> float:
    """Of the labels of plans of `predict` steps made at every step, those that no disturbance came before."""
    disturbed = disturbed_steps(data).astype(int)
    before = np.concatenate([[0], np.cumsum(disturbed)])  # (N + 1,)
    last = np.repeat(data.ends - 1, data.lengths)
    steps = np.arange(len(data.action))
    counts = [before[np.minimum(steps + k, last)] == before[steps] for k in range(predict)]
    return float(np.mean(counts))
