"""diffusion_policy's zarr (folder or zip): data/<key> (sum T, *shape), one of them `action`; meta/episode_ends (E,)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import zarr

from ebt_policy.data.episodes import DataError, EpisodeData, as_observation, with_obs_keys
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.data.zarr_array import read_array


def read_diffusion_policy(
    root: zarr.Group, filter_key: str | None = None, obs_keys: Sequence[str] | None = None
) -> EpisodeData:
    """Every array of data/ but `action` is an observation. The format says nothing of units, rate, range or simulator,
    so these stay unknown and the range infinite; it has no filter keys."""
    if filter_key is not None:
        raise DataError(f"expected no filter key (this format has none), got {filter_key!r}")
    arrays = dict(root["data"].arrays())
    if "action" not in arrays or arrays["action"].ndim != 2:
        raise DataError(f"expected data/action (sum T, Da), got {sorted(arrays)}")
    spec = Spec(
        obs={key: tuple(array.shape[1:]) for key, array in arrays.items() if key != "action"},
        action=ActionSpec(arrays["action"].shape[1], low=-np.inf, high=np.inf),
    )
    spec = with_obs_keys(spec, obs_keys)
    return EpisodeData(
        spec=spec,
        obs={key: as_observation(read_array(root, f"data/{key}")) for key in spec.obs},
        action=read_array(root, "data/action").astype(np.float32),
        ends=read_array(root, "meta/episode_ends").astype(np.int64),
    )
