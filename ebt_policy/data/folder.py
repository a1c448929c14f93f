"""A folder of files to learn from: which of them are read, and that the others are counted and named."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

NAMED = 3  # of those that are left out


def listed(folder: Path, endings: Collection[str]) -> tuple[list[Path], list[Path]]:
    """Files below a folder: those whose names end so (.txt), in whatever case, and all others; both sorted.

    Others are hidden ones too (.DS_Store, ._a.txt, .git/a.txt), and what is no file: a link to nowhere, or to a folder,
    which is not entered.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    read = [path for path in paths if path.suffix.lower() in endings and path.is_file() and not _hidden(folder, path)]
    return read, sorted(set(paths) - set(read))


def tell_left_out(folder: Path, paths: Collection[Path]) -> None:
    """A warning that says how many files are not read, and the names of the first."""
    if paths:
        names = [str(path.relative_to(folder)) for path in paths]
        more = ", ..." if len(names) > NAMED else ""
        number = f"{len(names)} files were" if len(names) > 1 else "1 file was"
        warnings.warn(f"{number} left out of {folder}: {', '.join(names[:NAMED])}{more}", stacklevel=3)


def _hidden(folder: Path, path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
