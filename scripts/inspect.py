"""Prints what is in a file of demonstrations: python scripts/inspect.py FILE"""

# Python puts this folder first on sys.path for every script in it, so that their `import inspect` (numpy and
# torch do that) finds this file. It then puts the standard library's module in its own place and does nothing else.
if __name__ == "inspect":
    import os
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    stdlib = PathFinder.find_spec("inspect", [os.path.dirname(os.__file__)])
    sys.modules["inspect"] = module_from_spec(stdlib)
    stdlib.loader.exec_module(sys.modules["inspect"])


def main():
    import argparse
    import sys
    from pathlib import Path

    from ebt_policy.data.describe import describe
    from ebt_policy.data.episodes import DataError

    parser = argparse.ArgumentParser(description="Prints what is in a file of demonstrations, and what is odd in it.")
    parser.add_argument("file", type=Path, help="our store (*.zarr.zip, *.zarr), robomimic HDF5, diffusion_policy zarr")
    parser.add_argument("--filter-key", help="only the episodes under this filter key")
    parser.add_argument("--obs-keys", help="only these observations, A,B, where others cannot be read")
    arguments = parser.parse_args()
    try:
        print(describe(arguments.file, arguments.filter_key, arguments.obs_keys and arguments.obs_keys.split(",")))
    except DataError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
