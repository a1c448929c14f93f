"""Safe ways into an HDF5 file: what lies outside of it is not read, what cannot be read is named."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np

from ebt_policy.data.episodes import DataError
from ebt_policy.data.foreign import check_size

LINKS = 16  # that lead from one to the next; more is a loop
LOCKED = "unable to lock file"  # what HDF5 says of a file that another process holds


def open_hdf5(path, mode: str = "r") -> h5py.File:
    """The file; DataError if another process holds it."""
    try:
        return h5py.File(path, mode)
    except OSError as error:
        if LOCKED in str(error):
            raise DataError(
                "another process writes this file: wait until it is closed there (or copy the file and read the copy)"
            ) from error
        raise


def member(group: h5py.Group, name: str, links: int = LINKS) -> h5py.Group | h5py.Dataset | None:
    """What is called `name` (a path) in a group, None if there is nothing; DataError if it leads out of the file."""
    found = group
    for part in filter(None, name.split("/")):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise DataError(f"expected {_path(found, part)} inside of this file, it is a link into another one")
        if isinstance(link, h5py.SoftLink) and not links:
            raise DataError(f"expected {_path(found, part)} to be something, it is a link that leads to itself")
        if isinstance(link, h5py.SoftLink):
            found = member(found.file if link.path.startswith("/") else found, link.path, links - 1)
        else:
            found = None if link is None else found[part]
    if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
        raise DataError(f"expected the numbers of {found.name} inside of this file, they lie in another one")
    return found


def leaves(
    group: h5py.Group, under: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, h5py.Dataset | str]]:
    """Every array in a group and in the groups in it, by its path, or why it cannot be read. A group is entered once,
    whatever links lead to it."""
    seen = set() if seen is None else seen
    seen.add(address(group))
    for name in group:
        path = under + name
        try:
            found = member(group, name)
        except DataError as error:
            yield path, str(error)
            continue
        if isinstance(found, h5py.Dataset):
            yield path, found
        elif isinstance(found, h5py.Group) and address(found) not in seen:
            yield from leaves(found, f"{path}/", seen)
        else:
            yield path, "a group that has been read" if isinstance(found, h5py.Group) else "no array"


def address(group: h5py.Group) -> int:
    """Where a group lies in its file, the same under all its names."""
    return h5py.h5o.get_info(group.id).addr


def read(group: h5py.Group, name: str) -> np.ndarray:
    """The array `name` of a group, whole; DataError if it is missing, a group, or in a codec that is not installed."""
    found = member(group, name)
    if not isinstance(found, h5py.Dataset):
        what = "a group of arrays" if isinstance(found, h5py.Group) else "nothing"
        raise DataError(f"expected an array {_path(group, name)}, there is {what}")
    check_size(found.name, found.size * found.dtype.itemsize, found.id.get_storage_size())
    try:
        return found[()]
    except OSError as error:
        if "filter" in str(error) and "checksum" not in str(error):
            raise DataError(
                f"{found.name} is compressed with a filter that is not installed ({error}): install it (pip install "
                "hdf5plugin), or leave it out with obs_keys"
            ) from error
        raise


def _path(group: h5py.Group, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}"
