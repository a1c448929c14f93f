"""Where a demonstrator was disturbed: what was executed is neither the label nor on the way to it.

    executed before ---------- label        anywhere between the two: a limit on speed, acceleration or the gripper
                                            was at work, and a plan made before could know that it would be
    outside of that             noise, a hand that was knocked, a stop: nobody could foresee it

The tolerance is a share of what each action dimension varies by, so it has that dimension's unit: rounding in a
driver, in a text file or in float32 is no disturbance. N  steps of all episodes    Da  action dimensions
"""

from __future__ import annotations

import numpy as np

from ebt_policy.data.episodes import EpisodeData

TOLERANCE = 2e-3  # of the range of a dimension's labels: 0.1 mm where one action unit is 5 cm


def disturbed_steps(data: EpisodeData) -> np.ndarray:
    """(N,) bool: at which steps the executed action was off the way from the one before to the label."""
    if data.executed is None:
        return np.zeros(len(data.action), bool)
    before = np.concatenate([data.executed[:1], data.executed[:-1]])
    before[data.starts] = data.action[data.starts]  # nothing is known of what was executed before
    slack = TOLERANCE * np.ptp(data.action, axis=0) + np.finfo(np.float32).eps * np.abs(data.action)
    low, high = np.minimum(before, data.action) - slack, np.maximum(before, data.action) + slack
    return ((data.executed < low) | (data.executed > high)).any(axis=1)


def share_that_counts(data: EpisodeData, predict: int) -> float:
    """Of the labels of plans of `predict` steps made at every step, those that no disturbance came before."""
    disturbed = disturbed_steps(data).astype(int)
    before = np.concatenate([[0], np.cumsum(disturbed)])  # (N + 1,)
    last = np.repeat(data.ends - 1, data.lengths)
    steps = np.arange(len(data.action))
    counts = [before[np.minimum(steps + k, last)] == before[steps] for k in range(predict)]
    return float(np.mean(counts))
