"""What several test areas share: one small store of synthetic demonstrations."""

import pytest
import torch
from tiny_runs import make_store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Path of a store with Lift's observation keys and action dimension: 8 short episodes."""
    return make_store(tmp_path_factory.mktemp("demos") / "demos.zarr.zip")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums are the same in every process, and workers do not fight for cores."""
    torch.set_num_threads(1)
