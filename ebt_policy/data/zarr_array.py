"""Reads one zarr array whole, without running code from the file and without taking lost chunks for zeros."""

from __future__ import annotations

import numpy as np
import zarr

from ebt_policy.data.episodes import DataError


def read_array(root: zarr.Group, name: str) -> np.ndarray:
    """The array `name` as numpy; DataError if it is missing, incomplete, damaged, or unpickles on reading."""
    try:
        array = root[name]
        if not isinstance(array, zarr.Array):
            raise DataError(f"expected an array called {name!r}, got a folder of arrays")
        codecs = [codec.codec_id for codec in (*(array.filters or ()), array.compressor) if codec]
        if "pickle" in codecs:
            raise DataError(
                f"expected plain arrays, {name!r} is pickled, and reading it could run code: do not open it"
            )
        if array.nchunks_initialized < array.nchunks:
            lost = array.nchunks - array.nchunks_initialized
            raise DataError(f"expected {array.nchunks} chunks of {name!r}, {lost} are missing: the copy is incomplete")
        return np.ascontiguousarray(array[...]) if array.ndim else array[...]
    except KeyError as error:
        raise DataError(f"expected an array called {name!r}, there is none") from error
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"expected to read the array {name!r}, got: {error}") from error
