"""Converts demonstrations between formats: python scripts/convert.py IN OUT [filter_key=train] [obs_keys=a,b]"""

import argparse
import sys
from pathlib import Path

from ebt_policy.data.episodes import DataError, EpisodeData
from ebt_policy.data.robomimic import write_robomimic
from ebt_policy.data.store import open_episodes, write_data

WRITERS = {".zarr.zip": write_data, ".zarr": write_data, ".hdf5": write_robomimic}


def main():
    parser = argparse.ArgumentParser(
        description="Converts demonstrations; what is written is read back and compared.",
        epilog="example: python scripts/convert.py low_dim.hdf5 lift.zarr.zip filter_key=train",
    )
    parser.add_argument("input", type=Path, help="our store, robomimic HDF5 or diffusion_policy zarr (folder or zip)")
    parser.add_argument("output", type=Path, help="a new name: .zarr.zip or .zarr (our store), .hdf5 (robomimic)")
    parser.add_argument(
        "settings", nargs="*", help="filter_key=NAME: only these episodes; obs_keys=A,B: only these observations"
    )
    arguments = parser.parse_args()
    try:
        data = convert(arguments.input, arguments.output, **settings(arguments.settings))
    except DataError as error:
        sys.exit(f"error: {error}")
    steps = int(data.ends[-1])
    print(f"wrote {arguments.output}: {len(data)} episodes, {steps} steps, sha256 {data.content_hash}")


def settings(words: list[str]) -> dict:
    """["filter_key=train"] -> {"filter_key": "train"}; DataError for any other name."""
    given = dict(word.split("=", 1) if "=" in word else (word, "") for word in words)
    unknown = sorted(given.keys() - {"filter_key", "obs_keys"})
    if unknown:
        raise DataError(f"expected filter_key=NAME or obs_keys=A,B, got {unknown[0]!r}")
    if "obs_keys" in given:
        given["obs_keys"] = given["obs_keys"].split(",")
    return given


def convert(
    source: Path, target: Path, filter_key: str | None = None, obs_keys: list[str] | None = None
) -> EpisodeData:
    """Writes the episodes of `source` to `target` in the format of its ending, never over something that exists."""
    write = next((writer for ending, writer in WRITERS.items() if target.name.endswith(ending)), None)
    if write is None:
        raise DataError(f"expected an output that ends in {', '.join(WRITERS)}, got {target.name!r}")
    if target.exists():
        raise DataError(f"expected a new output, {target} exists: choose another name or delete it")
    data = open_episodes(source, filter_key, obs_keys)
    write(target, data)
    if open_episodes(target).content_hash != data.content_hash:
        raise DataError(f"{target} reads back differently from {source}: do not use it, and report this")
    return data


if __name__ == "__main__":
    main()
