"""diffusion_policy's zarr (folder or zip): data/<key> (sum T, *shape), one of them `action`; meta/episode_ends (E,)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import zarr

from ebt_policy.data.episodes import DataError, EpisodeData, as_observation, to_float32, with_obs_keys
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.data.zarr_array import array_paths, check_total, metadata, read_array, why_not


def read_diffusion_policy(
    root: zarr.Group, filter_key: str | None = None, obs_keys: Sequence[str] | None = None
) -> EpisodeData:
    """Every array of data/ but `action` is an observation, those in folders (data/obs/<key>) as well.

    The format says nothing of units, rate, range or simulator, so these stay unknown and the range infinite; it has no
    filter keys. What is no number for every step is in `left_out`.
    """
    if filter_key is not None:
        raise DataError(f"expected no filter key (this format has none), got {filter_key!r}")
    paths = _keys(array_paths(root, "data"))
    if "action" not in paths or len(metadata(root, "data/action")["shape"]) not in (1, 2):
        raise DataError(f"expected data/action (sum T, Da), got {sorted(paths)}")
    ends = _whole(read_array(root, "meta/episode_ends"))
    action = read_array(root, "data/action")
    refused = {key: _why_not(root, f"data/{path}", len(action)) for key, path in paths.items()}
    left_out = {f"obs/{key}": why for key, why in refused.items() if why and key != "action"}
    left_out |= {
        f"meta/{name}": "nothing learns from it" for name in array_paths(root, "meta") if name != "episode_ends"
    }
    shapes = {
        key: tuple(metadata(root, f"data/{path}")["shape"][1:]) or (1,)
        for key, path in paths.items()
        if key != "action" and not refused[key]
    }
    dim = action.shape[1] if action.ndim == 2 else 1
    spec = with_obs_keys(Spec(shapes, ActionSpec(dim, low=-np.inf, high=np.inf)), obs_keys, left_out)
    check_total(root, [f"data/{paths[key]}" for key in spec.obs])
    return EpisodeData(
        spec=spec,
        obs={key: as_observation(read_array(root, f"data/{paths[key]}"), f"obs/{key}") for key in spec.obs},
        action=to_float32(action.reshape(-1, dim), "action"),
        ends=ends,
        left_out=left_out,
    )


def _keys(paths: Sequence[str]) -> dict[str, str]:
    """What arrays below data/ are called -> their paths: without a folder for observations, if that is no other's."""
    return {path if path.removeprefix("obs/") in paths else path.removeprefix("obs/"): path for path in paths} | (
        {"action": "action"} if "action" in paths else {}
    )


def _whole(ends: np.ndarray) -> np.ndarray:
    """(E,) int64; DataError for ends that are no whole numbers."""
    if ends.dtype.kind not in "iuf" or (ends.dtype.kind == "f" and not (ends == np.round(ends)).all()):
        raise DataError(f"expected whole numbers in meta/episode_ends, got {ends.ravel()[:4].tolist()}")
    return ends.ravel().astype(np.int64)


def _why_not(root: zarr.Group, name: str, steps: int) -> str:
    """Why an array is no observation, or ""."""
    if why := why_not(root, name):
        return why
    found = metadata(root, name)
    if found["dtype"].endswith("O") or np.dtype(found["dtype"]).kind not in "biuf":
        return "text"
    rows = found["shape"][0] if found["shape"] else 0
    return "" if rows == steps else f"{rows} rows for {steps} actions"
