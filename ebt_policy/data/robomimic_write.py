"""Writes robomimic's HDF5: files that its SequenceDataset reads, and copies of its files with some of the demos."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from ebt_policy.data.episodes import DataError, Episode, EpisodeData, check_numbers
from ebt_policy.data.hdf5 import address, member, open_hdf5
from ebt_policy.data.robomimic import OUTCOMES, ROBOSUITE_TYPE, choose
from ebt_policy.data.spec import Spec


def write_robomimic(path: str | os.PathLike, data: EpisodeData) -> None:
    """Writes robomimic's layout, all or nothing; an existing file is replaced.

    `actions` is the label; what was executed goes into `actions_executed` where it is known. `states` has every step
    where they were recorded, else one row, the initial state, else it is left out. `rewards` and `dones` are those of
    the log. Without them, as robomimic's training asks for both, they are made up, 1 at the last step (the reward only
    where success is known), and the attribute `made_up` names them. Success, seed, log and our spec have no place in
    robomimic's layout: they are attributes and a group of their own. Floats are float64, as robomimic's are.
    """
    check_numbers(data)
    with _new_file(Path(path)) as file:
        group = file.create_group("data")
        group.attrs["env_args"] = json.dumps(_env_args(data.spec))
        group.attrs["total"] = int(data.ends[-1])
        group.attrs["spec"] = json.dumps(data.spec.to_dict())
        if invented := made_up(data):
            group.attrs["made_up"] = json.dumps(invented)
        for i in range(len(data)):
            _write_demo(group.create_group(f"demo_{i}"), data.episode(i))
        for key, chosen in data.masks.items():
            file[f"mask/{key}"] = np.array([f"demo_{i}" for i in np.flatnonzero(chosen)], dtype="S")


def made_up(data: EpisodeData) -> list[str]:
    """Which of rewards and dones `write_robomimic` has to invent."""
    return [name for name in OUTCOMES if name not in data.log]


def copy_robomimic(
    source: Path, target: Path, spec: Spec | None, filter_key: str | None = None, obs_keys: Sequence[str] | None = None
) -> None:
    """Copies demos of one file into another with all that they hold, bit for bit, under their old names.

    spec: what is stated of them, None: nothing beyond the file. obs_keys: of `obs` and `next_obs` only these.
    """
    with open_hdf5(source) as old, _new_file(target) as new:
        chosen = choose(old, filter_key)
        new.attrs.update(old.attrs.items())
        group = new.create_group("data")
        group.attrs.update(old["data"].attrs.items())
        if spec is not None:
            group.attrs["spec"] = json.dumps(spec.to_dict())
        for name in chosen.names:
            _copy_demo(member(old, f"data/{name}"), group.create_group(name), obs_keys)
        group.attrs["total"] = sum(len(group[name]["actions"]) for name in chosen.names)
        for key, mask in chosen.masks.items():
            kept = [name for name, keep in zip(chosen.names, mask, strict=True) if keep]
            new[f"mask/{key}"] = np.array(kept, dtype="S")


def _copy_demo(
    old: h5py.Group, new: h5py.Group, obs_keys: Sequence[str] | None, under: str = "", seen: set[int] | None = None
) -> None:
    """Attributes, arrays and groups, each group once; no links, which would lead to what is not copied."""
    seen = set() if seen is None else seen
    seen.add(address(old))
    new.attrs.update(old.attrs.items())
    for name in old:
        path = under + name
        top, _, key = path.partition("/")
        wanted = obs_keys is None or top not in ("obs", "next_obs") or key in obs_keys
        found = old[name] if isinstance(old.get(name, getlink=True), h5py.HardLink) else None
        if isinstance(found, h5py.Group) and address(found) not in seen:
            _copy_demo(found, new.create_group(name), obs_keys, f"{path}/", seen)
        elif isinstance(found, h5py.Dataset) and wanted and not (found.external or found.is_virtual):
            old.copy(found, new, name=name)


@contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    """A file that gets its name when it is complete; DataError if it cannot be written, and nothing is changed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(partial, "w") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"could not write {path}: {error}; nothing was changed there") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _write_demo(demo: h5py.Group, episode: Episode) -> None:
    last = np.arange(len(episode)) == len(episode) - 1
    arrays = {f"obs/{key}": v if v.dtype == np.uint8 else v.astype(np.float64) for key, v in episode.obs.items()}
    arrays["actions"] = episode.action.astype(np.float64)
    arrays["rewards"] = (last & bool(episode.success)).astype(np.float64)
    arrays["dones"] = last.astype(np.int64)
    arrays |= {name if name in OUTCOMES else f"log/{name}": values for name, values in episode.log.items()}
    if episode.executed is not None:
        arrays["actions_executed"] = episode.executed.astype(np.float64)
    if episode.states is not None:
        arrays["states"] = episode.states
    elif episode.initial_state is not None:
        arrays["states"] = episode.initial_state[None]
    for name, values in arrays.items():
        if values.dtype.kind == "U":
            demo.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
        else:
            demo.create_dataset(name, data=values, fletcher32=True)  # a checksum: damage is noticed on reading
    attributes = {"success": episode.success, "seed": episode.seed, "model_file": episode.model_xml}
    demo.attrs.update({name: value for name, value in attributes.items() if value is not None})
    demo.attrs["num_samples"] = len(episode)


def _env_args(spec: Spec) -> dict:
    """robomimic's own tools expect these three names to exist."""
    return {"env_name": "unknown", "type": ROBOSUITE_TYPE, "env_kwargs": {}} | spec.env_args
