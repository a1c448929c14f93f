"""What deserves a second look in a set of demonstrations: one sentence each, none when nothing stands out.

N  steps of all episodes    D  dimensions of one array, flattened
"""

from __future__ import annotations

import hashlib

import numpy as np

from ebt_policy.data.disturbed import disturbed_steps
from ebt_policy.data.episodes import IMAGE_RANK, DataError, EpisodeData, check_numbers
from ebt_policy.data.ranges import full_range, outliers

CONSTANT = 1e-6  # a range below this is a constant
SHORT = 0.3  # of the median length
SATURATED = 0.05  # share of steps at a limit of the range
AT_LIMIT = 1e-3  # of the range's width
UNITS_APART = 100.0  # times: ranges of one array that differ by more are hardly in one unit
UNIT_NORM = 1e-3  # four numbers whose norm is 1 to this tolerance, always, are a quaternion


def find_oddities(data: EpisodeData) -> list[str]:
    """Sentences about numbers that are not finite or out of range, outliers, mixed units, constants, saturation,
    lengths, copies, failures, quaternions that change sign, and executed actions that differ from the labels."""
    about_values = (_bad_numbers, _outliers, _units, _constants, _saturation)
    about_episodes = (_lengths, _duplicates, _failures, _quaternions, _executed)
    return [sentence for check in (*about_values, *about_episodes) for sentence in check(data)]


def find_outliers(data: EpisodeData) -> list[tuple[str, str]]:
    """For every dimension with numbers far from all others of it: name of the action or observation, and a sentence."""
    found = []
    for name, flat in _flat(data):
        if not np.isfinite(flat).all():
            continue
        for n in np.flatnonzero((far := outliers(flat)).any(axis=0)):
            rows = np.flatnonzero(far[:, n])
            low, high = (edge[0] for edge in full_range(flat[~far[:, n]][:, [n]]))
            first = f"{flat[rows[0], n]:.6g} at {data.place(int(rows[0]))} ({len(rows)} such numbers)"
            sentence = f"{name}: dimension {n} is {first}, all others are in [{low:.6g}, {high:.6g}]: an outlier?"
            found.append((name, sentence))
    return found


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


def at_limit(action: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """(N, Da) -> (Da,) share of steps at either end of [low, high], numbers or (Da,)."""
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


def _outliers(data: EpisodeData):
    return [sentence for _, sentence in find_outliers(data)]


def _flat(data: EpisodeData):
    """Name and numbers (N, D) of the action and of all observations but images."""
    arrays = {"action": data.action} | {k: v for k, v in data.obs.items() if v.ndim <= IMAGE_RANK}
    return [(name, values.reshape(len(values), -1)) for name, values in arrays.items()]


def _units(data: EpisodeData):
    for name, flat in _flat(data):
        spans = np.ptp(np.where(outliers(flat), np.nan_to_num(flat).mean(axis=0), flat), axis=0)
        moving = np.flatnonzero(spans > CONSTANT)
        if len(moving) < 2 or not np.isfinite(spans).all():
            continue
        widest, least = moving[np.argmax(spans[moving])], moving[np.argmin(spans[moving])]
        if spans[widest] > UNITS_APART * spans[least]:
            yield (
                f"{name}: dimension {widest} spans {spans[widest]:.4g} and dimension {least} {spans[least]:.4g}: "
                "several units in one array?"
            )


def _constants(data: EpisodeData):
    for name, values in {**{k: v for k, v in data.obs.items() if v.ndim <= 3}, "action": data.action}.items():
        flat = values.reshape(len(values), -1)
        constant = np.flatnonzero(np.ptp(flat, axis=0) < CONSTANT)
        if len(constant):
            listed = ", ".join(f"{n} ({flat[0, n]:.4g})" for n in constant[:8]) + ", ..." * (len(constant) > 8)
            yield f"{name}: constant in dimension {listed}"


def _saturation(data: EpisodeData):
    low, high = data.spec.action.low, data.spec.action.high
    if not np.isfinite(high - low):
        return
    share = at_limit(data.action, low, high)
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
        disturbed = disturbed_steps(data).mean()
        yield (
            f"executed differs from action in {changed:.0%} of the steps, RMS [{rms}]; in {disturbed:.0%} it is not "
            "even on the way to it (noise, or a stop), and labels after such a step do not count in plans from before"
        )
