"""Converts demonstrations between formats: python scripts/convert.py IN OUT [filter_key=train] [hz=20] ..."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ebt_policy.data.episodes import DataError, EpisodeData
from ebt_policy.data.robomimic_write import copy_robomimic, made_up, write_robomimic
from ebt_policy.data.spec import MEANINGS
from ebt_policy.data.store import format_of, open_episodes, write_data

WRITERS = {".zarr.zip": write_data, ".zarr": write_data, ".hdf5": write_robomimic}
NUMBERS = ("hz", "low", "high")
SETTINGS = ("filter_key", "obs_keys", *NUMBERS, *MEANINGS)


def main():
    parser = argparse.ArgumentParser(
        description="Converts demonstrations; what is written is read back and compared, what is not carried is said.",
        epilog="example: python scripts/convert.py low_dim.hdf5 lift.zarr.zip filter_key=train",
    )
    parser.add_argument("input", type=Path, help="our store, robomimic HDF5 or diffusion_policy zarr (folder or zip)")
    parser.add_argument("output", type=Path, help="a new name: .zarr.zip or .zarr (our store), .hdf5 (robomimic)")
    words = "; ".join(f"{name}={'|'.join(meanings)}" for name, meanings in MEANINGS.items())
    parser.add_argument(
        "settings",
        nargs="*",
        help="filter_key=NAME: only these episodes; obs_keys=A,B: only these observations; and what you know and the "
        f"file does not say: hz=HERTZ; of actions low=NUMBER, high=NUMBER; {words}",
    )
    arguments = parser.parse_args()
    try:
        data, notes = convert(arguments.input, arguments.output, **settings(arguments.settings))
    except (DataError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(*(f"note: {note}" for note in notes), sep="\n", end="\n" * bool(notes))
    steps = int(data.ends[-1])
    print(f"wrote {arguments.output}: {len(data)} episodes, {steps} steps, sha256 {data.content_hash}")


def settings(words: list[str]) -> dict[str, Any]:
    """["filter_key=train", "hz=20", "mode=absolute"] -> {"filter_key": "train", "hz": 20.0, "action": {"mode":
    "absolute"}}; DataError for any other name."""
    if bare := [word for word in words if "=" not in word]:
        raise DataError(f"expected settings as name=value, got {bare[0]!r}")
    given: dict[str, Any] = dict(word.split("=", 1) for word in words)
    if unknown := sorted(given.keys() - set(SETTINGS)):
        raise DataError(f"expected settings of {', '.join(SETTINGS)}, as name=value, got {unknown[0]!r}")
    for name in NUMBERS:
        if name in given:
            given[name] = number(name, given[name])
    if "obs_keys" in given:
        given["obs_keys"] = given["obs_keys"].split(",")
    action = {name: given.pop(name) for name in ("low", "high", *MEANINGS) if name in given}
    return given | ({"action": action} if action else {})


def number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"expected a number for {name}, got {text!r}") from error


def convert(source: Path, target: Path, **reading: Any) -> tuple[EpisodeData, list[str]]:
    """Writes the episodes of `source` to `target` in the format of its ending, never over something that exists;
    returns them, and what is not carried over. `reading`: of `open_episodes`."""
    write = next((writer for ending, writer in WRITERS.items() if target.name.endswith(ending)), None)
    if write is None:
        raise DataError(f"expected an output that ends in {', '.join(WRITERS)}, got {target.name!r}")
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise DataError(f"expected an output beside {source}, {target} is inside of it: choose another folder")
    if target.exists():
        raise DataError(f"expected a new output, {target} exists: choose another name or delete it")
    data = open_episodes(source, **reading)
    notes = [f"left out: {name} ({why})" for name, why in data.left_out.items()]
    if write is write_robomimic and format_of(source) == "robomimic":
        stated = data.spec if reading.keys() & {"hz", "action"} else None
        copy_robomimic(source, target, stated, reading.get("filter_key"), reading.get("obs_keys"))
        kept = "all of each demonstration" if reading.get("obs_keys") is None else "what was asked for"
        others = [note for note in notes if note.startswith(("left out: data/", "left out: mask/"))]
        notes = [f"{kept} is copied, bit for bit", *others]
    else:
        write(target, data)
        if write is write_data:
            notes.append("floating point numbers of observations and actions are kept as float32")
        elif invented := made_up(data):
            notes.append(f"made up, as the source has none and robomimic asks for them: {', '.join(invented)}")
    if open_episodes(target).content_hash != data.content_hash:
        raise DataError(f"{target} reads back differently from {source}: do not use it, and report this")
    return data, notes


if __name__ == "__main__":
    main()
