"""Our file format, a zarr v2 group in one zip file or in a folder, and `open_episodes` for every format that is read.

    root attrs    format, version, spec, obs_keys, content_hash
    per step      obs/<key> (sum T, *shape)   action, executed (sum T, Da)   states (sum T, S)   log/<name> (sum T,)
    per episode   episode_ends, success, seed (E,)   initial_state (E, S)   model_xml (E,)   mask/<filter key> (E,)

Only obs, action and episode_ends are always there.
"""

from __future__ import annotations

import os
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numcodecs
import numpy as np
import zarr

from ebt_policy.data import diffusion_policy, robomimic
from ebt_policy.data.episodes import (
    DataError,
    Episode,
    EpisodeData,
    as_observation,
    check_numbers,
    from_episodes,
    with_obs_keys,
)
from ebt_policy.data.foreign import check_size
from ebt_policy.data.spec import Spec
from ebt_policy.data.zarr_array import array_paths, check_total, read_array

__all__ = [
    "DataError",
    "Episode",
    "EpisodeData",
    "append_episode",
    "check_appendable",
    "format_of",
    "open_episodes",
    "read_episodes",
    "write_data",
    "write_store",
]

FORMAT, VERSION = "ebt_policy.episodes", 1
CHUNK_BYTES = 4 << 20
DAMAGE = (  # what the libraries raise over damaged bytes
    *(OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
    *(AssertionError, MemoryError, struct.error, zipfile.BadZipFile, zlib.error, zarr.errors.MetadataError),
)
COMPRESSOR = numcodecs.Blosc("zstd", clevel=7, shuffle=numcodecs.Blosc.SHUFFLE)


def write_store(path: str | os.PathLike, spec: Spec, episodes: Iterable[Episode]) -> str:
    """Writes episodes to `path` (*.zarr.zip, or a folder *.zarr) and returns the content hash; see `write_data`."""
    return write_data(path, from_episodes(spec, episodes))


def write_data(path: str | os.PathLike, data: EpisodeData) -> str:
    """Writes everything in `data` and returns its content hash.

    All or nothing: an existing file is replaced in one rename after everything was written (an existing folder is
    refused), and a failure, such as a full disk, leaves `path` as it was and raises DataError.
    """
    check_numbers(data)
    path = Path(path)
    if not path.name.endswith((".zarr.zip", ".zarr")):
        raise DataError(f"expected a name that ends in .zarr.zip or .zarr, got {path.name!r}")
    if path.is_dir():
        raise DataError(f"expected a new name, the folder {path} exists: delete it first")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = zarr.ZipStore(partial, mode="w") if path.suffix == ".zip" else zarr.DirectoryStore(str(partial))
        try:
            _write_group(store, data)
        finally:
            store.close()
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"could not write {path}: {error.strerror or error}; nothing was changed there") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
    return data.content_hash


def append_episode(path: str | os.PathLike, spec: Spec, episode: Episode) -> str:
    """Adds an episode to the store at `path`, or begins it, and returns the content hash. As `write_data`, all or
    nothing: the file is written anew and replaced in one rename. The episode is in none of the file's filter keys.
    """
    if not Path(path).exists():
        return write_store(path, spec, [episode])
    data = open_episodes(path)
    check_appendable(data, spec, episode)
    masks = {key: np.append(mask, False) for key, mask in data.masks.items()}
    return write_data(path, from_episodes(data.spec, [*map(data.episode, range(len(data))), episode], masks))


def check_appendable(data: EpisodeData, spec: Spec, like: Episode) -> None:
    """DataError unless an episode of `spec` with the fields of `like` fits behind those in `data`: which field, and
    both values."""
    wrong = data.spec.differences(spec)
    for name in ("executed", "initial_state", "success", "seed", "states", "model_xml"):
        has, comes = (value is not None for value in (getattr(data, name), getattr(like, name)))
        if has != comes:
            wrong.append(f"{name}: {'given' if has else 'none'} against {'given' if comes else 'none'}")
    if wrong:
        raise DataError(f"expected episodes as in the file, file against new ones: {'; '.join(wrong)}: use a new file")


def open_episodes(
    path: str | os.PathLike,
    filter_key: str | None = None,
    obs_keys: Sequence[str] | None = None,
    *,
    hz: float | None = None,
    action: Mapping[str, Any] | None = None,
) -> EpisodeData:
    """Reads a whole file into memory: our store, robomimic HDF5 or diffusion_policy zarr (folder or zip).

    `filter_key` keeps only the episodes under that name (robomimic's mask/<name>); `obs_keys` reads only these
    observations, in this order; `hz` and `action` state what the file does not say, as `Spec.stating` has it. Raises
    DataError for a file that is missing, damaged, in another format or without episodes, for an unknown key, for
    numbers that are not finite and for actions outside of the stated range.
    """
    data = read_episodes(path, filter_key, obs_keys, hz=hz, action=action)
    with _naming(Path(path)):
        check_numbers(data)
    return data


def read_episodes(
    path: str | os.PathLike,
    filter_key: str | None = None,
    obs_keys: Sequence[str] | None = None,
    *,
    hz: float | None = None,
    action: Mapping[str, Any] | None = None,
) -> EpisodeData:
    """`open_episodes` without `check_numbers`: to look at a file whose numbers may be bad."""
    path = Path(path)
    layout = format_of(path)
    with _naming(path):
        if layout == "robomimic":
            data = robomimic.read_robomimic(path, filter_key, obs_keys)
        else:
            reader = _read_store if layout == "ebt_policy" else diffusion_policy.read_diffusion_policy
            with _zarr_root(path) as root:
                data = reader(root, filter_key, obs_keys)
    if hz is None and not action:
        return data
    spec = data.spec.stating(hz, action)
    if contradicted := data.spec.contradictions(spec):
        warnings.warn(f"{path}: stated otherwise than the file says: {'; '.join(contradicted)}", stacklevel=2)
    return replace(data, spec=spec)


def format_of(path: str | os.PathLike) -> Literal["ebt_policy", "robomimic", "diffusion_policy"]:
    """Whose layout the file has, by its content; DataError if it is none of them."""
    path = Path(path)
    with _naming(path):
        if not path.exists():
            raise DataError("expected a file or a folder of episodes, there is none")
        if path.is_dir() or zipfile.is_zipfile(path):
            return _zarr_format(path)
        if h5py.is_hdf5(path):
            return "robomimic"
        size = path.stat().st_size
        what = "the file is empty" if size == 0 else f"got {size} bytes of something else, or a truncated file"
        raise DataError(f"expected a zarr folder, a .zarr.zip or a robomimic HDF5, {what}")


@contextmanager
def _naming(path: Path):
    """Every error names the file, and what damaged bytes make the libraries raise becomes a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except PermissionError as error:
        raise DataError(f"{path}: expected a file that may be read, it may not: change its permissions") from error
    except DAMAGE as error:
        raise DataError(
            f"{path}: expected a complete file, got {type(error).__name__}: {error}: copy or record it again"
        ) from error


def _write_group(store, data: EpisodeData):
    root = zarr.group(store)
    attributes = {"format": FORMAT, "version": VERSION, "spec": data.spec.to_dict(), "content_hash": data.content_hash}
    root.attrs.put(attributes | {"obs_keys": list(data.spec.obs)})  # in order: zarr sorts the keys of attributes
    for name, values in data.arrays().items():
        rows = max(1, CHUNK_BYTES // max(1, values[:1].nbytes))
        chunks = (min(len(values), rows), *values.shape[1:])
        order = "F" if values.ndim == 2 else "C"  # a column changes slowly: a seventh less on disk
        root.create_dataset(name, data=values, chunks=chunks, compressor=COMPRESSOR, order=order)
    if data.model_xml is not None:
        text = np.array(data.model_xml, dtype=object)
        root.create_dataset("model_xml", data=text, object_codec=numcodecs.VLenUTF8(), compressor=COMPRESSOR)


@contextmanager
def _zarr_root(path: Path):
    """The root group, read only; DataError if there is none."""
    if path.is_file():
        _check_zip(path)
    with zarr.DirectoryStore(str(path)) if path.is_dir() else zarr.ZipStore(path, mode="r") as store:
        try:
            root = zarr.open_group(store, mode="r")
        except zarr.errors.GroupNotFoundError as error:
            raise DataError("expected a zarr v2 group at the root, found none") from error
        yield root


def _check_zip(path: Path) -> None:
    """DataError if an entry would grow without bound when it is unpacked."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            check_size(entry.filename, entry.file_size, entry.compress_size)


def _zarr_format(path: Path) -> Literal["ebt_policy", "diffusion_policy"]:
    with _zarr_root(path) as root:
        if root.attrs.get("format") == FORMAT:
            return "ebt_policy"
        if "data" in root and "meta/episode_ends/.zarray" in root.store:
            return "diffusion_policy"
        raise DataError(
            f"expected our store (attribute format={FORMAT!r}) or diffusion_policy's layout (data/, "
            f"meta/episode_ends), got a zarr group with {sorted(root.keys()) or 'nothing'} in it"
        )


def _read_store(root: zarr.Group, filter_key: str | None, obs_keys: Sequence[str] | None) -> EpisodeData:
    if root.attrs.get("version") != VERSION:
        raise DataError(f"expected format version {VERSION}, got {root.attrs.get('version')}: update ebt_policy")
    try:
        in_order = with_obs_keys(Spec.from_dict(root.attrs["spec"]), root.attrs.get("obs_keys"))
        spec = with_obs_keys(in_order, obs_keys)
    except (KeyError, TypeError) as error:
        raise DataError(f"expected a complete spec in the attributes, got {error!r}") from error
    names = ("executed", "initial_state", "success", "seed", "states", "model_xml")
    check_total(root, [f"obs/{key}" for key in spec.obs if f"obs/{key}/.zarray" in root.store])
    optional = {name: read_array(root, name) for name in names if f"{name}/.zarray" in root.store}
    if "model_xml" in optional:
        optional["model_xml"] = tuple(str(xml) for xml in optional["model_xml"])
    data = EpisodeData(
        spec=spec,
        obs={key: read_array(root, f"obs/{key}") for key in spec.obs},
        action=read_array(root, "action"),
        ends=read_array(root, "episode_ends"),
        masks={key: read_array(root, f"mask/{key}") for key in array_paths(root, "mask")},
        log={name: read_array(root, f"log/{name}") for name in array_paths(root, "log")},
        **optional,
    )
    stored = root.attrs.get("content_hash")
    if obs_keys is None and data.content_hash != stored:
        raise DataError(f"expected content hash {stored}, got {data.content_hash}: the file was damaged or edited")
    data = _typed(data)
    return data if filter_key is None else data.filtered(filter_key)


def _typed(data: EpisodeData) -> EpisodeData:
    """With observations as they are read today: stores once kept vectors of bytes, and one number a step as (N,)."""
    obs = {key: as_observation(values, f"obs/{key}") for key, values in data.obs.items()}
    shapes = {key: values.shape[1:] for key, values in obs.items()}
    return replace(data, obs=obs, spec=replace(data.spec, obs=shapes))
