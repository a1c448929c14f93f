"""What a file from elsewhere must not do: grow without bound, or make us read another file. Both formats ask here."""

from __future__ import annotations

from ebt_policy.data.episodes import DataError

LARGE = 1 << 30  # bytes: below, nothing that expands can hurt
EXPANSION = 200  # times its size on disk that an array may take in memory
METADATA = 64 << 20  # bytes of a text that describes arrays


def check_size(name: str, nbytes: int, stored: int) -> None:
    """DataError for an array of `nbytes` in memory that is next to nothing on disk (a bomb, or never written)."""
    if nbytes > LARGE and nbytes > EXPANSION * stored:
        raise DataError(
            f"expected {name} to hold what it says, it takes {nbytes / 1e9:.3g} GB in memory and {stored / 1e3:.3g} kB "
            "on disk: do not open it, or leave it out with obs_keys"
        )
