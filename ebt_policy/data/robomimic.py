"""robomimic's HDF5: reads the official low-dim files, writes files that robomimic's SequenceDataset reads.

data              attrs: env_args (JSON), total
data/demo_<i>     attrs: num_samples, model_file    actions (T, Da)   obs/<key> (T, *shape)   states (T, S)
mask/<key>        names of the demos under this filter key
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ebt_policy.data.episodes import DataError, Episode, EpisodeData, check_numbers, from_episodes, with_obs_keys
from ebt_policy.data.spec import ActionSpec, Spec

# Until env_args named the version, robomimic's datasets were recorded with this release of robosuite.
ROBOSUITE_BEFORE_ENV_VERSION = "1.2"
ROBOSUITE_TYPE = 1  # env_args["type"] of a robosuite environment


def read_robomimic(path: Path, filter_key: str | None = None, obs_keys: Sequence[str] | None = None) -> EpisodeData:
    """Reads demos in numerical order (demo_2 before demo_10); raises DataError as `open_episodes` says."""
    with h5py.File(path, "r") as file:
        return _read(file, filter_key, obs_keys)


def write_robomimic(path: str | os.PathLike, data: EpisodeData) -> None:
    """Writes the layout above, all or nothing; an existing file is replaced.

    `actions` is the label; what was executed goes into `actions_executed` where it is known. `states` has every step
    where they were recorded, else one row, the initial state, else it is left out. `rewards` and `dones`, which
    robomimic's training asks for, are 1 at the last step (the reward only where success is known). Success, seed and
    our spec have no place in robomimic's layout: they are extra attributes. Floats are float64, as robomimic's are.
    """
    check_numbers(data)
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(partial, "w") as file:
            group = file.create_group("data")
            group.attrs["env_args"] = json.dumps(_env_args(data.spec))
            group.attrs["total"] = int(data.ends[-1])
            group.attrs["spec"] = json.dumps(data.spec.to_dict())
            for i in range(len(data)):
                _write_demo(group.create_group(f"demo_{i}"), data.episode(i))
            for key, chosen in data.masks.items():
                file[f"mask/{key}"] = np.array([f"demo_{i}" for i in np.flatnonzero(chosen)], dtype="S")
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"could not write {path}: {error}; nothing was changed there") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def infer_spec(env_args: Mapping, obs: dict[str, tuple[int, ...]], action_dim: int) -> Spec:
    """What robomimic's env_args say about observations of these shapes and actions; unknown stays "unknown"."""
    kwargs = env_args.get("env_kwargs") or {}
    simulator = {}
    if env_args.get("type") == ROBOSUITE_TYPE:
        simulator["robosuite"] = str(env_args.get("env_version") or ROBOSUITE_BEFORE_ENV_VERSION)
    hz = kwargs.get("control_freq")
    return Spec(
        obs=obs,
        action=_action_spec(_arm_controller(kwargs.get("controller_configs")), action_dim),
        hz=None if hz is None else float(hz),
        env_args=dict(env_args),
        simulator=simulator,
    )


def _read(file: h5py.File, filter_key: str | None, obs_keys: Sequence[str] | None) -> EpisodeData:
    if "data" not in file:
        raise DataError(f"expected robomimic's group 'data', got {sorted(file) or 'an empty file'}")
    group = file["data"]
    names = sorted((n for n in group if re.fullmatch(r"demo_\d+", n)), key=lambda name: int(name.split("_")[1]))
    if not names:
        raise DataError("expected groups data/demo_0, data/demo_1, ..., there are no episodes")
    masks = {key: _mask(key, file["mask"][key], names) for key in file.get("mask", {})}
    spec = with_obs_keys(_stored_spec(group, names[0]), obs_keys)
    if filter_key is not None and filter_key not in masks:
        known = ", ".join(sorted(masks)) or "none"
        raise DataError(f"expected one of the file's filter keys ({known}), got {filter_key!r}")
    chosen = np.ones(len(names), bool) if filter_key is None else masks[filter_key]
    every_step = all(_has_every_state(group[name]) for name in names)
    episodes = (_read_demo(group[n], spec, every_step) for n, keep in zip(names, chosen, strict=True) if keep)
    return from_episodes(spec, episodes, {key: mask[chosen] for key, mask in masks.items()})


def _mask(key: str, entries: h5py.Dataset, names: list[str]) -> np.ndarray:
    """(E,) bool from a list of demo names."""
    listed = {entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries[()]}
    unknown = sorted(listed - set(names))
    if unknown:
        raise DataError(f"expected mask/{key} to list demos of this file, got {unknown[0]!r}")
    return np.array([name in listed for name in names])


def _stored_spec(group: h5py.Group, first: str) -> Spec:
    demo = group[first]
    if "obs" not in demo or "actions" not in demo:
        raise DataError(
            f"expected {first} with 'obs' and 'actions', got {sorted(demo)}: "
            "extract observations first (robomimic's dataset_states_to_obs.py)"
        )
    try:
        env_args = json.loads(group.attrs.get("env_args", "{}"))
        written_by_us = json.loads(group.attrs.get("spec", "null"))
        stored = None if written_by_us is None else Spec.from_dict(written_by_us)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"expected JSON in the attributes of 'data', got {error!r}") from error
    shapes = {key: tuple(values.shape[1:]) for key, values in demo["obs"].items()}
    if demo["actions"].ndim != 2:
        raise DataError(f"expected actions (T, Da) in {first}, got {demo['actions'].shape}")
    if stored is None:
        return infer_spec(env_args, shapes, demo["actions"].shape[1])
    in_order = sorted(shapes, key=lambda key: list(stored.obs).index(key) if key in stored.obs else len(stored.obs))
    return replace(stored, obs={key: shapes[key] for key in in_order})


def _has_every_state(demo: h5py.Group) -> bool:
    return "states" in demo and "actions" in demo and len(demo["states"]) == len(demo["actions"])


def _read_demo(demo: h5py.Group, spec: Spec, every_step: bool) -> Episode:
    missing = [key for key in spec.obs if f"obs/{key}" not in demo] + ["actions"] * ("actions" not in demo)
    if missing:
        raise DataError(f"expected {missing} in {demo.name}, they are missing")
    length = demo.attrs.get("num_samples", len(demo["actions"]))
    if length != len(demo["actions"]):
        raise DataError(f"expected {length} actions in {demo.name} (num_samples), got {len(demo['actions'])}")
    states = demo["states"][()] if "states" in demo else None
    if states is not None and len(states) not in (1, length):
        raise DataError(f"expected {length} states in {demo.name}, got {len(states)}")
    success, seed = demo.attrs.get("success"), demo.attrs.get("seed")
    return Episode(
        obs={key: demo[f"obs/{key}"][()] for key in spec.obs},
        action=demo["actions"][()],
        executed=demo["actions_executed"][()] if "actions_executed" in demo else None,
        initial_state=None if states is None else states[0],
        success=None if success is None else bool(success),
        seed=None if seed is None else int(seed),
        states=states if every_step else None,
        model_xml=demo.attrs.get("model_file"),
    )


def _write_demo(demo: h5py.Group, episode: Episode):
    last = np.arange(len(episode)) == len(episode) - 1
    arrays = {f"obs/{key}": v if v.dtype == np.uint8 else v.astype(np.float64) for key, v in episode.obs.items()}
    arrays["actions"] = episode.action.astype(np.float64)
    arrays["rewards"] = (last & bool(episode.success)).astype(np.float64)
    arrays["dones"] = last.astype(np.int64)
    if episode.executed is not None:
        arrays["actions_executed"] = episode.executed.astype(np.float64)
    if episode.states is not None:
        arrays["states"] = episode.states
    elif episode.initial_state is not None:
        arrays["states"] = episode.initial_state[None]
    for name, values in arrays.items():
        demo.create_dataset(name, data=values, fletcher32=True)  # a checksum: damage is noticed on reading
    attributes = {"success": episode.success, "seed": episode.seed, "model_file": episode.model_xml}
    demo.attrs.update({name: value for name, value in attributes.items() if value is not None})
    demo.attrs["num_samples"] = len(episode)


def _env_args(spec: Spec) -> dict:
    """robomimic's own tools expect these three names to exist."""
    return {"env_name": "unknown", "type": ROBOSUITE_TYPE, "env_kwargs": {}} | spec.env_args


def _arm_controller(configs: Mapping | None) -> Mapping:
    """The (first) arm's part of controller_configs: the whole of it until robosuite 1.4, nested since 1.5."""
    if isinstance(configs, Sequence) and not isinstance(configs, str):
        configs = configs[0] if configs else None
    parts = (configs or {}).get("body_parts")
    if parts is None:
        return configs or {}
    parts = parts.get("arms", parts)
    return parts.get("right") or parts.get("left") or {}


def _action_spec(controller: Mapping, dim: int) -> ActionSpec:
    kind = controller.get("type", "")
    frame = "eef" if kind.startswith(("OSC", "IK")) else "joint" if kind.startswith("JOINT") else "unknown"
    if "input_type" in controller:  # since robosuite 1.5, which ignores control_delta
        mode = controller["input_type"]
    else:
        mode = {True: "delta", False: "absolute", None: "unknown"}[controller.get("control_delta")]
    rotation = {"OSC_POSE": "axis_angle", "OSC_POSITION": "none"}.get(kind, "unknown")
    low, high = controller.get("input_min"), controller.get("input_max")
    scaled = mode == "delta" and all(isinstance(limit, int | float) for limit in (low, high))
    if not scaled:  # absolute targets are in metres and radians: the file states no range
        low, high = -np.inf, np.inf
    return ActionSpec(dim, frame, mode, rotation, "close_positive" if kind else "unknown", float(low), float(high))
