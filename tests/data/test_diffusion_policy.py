"""diffusion_policy's zarr, as a folder and as a zip."""

import numpy as np
import pytest
import zarr

from ebt_policy.data.spec import ActionSpec
from ebt_policy.data.store import open_episodes


@pytest.mark.parametrize("name", ["pusht.zarr", "pusht.zarr.zip"])
def test_episodes_and_shapes_are_read_and_the_unknown_stays_unknown(pusht, name):
    data = open_episodes(pusht(name))
    assert data.lengths.tolist() == [10, 4, 16]
    assert data.spec.obs == {"img": (4, 4, 3), "keypoint": (9, 2), "state": (5,)}
    assert data.spec.action == ActionSpec(2, low=-np.inf, high=np.inf)
    assert data.spec.action.mode == data.spec.action.frame == "unknown"
    assert data.spec.hz is None and data.spec.simulator == {}


def test_folder_and_zip_have_the_same_content(pusht):
    assert open_episodes(pusht("a.zarr")).content_hash == open_episodes(pusht("a.zip")).content_hash


def test_images_that_nobody_asked_for_are_not_read(pusht):
    path = pusht("pusht.zarr")
    for chunk in (path / "data" / "img").glob("[0-9]*"):
        chunk.write_bytes(b"damaged")
    data = open_episodes(path, obs_keys=["state"])
    np.testing.assert_array_equal(data.obs["state"], zarr.open(str(path))["data/state"][...])
