"""What deserves a second look in a set of demonstrations: one sentence each, none when nothing stands out.

N  steps of all episodes    D  dimensions of one array, flattened
"""

from __future__ import annotations

import hashlib

import numpy as np

from ebt_policy.data.episodes import DataError, EpisodeData, check_numbers

CONSTANT = 1e-6  # a range below this is a constant
SHORT = 0.3  # of the median length
SATURATED = 0.05  # share of steps at a limit of the range
AT_LIMIT = 1e-3  # of the range's width
UNIT_NORM = 1e-3  # four numbers whose norm is 1 to this tolerance, always, are a quaternion


def find_oddities(data: EpisodeData) -> list[str]:
    """Sentences about numbers that are not finite or out of range, constants, saturation, lengths, copies, failures,
    quaternions that change sign, and executed actions that differ from the labels."""
    checks = (_bad_numbers, _constants, _saturation, _lengths, _duplicates, _failures, _quaternions, _executed)
    return [sentence for check in checks for sentence in check(data)]


def quaternion_columns(key: str, values: np.ndarray) -> list[int]:
    """First columns of the quaternions in values (N, D): runs of four that always have norm 1 and that move or are
    named so. Runs do not overlap."""
    columns, column = [], 0
    while values.ndim == 2 and column + 4 <= values.shape[1]:
        four = values[:, column : column + 4].astype(np.float64)
        moves = (np.ptp(four, axis=0) > CONSTANT).sum() >= 2
        if (moves or "quat" in key) and np.allclose(np.linalg.norm(four, axis=1), 1.0, atol=UNIT_NORM):
            columns.append(column)
            column += 3
        column += 1
    return columns


def at_limit(action: np.ndarray, low: float, high: float) -> np.ndarray:
    """(N, Da) -> (Da,) share of steps at either end of [low, high]; zeros if the range is not finite."""
    if not np.isfinite(high - low):
        return np.zeros(action.shape[1])
    slack = AT_LIMIT * (high - low)
    return ((action <= low + slack) | (action >= high - slack)).mean(0)


def is_switch(values: np.ndarray) -> bool:
    """Whether values (N,) take three values at most, like a gripper's open and close."""
    return len(np.unique(values)) <= 3


def _bad_numbers(data: EpisodeData):
    for name, values in data.arrays().items():
        bad = 0 if values.dtype.kind != "f" else int((~np.isfinite(values)).sum())
        if bad:
            yield f"{name}: {bad} numbers are NaN or infinite"
    try:
        check_numbers(data)
    except DataError as error:
        yield f"training would refuse this file: {error}"


def _constants(data: EpisodeData):
    for name, values in {**{k: v for k, v in data.obs.items() if v.ndim <= 3}, "action": data.action}.items():
        flat = values.reshape(len(values), -1)
        constant = np.flatnonzero(np.ptp(flat, axis=0) < CONSTANT)
        if len(constant):
            listed = ", ".join(f"{n} ({flat[0, n]:.4g})" for n in constant[:8]) + ", ..." * (len(constant) > 8)
            yield f"{name}: constant in dimension {listed}"


def _saturation(data: EpisodeData):
    share = at_limit(data.action, data.spec.action.low, data.spec.action.high)
    for n in np.flatnonzero(share > SATURATED):
        if not is_switch(data.action[:, n]):
            yield f"action: dimension {n} is at a limit of its range in {share[n]:.0%} of the steps"


def _lengths(data: EpisodeData):
    median = np.median(data.lengths)
    short = np.flatnonzero(data.lengths < SHORT * median)
    if len(short):
        listed = ", ".join(f"{i} ({data.lengths[i]})" for i in short[:8]) + ", ..." * (len(short) > 8)
        yield f"{len(short)} episodes have less than {SHORT:.0%} of the median {median:g} steps: {listed}"


def _duplicates(data: EpisodeData):
    first_seen: dict[bytes, int] = {}
    copies = []
    for i in range(len(data)):
        episode = data.episode(i)
        digest = hashlib.sha256(episode.action.tobytes())
        for values in episode.obs.values():
            digest.update(values[:1].tobytes())
        original = first_seen.setdefault(digest.digest(), i)
        if original != i:
            copies.append(f"{i} = {original}")
    if copies:
        yield f"{len(copies)} episodes repeat another one: {', '.join(copies[:8])}" + ", ..." * (len(copies) > 8)


def _failures(data: EpisodeData):
    if data.success is not None and not data.success.all():
        yield f"{int((~data.success).sum())} of {len(data)} episodes are marked as failures"


def _quaternions(data: EpisodeData):
    within = np.ones(len(data.action) - 1, bool)
    within[data.ends[:-1] - 1] = False  # from one episode's end to the next one's start is no step
    for key, values in data.obs.items():
        for column in quaternion_columns(key, values):
            four = values[:, column : column + 4]
            where = key if values.shape[1] == 4 else f"{key}[{column}:{column + 4}]"
            jumps = int(((four[1:] * four[:-1]).sum(1) < 0)[within].sum())
            if jumps:
                yield f"{where}: the quaternion changes sign in {jumps} steps (same rotation, other numbers)"
            starts = four[data.starts] @ four[0]
            opposite = int((starts < 0).sum())
            if opposite:
                yield f"{where}: {opposite} of {len(data)} episodes start in the opposite half of the quaternions"


def _executed(data: EpisodeData):
    if data.executed is None:
        return
    difference = data.executed - data.action
    changed = (np.abs(difference) > CONSTANT).any(1).mean()
    if changed:
        rms = ", ".join(f"{value:.3f}" for value in np.sqrt((difference**2).mean(0)))
        yield f"executed differs from action in {changed:.0%} of the steps (noise while recording), RMS [{rms}]"
