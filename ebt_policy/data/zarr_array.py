"""Arrays of a zarr v2 store: found and judged by their metadata, read only if that runs no code and loses nothing.

Opening an array makes zarr decode its fill value with the array's own codecs, so what an array is made of is read
from its .zarray, as JSON, before zarr sees it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.storage import listdir

from ebt_policy.data.episodes import DataError
from ebt_policy.data.foreign import METADATA, check_size

TEXT = "vlen-utf8"  # the one codec of objects that makes nothing but texts
NUMBERS = "biufSU"  # kinds of dtype that hold no objects


def array_paths(root: zarr.Group, under: str) -> list[str]:
    """Paths below the folder `under` of every array in it, however deep, sorted."""
    found = []
    for name in sorted(listdir(root.store, under)):
        _check_inside(root, f"{under}/{name}")
        if f"{under}/{name}/.zarray" in root.store:
            found.append(name)
        elif not name.startswith("."):
            found += [f"{name}/{path}" for path in array_paths(root, f"{under}/{name}")]
    return found


def metadata(root: zarr.Group, name: str) -> dict[str, Any]:
    """The .zarray of `name`; DataError if there is none or it is not one."""
    key = f"{name}/.zarray"
    if key not in root.store:
        raise DataError(f"expected an array called {name!r}, there is {'a folder' if name in root else 'none'}")
    raw = root.store[key]
    if len(raw) > METADATA:
        raise DataError(f"expected {name}/.zarray of some hundred bytes, got {len(raw)}: do not open it")
    found = json.loads(raw)
    if not isinstance(found, dict) or not isinstance(found.get("shape"), list) or "dtype" not in found:
        raise DataError(f"expected shape and dtype in {name}/.zarray, got {str(found)[:60]}")
    return found


def why_not(root: zarr.Group, name: str) -> str:
    """Why the array `name` cannot be read here, or ""; from its metadata alone."""
    found = metadata(root, name)
    codecs = [codec for codec in (*(found.get("filters") or ()), found.get("compressor")) if codec]
    names = [str(codec.get("id") if isinstance(codec, dict) else codec) for codec in codecs]
    dtype = found["dtype"] if isinstance(found["dtype"], str) else "V"
    if dtype.endswith("O") and names[:1] != [TEXT] or "pickle" in names:
        return "it is pickled, and reading it could run code: do not open it"
    if not dtype.endswith("O") and np.dtype(dtype).kind not in NUMBERS:
        return f"of type {found['dtype']}, neither numbers nor text"
    if missing := [name for name in names if name not in numcodecs.registry.codec_registry and not _loads(name)]:
        return f"stored with the codec {missing[0]}, which is not installed: install it, or leave it out with obs_keys"
    return ""


def read_array(root: zarr.Group, name: str) -> np.ndarray:
    """The array `name` as numpy; DataError if it is missing, incomplete, damaged, or unpickles on reading."""
    if why := why_not(root, name):
        raise DataError(f"expected plain arrays, {name!r} cannot be read: {why}")
    try:
        array = root[name]
        if array.nchunks_initialized < array.nchunks:
            lost = array.nchunks - array.nchunks_initialized
            raise DataError(f"expected {array.nchunks} chunks of {name!r}, {lost} are missing: the copy is incomplete")
        check_size(name, prod(array.shape) * array.dtype.itemsize, array.nbytes_stored)
        for folder, folders, files in os.walk(Path(root.store.path) / name) if _on_disk(root) else ():
            for entry in (*folders, *files):
                _check_inside(root, os.path.relpath(Path(folder) / entry, root.store.path))
        return np.ascontiguousarray(array[...]) if array.ndim else array[...]
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"expected to read the array {name!r}, got: {error}") from error


def _loads(codec: str) -> bool:
    """Whether an installed package brings the codec."""
    try:
        numcodecs.get_codec({"id": codec})
    except ValueError:
        return False
    except Exception:  # it is there and wants settings
        return True
    return True


def check_total(root: zarr.Group, names: Sequence[str]) -> None:
    """DataError for arrays that are together next to nothing on disk and huge in memory."""
    arrays = [root[name] for name in names if not why_not(root, name)]
    check_size("all that is read", sum(a.nbytes for a in arrays), sum(a.nbytes_stored for a in arrays))


def _on_disk(root: zarr.Group) -> bool:
    return isinstance(root.store, zarr.DirectoryStore)


def _check_inside(root: zarr.Group, name: str) -> None:
    """DataError for a link in a store on the disk: the bytes of another file would be read, or a folder without end."""
    if _on_disk(root) and (Path(root.store.path) / name).is_symlink():
        raise DataError(f"expected {name!r} inside of the store, it is a link: copy what it leads to in its place")
