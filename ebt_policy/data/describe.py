"""The page that scripts/inspect.py prints: what is in a file of demonstrations, and what is odd in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ebt_policy.data.disturbed import share_that_counts
from ebt_policy.data.episodes import EpisodeData
from ebt_policy.data.oddities import at_limit, find_oddities, is_switch, quaternion_columns
from ebt_policy.data.store import format_of, read_episodes

BARS = 8  # rows of the histogram of lengths
BAR_WIDTH = 40
PLAN = 16  # steps, as in configs/train.yaml
MANY = 32  # an array with more numbers per step is printed as one range
UNITS = {  # how a robosuite key ends -> unit
    "_pos_cos": "",
    "_pos_sin": "",
    "joint_pos": "rad",
    "joint_vel": "rad/s",
    "joint_acc": "rad/s^2",
    "gripper_qpos": "m",
    "gripper_qvel": "m/s",
    "vel_lin": "m/s",
    "vel_ang": "rad/s",
    "_pos": "m",
    "_quat": "quaternion xyzw",
    "_quat_site": "quaternion xyzw",
    "_image": "8-bit colour",
}


def describe(path: Path, filter_key: str | None = None, obs_keys: Sequence[str] | None = None) -> str:
    """The whole page, also for a file whose numbers are bad; DataError for one that cannot be read."""
    layout, data = format_of(path), read_episodes(path, filter_key, obs_keys)
    oddities = ["oddities", *(f"  - {sentence}" for sentence in find_oddities(data) or ["none"])]
    sections = (
        _header(path, layout, data),
        _lengths(data),
        _action(data),
        _observations(data),
        _others(data),
        _left_out(data),
        oddities,
    )
    return "\n\n".join("\n".join(section) for section in sections)


def _header(path: Path, layout: str, data: EpisodeData) -> list[str]:
    """Where it comes from and what it can be recognised by."""
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    versions = ", ".join(f"{package} {version}" for package, version in data.spec.simulator.items()) or "unknown"
    robots = (data.spec.env_args.get("env_kwargs") or {}).get("robots", "unknown")
    return [
        f"{path}   {layout} format, {sum(f.stat().st_size for f in files) / 1e6:.2f} MB",
        f"  task        {data.spec.env_args.get('env_name', 'unknown')}",
        f"  simulator   {versions}",
        f"  rate        {'unknown' if data.spec.hz is None else f'{data.spec.hz:g} Hz'}",
        f"  robots      {', '.join(map(str, robots)) if isinstance(robots, list) else robots}",
        f"  content     sha256 {data.content_hash}",
    ]


def _lengths(data: EpisodeData) -> list[str]:
    """How many episodes of which lengths."""
    steps = data.lengths
    duration = "" if data.spec.hz is None else f", {steps.sum() / data.spec.hz / 60:.1f} minutes"
    success = "" if data.success is None else f", {int(data.success.sum())} successful"
    width = -(-int(np.ptp(steps) + 1) // BARS)
    counts = np.bincount((steps - steps.min()) // width)
    lines = [
        f"episodes      {len(data)}{success}, {steps.sum():,} steps{duration}",
        f"  steps       min {steps.min()}, median {np.median(steps):g}, max {steps.max()}",
    ]
    for row, count in enumerate(counts):
        low = int(steps.min()) + row * width
        bar = "#" * round(BAR_WIDTH * count / counts.max())
        lines.append(f"  {low:5} - {low + width - 1:<5}  {bar:<{BAR_WIDTH}}  {count}")
    return lines


def _action(data: EpisodeData) -> list[str]:
    """What an action means, and its range dimension by dimension."""
    spec = data.spec.action
    meaning = f"frame {spec.frame}, mode {spec.mode}, rotation {spec.rotation}, gripper {spec.gripper}"
    known = np.isfinite(spec.high - spec.low)
    low, high = (spec.low, spec.high) if known else (data.action.min(0), data.action.max(0))
    where, range_text = (
        ("a limit", f"[{spec.low:g}, {spec.high:g}]") if known else ("an end of what is here", "unknown")
    )
    share = at_limit(data.action, low, high)
    limit = [f"{s:.0%} at {where}" + " (a switch)" * is_switch(data.action[:, n]) for n, s in enumerate(share)]
    noise = [] if data.executed is None else ["  executed (what was sent while recording)", *_table(data.executed)]
    counts = f"  labels that count in plans of {PLAN} steps   {share_that_counts(data, PLAN):.1%}"
    return [f"action ({spec.dim},)   {meaning}, range {range_text}", *_table(data.action, limit), *noise, counts]


def _observations(data: EpisodeData) -> list[str]:
    """Every key with its shape, unit and ranges."""
    lines = ["observations"]
    for key, values in data.obs.items():
        found = quaternion_columns(key, values)
        note = "".join(f", quaternion at {c}:{c + 4}" for c in found) if values.shape[1:] != (4,) else ""
        lines.append(f"  {key} {data.spec.obs[key]} {values.dtype}   {_unit(key, data)}{note}")
        lines += _table(values)
    return lines


def _others(data: EpisodeData) -> list[str]:
    """Filter keys and what else is there."""
    masks = [f"  {key}: {int(mask.sum())} episodes" for key, mask in data.masks.items()] or ["  none"]
    state = data.states if data.states is not None else data.initial_state
    which = "every step" if data.states is not None else "the initial one only"
    seeds = "none" if data.seed is None else f"{data.seed.min()} .. {data.seed.max()}, {len(set(data.seed))} different"
    return [
        "filter keys",
        *masks,
        f"simulator states   {'none' if state is None else f'{which}, {state[0].size} numbers'}",
        f"model XML          {'none' if data.model_xml is None else f'{len(set(data.model_xml))} different'}",
        f"seeds              {seeds}",
    ]


def _left_out(data: EpisodeData) -> list[str]:
    """What the file holds and nobody reads."""
    return [
        "left out",
        *(f"  {name}: {why}" for name, why in data.left_out.items() or {"nothing": "all was read"}.items()),
    ]


def _unit(key: str, data: EpisodeData) -> str:
    """The unit of a robosuite key; other simulators' are unknown."""
    if "robosuite" not in data.spec.simulator:
        return "unit unknown"
    known = [name for suffix, name in UNITS.items() if key.endswith(suffix)]
    return known[0] if known else "positions in m" if key == "object" else "unit unknown"


def _table(values: np.ndarray, notes: list[str] | None = None) -> list[str]:
    """One line per dimension: min, mean, max and standard deviation of the finite numbers."""
    flat = values.reshape(len(values), -1)
    if flat.shape[1] > MANY:
        return [f"      all {flat.shape[1]}   min {np.nanmin(flat):.4g}   max {np.nanmax(flat):.4g}"]
    lines = [f"      {'':>3} {'min':>10} {'mean':>10} {'max':>10} {'std':>10}"]
    for n, column in enumerate(flat.T):
        finite = column[np.isfinite(column)]
        numbers = (finite.min(), finite.mean(), finite.max(), finite.std()) if len(finite) else (np.nan,) * 4
        row = " ".join(f"{number:10.4f}" for number in numbers)
        lines.append(f"      {n:>3} {row}   {notes[n] if notes else ''}".rstrip())
    return lines
