"""Episodes in memory: one demonstration, many of them end to end, and the checks every reader makes.

E  episodes    T  steps of one episode    sum T  steps of all    Da  action dimensions    S  simulator state
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from ebt_policy.data.spec import Spec

RANGE_SLACK = 1e-5  # of the range's width: float32 rounding is not an action out of range
MERGED = 1e-3  # of what a number varies by: float32 must not round it further, or it merges what differs
STILL = 1e-2  # a number that varies by less counts as varying by so much
IMAGE_RANK = 3  # (H, W, C)


class DataError(ValueError):
    """A file or an episode is not what it should be; the message says where and what to do."""


@dataclass(frozen=True)
class Episode:
    """One demonstration of T steps. obs[k][t] is what was seen before action[t] was taken."""

    obs: dict[str, np.ndarray]  # (T, *shape) numbers, images uint8
    action: np.ndarray  # (T, Da): the label
    executed: np.ndarray | None = None  # (T, Da): what was sent to the robot, where it differs from the label
    initial_state: np.ndarray | None = None  # (S,) float64
    success: bool | None = None
    seed: int | None = None
    states: np.ndarray | None = None  # (T, S) float64, where every step was recorded
    model_xml: str | None = None  # the simulator's model of this episode
    log: dict[str, np.ndarray] = field(default_factory=dict)  # (T,) numbers or texts of a run that nothing learns from

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True, eq=False)
class EpisodeData:
    """Every episode end to end, in memory; episode i is rows ends[i-1]:ends[i] of the per-step arrays."""

    spec: Spec
    obs: dict[str, np.ndarray]  # (sum T, *shape) float32, images uint8
    action: np.ndarray  # (sum T, Da) float32
    ends: np.ndarray  # (E,) int64, cumulative
    executed: np.ndarray | None = None  # (sum T, Da) float32
    initial_state: np.ndarray | None = None  # (E, S) float64
    success: np.ndarray | None = None  # (E,) bool
    seed: np.ndarray | None = None  # (E,) int64
    states: np.ndarray | None = None  # (sum T, S) float64
    model_xml: tuple[str, ...] | None = None  # (E,)
    masks: dict[str, np.ndarray] = field(default_factory=dict)  # filter key -> (E,) bool
    log: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (sum T,); NaN and "" where there is nothing
    left_out: dict[str, str] = field(default_factory=dict)  # what is in the file and was not read -> why

    def __post_init__(self):
        _check_lengths(self)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> np.ndarray:
        """(E,) first row of each episode."""
        return np.concatenate(([0], self.ends[:-1]))

    @property
    def lengths(self) -> np.ndarray:
        """(E,) steps of each episode."""
        return np.diff(self.ends, prepend=0)

    @cached_property
    def content_hash(self) -> str:
        """sha256 of the spec and of every array held here, whatever the file's chunks and compression."""
        digest = hashlib.sha256(json.dumps(self.spec.to_dict(), sort_keys=True).encode())
        for name, values in sorted(self.arrays().items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
        for xml in self.model_xml or ():
            digest.update(hashlib.sha256(xml.encode()).digest())
        return digest.hexdigest()

    def arrays(self) -> dict[str, np.ndarray]:
        """Name in the store -> array, for every numeric array there is."""
        named = {f"obs/{k}": v for k, v in self.obs.items()} | {f"mask/{k}": v for k, v in self.masks.items()}
        named |= {f"log/{k}": v for k, v in self.log.items()}
        named |= {"action": self.action, "executed": self.executed, "episode_ends": self.ends, "states": self.states}
        named |= {"initial_state": self.initial_state, "success": self.success, "seed": self.seed}
        return {name: values for name, values in named.items() if values is not None}

    def episode(self, i: int) -> Episode:
        """Episode i (views, not copies); negative i counts from the end."""
        i = range(len(self))[i]
        rows = slice(int(self.starts[i]), int(self.ends[i]))
        return Episode(
            obs={k: v[rows] for k, v in self.obs.items()},
            action=self.action[rows],
            executed=None if self.executed is None else self.executed[rows],
            initial_state=None if self.initial_state is None else self.initial_state[i],
            success=None if self.success is None else bool(self.success[i]),
            seed=None if self.seed is None else int(self.seed[i]),
            states=None if self.states is None else self.states[rows],
            model_xml=None if self.model_xml is None else self.model_xml[i],
            log={k: v[rows] for k, v in self.log.items()},
        )

    def place(self, row: int) -> str:
        """Where a row of the per-step arrays is, for people."""
        i = int(np.searchsorted(self.ends, row, side="right"))
        return f"episode {i}, step {row - int(self.starts[i])}"

    def select(self, indices: Sequence[int] | np.ndarray) -> EpisodeData:
        """Only these episodes, in this order (indices or a boolean mask): a validation split, a filter key."""
        chosen = np.arange(len(self))[np.asarray(indices)] if len(indices) else []
        if not len(chosen):
            raise DataError(f"expected at least 1 of {len(self)} episodes, got none: select some")
        masks = {key: mask[chosen] for key, mask in self.masks.items()}
        return from_episodes(self.spec, (self.episode(i) for i in chosen), masks, self.left_out)

    def filtered(self, key: str) -> EpisodeData:
        """Only the episodes of filter key `key`; DataError if there is no such key."""
        if key not in self.masks:
            known = ", ".join(sorted(self.masks)) or "none"
            raise DataError(f"expected one of the file's filter keys ({known}), got {key!r}")
        return self.select(self.masks[key])


def from_episodes(
    spec: Spec,
    episodes: Iterable[Episode],
    masks: dict[str, np.ndarray] | None = None,
    left_out: dict[str, str] | None = None,
) -> EpisodeData:
    """Joins episodes end to end and checks them. Optional fields must be in all episodes or in none."""
    episodes = [_checked(spec, i, episode) for i, episode in enumerate(episodes)]
    if not episodes:
        raise DataError("expected at least 1 episode, got none: record or select some")

    def values_of(name: str) -> list | None:
        values = [getattr(episode, name) for episode in episodes]
        missing = [i for i, value in enumerate(values) if value is None]
        if missing and len(missing) < len(values):
            raise DataError(f"expected {name!r} in every episode or in none, episode {missing[0]} has none")
        return None if missing else values

    def joined(name: str, dtype: type, join) -> np.ndarray | None:
        values = values_of(name)
        if values is None:
            return None
        cast = partial(to_float32, name=name) if dtype is np.float32 else partial(np.asarray, dtype=dtype)
        try:
            return join([cast(value) for value in values])
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"expected {name!r} of one shape in every episode, got {error}") from error

    if any(set(episode.log) != set(episodes[0].log) for episode in episodes):
        raise DataError(f"expected the same log in every episode, got {[sorted(e.log) for e in episodes]}")
    xml = values_of("model_xml")
    return EpisodeData(
        spec=spec,
        obs={k: np.concatenate([episode.obs[k] for episode in episodes]) for k in spec.obs},
        action=joined("action", np.float32, np.concatenate),
        ends=np.cumsum([len(episode) for episode in episodes], dtype=np.int64),
        executed=joined("executed", np.float32, np.concatenate),
        initial_state=joined("initial_state", np.float64, np.stack),
        success=joined("success", np.bool_, np.stack),
        seed=joined("seed", np.int64, np.stack),
        states=joined("states", np.float64, np.concatenate),
        model_xml=None if xml is None else tuple(xml),
        masks=dict(masks or {}),
        log={k: np.concatenate([episode.log[k] for episode in episodes]) for k in episodes[0].log},
        left_out=dict(left_out or {}),
    )


def check_numbers(data: EpisodeData) -> None:
    """DataError at the first number that is not finite, and for actions outside of the spec's range."""
    for name, values in data.arrays().items():
        if name.startswith("obs/") or name in ("action", "executed", "states", "initial_state"):
            _check_finite(data, name, values)
    _check_range(data)


def is_image(values: np.ndarray) -> bool:
    """Whether values (N, *shape) are pictures (N, H, W, C) of bytes; a vector of bytes is a vector."""
    return values.dtype == np.uint8 and values.ndim == 1 + IMAGE_RANK


def as_observation(values: np.ndarray, name: str) -> np.ndarray:
    """values (N, *shape) as training has them: images stay bytes, everything else is float32, and one number a step
    (N,) is (N, 1). DataError for texts, and for numbers that float32 would merge."""
    values = np.asarray(values)
    if is_image(values):
        return values
    values = to_float32(values, name)
    return values[:, None] if values.ndim == 1 else values


def to_float32(values: np.ndarray, name: str) -> np.ndarray:
    """values (N, *shape) as float32. DataError for what is no number, and for numbers so large beside what they vary
    by that they would become the same: seconds since 1970 are steps of two minutes in float32."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise DataError(f"expected numbers in {name}, got {values.dtype}: leave it out with obs_keys")
    with np.errstate(over="ignore"):  # what becomes infinite is found where numbers are checked
        cast = values.astype(np.float32, copy=False)
    if values.dtype.itemsize > 2 and values.dtype != np.float32 and values.size:
        _check_merged(values.reshape(len(values), -1), cast.reshape(len(values), -1), name)
    return cast


def _check_merged(values: np.ndarray, cast: np.ndarray, name: str):
    """Of (N, D) numbers and what float32 made of them."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(cast - values.astype(np.float64)).max(axis=0)
        varies = np.maximum(np.ptp(values.astype(np.float64), axis=0), STILL)
        merged = np.flatnonzero(error > MERGED * varies)
    if len(merged) and np.isfinite(cast).all():
        n = int(merged[0])
        raise DataError(
            f"expected numbers of {name} that float32 keeps apart, dimension {n} is near {values[0, n]:.10g} and "
            f"varies by {varies[n]:.4g}, where float32 is off by up to {error[n]:.2g}: subtract its first value, or "
            "leave it out with obs_keys"
        )


def _checked(spec: Spec, i: int, episode: Episode) -> Episode:
    """The episode with its observations as training has them."""
    missing = sorted(set(spec.obs) - set(episode.obs))
    if missing:
        raise DataError(f"episode {i}: expected observations {sorted(spec.obs)}, {missing} are missing")
    if not len(episode):
        raise DataError(f"episode {i}: expected at least 1 step, got none")
    seen = {key: as_observation(episode.obs[key], f"obs/{key} of episode {i}") for key in spec.obs}
    length, action = len(episode), (len(episode), spec.action.dim)
    expected = {f"obs/{k}": (seen[k], (length, *shape)) for k, shape in spec.obs.items()}
    expected |= {"action": (episode.action, action), "executed": (episode.executed, action)}
    expected |= {f"log/{k}": (values, (length,)) for k, values in episode.log.items()}
    if episode.states is not None:
        expected["states"] = (episode.states, (length, *np.shape(episode.states)[1:]))
    for name, (values, shape) in expected.items():
        if values is not None and np.shape(values) != shape:
            raise DataError(f"episode {i}: expected {name} of shape {shape}, got {np.shape(values)}")
    return replace(episode, obs=seen)


def _check_lengths(data: EpisodeData):
    if data.ends.ndim != 1 or not len(data.ends):
        raise DataError("expected at least 1 episode, got none")
    if (data.lengths <= 0).any():
        i = int(np.argmax(data.lengths <= 0))
        raise DataError(f"expected episode ends that increase, episode {i} has {data.lengths[i]} steps")
    total, count = int(data.ends[-1]), len(data)
    expected = {f"obs/{k}": (total, *shape) for k, shape in data.spec.obs.items()}
    expected |= {"action": (total, data.spec.action.dim), "executed": (total, data.spec.action.dim)}
    expected |= {"success": (count,), "seed": (count,)} | {f"mask/{k}": (count,) for k in data.masks}
    expected |= {f"log/{k}": (total,) for k in data.log}
    arrays = data.arrays()
    missing = sorted({f"obs/{k}" for k in data.spec.obs} - arrays.keys())
    if missing:
        raise DataError(f"expected the arrays {missing} that the spec names, they are missing")
    for name, values in arrays.items():
        length = total if name == "states" else count
        shape = expected.get(name, (length, *values.shape[1:]))
        if values.shape != shape:
            raise DataError(f"expected {name} of shape {shape} ({count} episodes, {total} steps), got {values.shape}")


def _place(data: EpisodeData, name: str, row: int) -> str:
    return f"episode {row}" if name == "initial_state" else data.place(row)


def _check_finite(data: EpisodeData, name: str, values: np.ndarray):
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    bad = np.argwhere(~np.isfinite(values))
    row, *dimension = (int(n) for n in bad[0])
    where = ", ".join(map(str, dimension)) or "0"
    raise DataError(
        f"expected finite numbers, got {values[tuple(bad[0])]} in {name} at {_place(data, name, row)}, "
        f"dimension {where} ({len(bad)} such numbers): drop or repair the episode"
    )


def _check_range(data: EpisodeData):
    low, high = data.spec.action.low, data.spec.action.high
    slack = RANGE_SLACK * (high - low) if np.isfinite(high - low) else 0.0
    outside = (data.action < low - slack) | (data.action > high + slack)
    if outside.any():
        excess = np.where(outside, np.maximum(low - data.action, data.action - high), -np.inf)
        row, dimension = np.unravel_index(int(excess.argmax()), excess.shape)
        raise DataError(
            f"expected actions in [{low:g}, {high:g}], got {int(outside.any(1).sum())} of {len(outside)} outside, "
            f"the farthest {data.action[row, dimension]:g} at {_place(data, 'action', int(row))}, "
            f"dimension {int(dimension)}: if they are absolute poses (as in diffusion_policy's low_dim_abs files), "
            "although the file says otherwise, state mode=absolute (training: task.action={mode: absolute}); "
            "if they are in other units, state their range, low=... high=...; never clip poses"
        )


def with_obs_keys(spec: Spec, obs_keys: Sequence[str] | None, left_out: Mapping[str, str] | None = None) -> Spec:
    """The spec with these observation keys only, in this order; DataError names those that there are not, or cannot be
    read, which `left_out` says."""
    if obs_keys is None:
        return spec
    unknown = [key for key in obs_keys if key not in spec.obs]
    if unknown:
        why = [f"{key} ({left_out[f'obs/{key}']})" if f"obs/{key}" in (left_out or {}) else key for key in unknown]
        raise DataError(f"expected observation keys among {sorted(spec.obs)}, got {', '.join(why)}")
    return replace(spec, obs={key: spec.obs[key] for key in obs_keys})
