"""Reads robomimic's HDF5: the official low-dim files, and those of other tools that keep its layout.

data              attrs: env_args (JSON), total
data/demo_<i>     attrs: num_samples, model_file    actions (T, Da)   obs/<key> (T, *shape)   states (T, S)
                  rewards, dones (T,)   next_obs
mask/<key>        names of the demos under this filter key

Of every demo are read: `actions`, the numbers in `obs` (of a group in it under its path, "a/b"), `states`, and the log
(`rewards`, `dones`, log/<name>). An array may have one row more, seen after the last action. All else is left out and
said in `left_out`, not refused. What we write has also `actions_executed`, log/ and the attributes success and seed.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ebt_policy.data.episodes import DataError, Episode, EpisodeData, from_episodes, with_obs_keys
from ebt_policy.data.foreign import check_size
from ebt_policy.data.hdf5 import leaves, member, open_hdf5, read
from ebt_policy.data.spec import MEANINGS, ActionSpec, Spec

# Until env_args named the version, robomimic's datasets were recorded with this release of robosuite.
ROBOSUITE_BEFORE_ENV_VERSION = "1.2"
ROBOSUITE_TYPE = 1  # env_args["type"] of a robosuite environment
OUTCOMES = ("rewards", "dones")  # of every step, which robomimic's training asks for and ours does not
ARRAYS = ("actions", "actions_executed", "states", *OUTCOMES)  # of a demo; `obs` and `log` are groups of them


@dataclass
class Chosen:
    """The demos of a file that are read."""

    names: list[str]  # in numerical order: demo_2 before demo_10
    masks: dict[str, np.ndarray]  # filter key -> (E,) bool
    left_out: dict[str, str] = field(default_factory=dict)


def read_robomimic(path: Path, filter_key: str | None = None, obs_keys: Sequence[str] | None = None) -> EpisodeData:
    """Reads demos in numerical order (demo_2 before demo_10); raises DataError as `open_episodes` says."""
    with open_hdf5(path) as file:
        chosen = choose(file, filter_key)
        group = member(file, "data")
        demos = _with_steps(chosen, [_Demo(group, name) for name in chosen.names])
        left_out = chosen.left_out | _left_out(demos)
        shapes = {key: shape for key, shape in demos[0].shapes.items() if all(key in demo.shapes for demo in demos)}
        spec = with_obs_keys(_spec(group, shapes, demos[0].dim), obs_keys, left_out)
        made_up = _attribute(group, "made_up") or []
        log = [name for name in demos[0].log if name not in made_up and all(name in demo.log for demo in demos)]
        check_size("all that is read", sum(demo.size(spec, log) for demo in demos), path.stat().st_size)
        states, told = _states(demos, left_out), _told_of_all(demos, left_out)
        episodes = (demo.episode(spec, log, states, told) for demo in demos)
        return from_episodes(spec, episodes, chosen.masks, left_out)


def choose(file: h5py.File, filter_key: str | None = None) -> Chosen:
    """The demos under a filter key, None: all. DataError for a file without demos, or a key without one."""
    group = member(file, "data")
    if not isinstance(group, h5py.Group):
        raise DataError(f"expected robomimic's group 'data', got {sorted(file) or 'an empty file'}")
    names = sorted((n for n in group if re.fullmatch(r"demo_\d+", n)), key=lambda name: int(name.split("_")[1]))
    if not names:
        raise DataError("expected groups data/demo_0, data/demo_1, ..., there are no episodes")
    chosen = Chosen(names, {}, {f"data/{n}": "not called demo_<number>" for n in group if n not in names})
    masks = member(file, "mask")
    for key, _ in leaves(masks) if isinstance(masks, h5py.Group) else ():
        listed = {entry.decode() if isinstance(entry, bytes) else str(entry) for entry in read(file, f"mask/{key}")}
        chosen.masks[key] = np.array([name in listed for name in names])
        if absent := len(listed - set(names)):
            chosen.left_out[f"mask/{key}"] = f"{absent} of the {len(listed)} demos that it lists are not in the file"
    return chosen if filter_key is None else _under(chosen, filter_key)


def _under(chosen: Chosen, key: str) -> Chosen:
    if key not in chosen.masks:
        known = ", ".join(sorted(chosen.masks)) or "none"
        raise DataError(f"expected one of the file's filter keys ({known}), got {key!r}")
    mask = chosen.masks[key]
    if not mask.any():
        raise DataError(f"expected demos of this file in mask/{key}, it lists none of them: choose another filter key")
    if f"mask/{key}" in chosen.left_out:
        warnings.warn(f"mask/{key}: {chosen.left_out[f'mask/{key}']}", stacklevel=6)
    names = [name for name, keep in zip(chosen.names, mask, strict=True) if keep]
    return Chosen(names, {other: values[mask] for other, values in chosen.masks.items()}, chosen.left_out)


def _with_steps(chosen: Chosen, demos: list[_Demo]) -> list[_Demo]:
    """The demos that have a step; the others are left out."""
    kept = np.array([demo.length > 0 for demo in demos])
    if not kept.any():
        raise DataError(f"expected a demo with at least 1 step, got none in {len(demos)} demos")
    chosen.left_out |= {f"data/{demo.name}": "no steps" for demo in demos if not demo.length}
    chosen.masks = {key: mask[kept] for key, mask in chosen.masks.items()}
    return [demo for demo in demos if demo.length]


class _Demo:
    """One demo: what of it can be read, and why the rest cannot."""

    def __init__(self, group: h5py.Group, name: str):
        self.group, self.name = member(group, name), name
        actions = member(self.group, "actions") if isinstance(self.group, h5py.Group) else None
        if not isinstance(actions, h5py.Dataset) or not isinstance(member(self.group, "obs"), h5py.Group):
            raise DataError(
                f"expected {name} with 'obs' and 'actions', got {sorted(self.group)}: "
                "extract observations first (robomimic's dataset_states_to_obs.py)"
            )
        if actions.ndim not in (1, 2):
            raise DataError(f"expected actions (T, Da) in {name}, got {actions.shape}")
        self.length, self.dim = len(actions), actions.shape[1] if actions.ndim == 2 else 1
        if (length := int(self.group.attrs.get("num_samples", self.length))) != self.length:
            raise DataError(f"expected {length} actions in {self.group.name} (num_samples), got {self.length}")
        found = dict(leaves(self.group))
        self.refused = {path: why for path, values in found.items() if (why := self._why_not(path, values))}
        usable = {path: values for path, values in found.items() if path not in self.refused}
        self.shapes = {p.removeprefix("obs/"): v.shape[1:] or (1,) for p, v in usable.items() if p.startswith("obs/")}
        logged = {path.removeprefix("log/"): path for path in usable if path.startswith("log/")}
        self.log = logged | {name: name for name in OUTCOMES if name in usable}
        self._sizes = {path: values.size * values.dtype.itemsize for path, values in usable.items()}
        self.states = usable["states"].shape if "states" in usable else None

    def _why_not(self, path: str, values: h5py.Dataset | str) -> str:
        """Why an array is not read, or ""."""
        top = path.split("/")[0]
        if isinstance(values, str):
            return values
        if top not in (*ARRAYS, "obs", "log"):
            return "nothing learns from it"
        if top in ARRAYS and path != top:
            return "a group of arrays, expected one array"
        if top != "log" and values.dtype.kind not in "biuf":
            return "text" if h5py.check_string_dtype(values.dtype) else f"of type {values.dtype}"
        rows = len(values) if values.ndim else 0
        if rows not in (self.length, self.length + 1, 1 if path == "states" else self.length):
            return f"{rows} rows for {self.length} actions"
        if (path in OUTCOMES or top == "log") and prod(values.shape[1:]) != 1:
            return f"{values.shape[1:]} numbers a step, expected one"
        return "no numbers in it" if not values.size else ""

    def has(self, path: str) -> bool:
        """Whether an array can be read."""
        return path in self._sizes

    def says(self, name: str) -> Any:
        """An attribute of the demo as it is read, None if it has none or a strange one."""
        return ATTRIBUTES[name](self.group.attrs.get(name))

    def size(self, spec: Spec, log: Sequence[str]) -> int:
        """Bytes in memory of what is read."""
        read = {"actions", "states", *(f"obs/{key}" for key in spec.obs), *(self.log[name] for name in log)}
        return sum(size for path, size in self._sizes.items() if path in read)

    def episode(self, spec: Spec, log: Sequence[str], states: str | None, told: Sequence[str]) -> Episode:
        said = {name: self.says(name) for name in told if name in ATTRIBUTES}
        recorded = None if states is None else self._rows("states")
        return Episode(
            obs={key: self._rows(f"obs/{key}") for key in spec.obs},
            action=self._rows("actions").reshape(self.length, self.dim),
            executed=self._rows("actions_executed").reshape(self.length, -1) if "actions_executed" in told else None,
            initial_state=None if recorded is None else recorded[0],
            success=said.get("success"),
            seed=said.get("seed"),
            states=recorded if states == "every" else None,
            model_xml=said.get("model_file"),
            log={name: _text_or_numbers(self._rows(self.log[name]).reshape(self.length)) for name in log},
        )

    def _rows(self, path: str) -> np.ndarray:
        """Without what was seen after the last action."""
        return read(self.group, path)[: self.length]


def _left_out(demos: Sequence[_Demo]) -> dict[str, str]:
    """What is not read -> why; of a group that nothing is read of, only its name."""
    said: dict[str, str] = {}
    for demo in demos:
        for path, why in demo.refused.items():
            said.setdefault(path if path.startswith(("obs/", "log/")) else path.split("/")[0], why)
        for key in demos[0].shapes.keys() - demo.shapes.keys():
            said.setdefault(f"obs/{key}", f"not in {demo.name}")
        for key in demo.shapes.keys() - demos[0].shapes.keys():
            said.setdefault(f"obs/{key}", f"not in {demos[0].name}")
        for name in set(demo.log.values()) ^ set(demos[0].log.values()):
            said.setdefault(name, "not in every demo")
        if demo.states is not None and demo.states[0] == demo.length + 1:
            said.setdefault("states[-1]", "the state after the last action")
    return said


def _states(demos: Sequence[_Demo], left_out: dict[str, str]) -> str | None:
    """Whether states are read of `every` step or the `first`; None: not in all demos, or not of one size."""
    shapes = [demo.states for demo in demos]
    if None in shapes:
        if any(shapes):
            left_out.setdefault("states", "not in every demo")
        return None
    if len({shape[1:] for shape in shapes}) > 1:
        left_out.setdefault("states", "of several sizes: the demos have other models")
        return None
    every = all(shape[0] >= demo.length for shape, demo in zip(shapes, demos, strict=True))
    return "every" if every else "first"


def _told_of_all(demos: Sequence[_Demo], left_out: dict[str, str]) -> list[str]:
    """Which of what a demo need not have all demos have, as it should be."""
    told = []
    for name in (*ATTRIBUTES, "actions_executed"):
        having = [(demo.says(name) is not None) if name in ATTRIBUTES else demo.has(name) for demo in demos]
        strange = [demo.group.attrs[name] for demo in demos if name in demo.group.attrs and demo.says(name) is None]
        if all(having):
            told.append(name)
        elif strange or any(having):
            why = f"{str(strange[0])[:40]!r} is not what it should be" if strange else "not in every demo"
            left_out.setdefault(name, why)
    return told


def _flag(value: Any) -> bool | None:
    """true or false, also as 1 or 0; None for all else, such as the text "False"."""
    return bool(value) if np.ndim(value) == 0 and not isinstance(value, str | bytes) and value in (0, 1) else None


def _whole(value: Any) -> int | None:
    """A whole number of 64 bits; None for all else."""
    if np.ndim(value) or not isinstance(value, int | float | np.integer | np.floating) or value != value // 1:
        return None
    return int(value) if abs(value) < 2**63 else None


def _text(value: Any) -> str | None:
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return str(value) if isinstance(value, str) else None


ATTRIBUTES = {"success": _flag, "seed": _whole, "model_file": _text}  # of a demo, and how they are read


def _text_or_numbers(values: np.ndarray) -> np.ndarray:
    """Texts as numpy's own."""
    return np.array([text.decode() for text in values]) if values.dtype.kind == "O" else values


def _attribute(group: h5py.Group, name: str) -> Any:
    """An attribute that holds JSON; None if there is none."""
    try:
        return json.loads(group.attrs.get(name, "null"))
    except (json.JSONDecodeError, TypeError) as error:
        raise DataError(f"expected JSON in the attribute {name!r} of 'data', got {error!r}") from error


def _spec(group: h5py.Group, shapes: dict[str, tuple[int, ...]], dim: int) -> Spec:
    """What the file says of its numbers: in our own words if we wrote it, else by env_args."""
    told = _attribute(group, "spec")
    if told is None:
        return infer_spec(_attribute(group, "env_args") or {}, shapes, dim)
    try:
        spec = Spec.from_dict(told)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"expected a complete spec in the attributes of 'data', got {error!r}") from error
    in_order = sorted(shapes, key=lambda key: list(spec.obs).index(key) if key in spec.obs else len(spec.obs))
    return replace(spec, obs={key: shapes[key] for key in in_order})


def infer_spec(env_args: Mapping, obs: dict[str, tuple[int, ...]], action_dim: int) -> Spec:
    """What robomimic's env_args say about observations of these shapes and actions; unknown stays "unknown"."""
    if not isinstance(env_args, Mapping) or not isinstance(env_args.get("env_kwargs") or {}, Mapping):
        raise DataError(f"expected env_args and env_kwargs as JSON objects, got {str(env_args)[:60]!r}")
    kwargs = env_args.get("env_kwargs") or {}
    simulator = {}
    if env_args.get("type") == ROBOSUITE_TYPE:
        simulator["robosuite"] = str(env_args.get("env_version") or ROBOSUITE_BEFORE_ENV_VERSION)
    hz = kwargs.get("control_freq")
    known = isinstance(hz, int | float) and not isinstance(hz, bool) and 0 < hz < np.inf
    return Spec(
        obs=obs,
        action=_action_spec(arm_controller(kwargs.get("controller_configs")), action_dim),
        hz=float(hz) if known else None,
        env_args=dict(env_args),
        simulator=simulator,
    )


def arm_controller(configs: Mapping | None) -> Mapping:
    """The (first) arm's part of controller_configs: the whole of it until robosuite 1.4, nested since 1.5."""
    if isinstance(configs, Sequence) and not isinstance(configs, str):
        configs = configs[0] if configs else None
    configs = configs if isinstance(configs, Mapping) else {}  # the name of a file says nothing here
    parts = configs.get("body_parts", configs)
    parts = parts.get("arms", parts) if isinstance(parts, Mapping) else {}
    arm = (parts.get("right") or parts.get("left")) if "body_parts" in configs else configs
    return arm if isinstance(arm, Mapping) else {}


def _action_spec(controller: Mapping, dim: int) -> ActionSpec:
    kind = str(controller.get("type") or "")
    frame = "eef" if kind.startswith(("OSC", "IK")) else "joint" if kind.startswith("JOINT") else "unknown"
    if "input_type" in controller:  # since robosuite 1.5, which ignores control_delta
        mode = controller["input_type"] if controller["input_type"] in MEANINGS["mode"] else "unknown"
    else:
        said = controller.get("control_delta")
        mode = ("delta" if said else "absolute") if isinstance(said, bool) else "unknown"
    rotation = {"OSC_POSE": "axis_angle", "OSC_POSITION": "none"}.get(kind, "unknown")
    low, high = controller.get("input_min"), controller.get("input_max")
    scaled = mode == "delta" and all(isinstance(limit, int | float) for limit in (low, high)) and low < high
    if not scaled:  # absolute targets are in metres and radians: the file states no range
        low, high = -np.inf, np.inf
    return ActionSpec(dim, frame, mode, rotation, "close_positive" if kind else "unknown", float(low), float(high))
