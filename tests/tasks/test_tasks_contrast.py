"""Objectives that train the energy's value overfit one batch: single actions of two numbers, from one observation.

Contrastive divergence from the data is not among them: its short walks never visit what lies far from the data.
"""

from dataclasses import replace

import pytest
from small_policies import error, make_policy, overfit, windows
from tiny_runs import SPEC, make_store

ONE_ACTION = "horizon={observe: 1, predict: 1, execute: 1}"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("contrast") / "data.zarr.zip"
    return make_store(path, replace(SPEC, action=replace(SPEC.action, dim=2)))


@pytest.mark.parametrize("method", ["ebt_nce", "ebt_pcd", "ebt_dsm", "ibc", "ibc_langevin", "ibc_hard"])
def test_one_batch_is_overfit(method, store):
    # divergence learns less steadily: after 300 updates at 5e-3 its error was 0.01 or 0.5, as rounding would have it
    budget = {"updates": 900, "lr": 2e-3} if method == "ebt_pcd" else {"updates": 300, "lr": 5e-3}
    policy = overfit(make_policy(store, method, ONE_ACTION), store, **budget)
    assert error(policy, windows(store, 1, 1, 1)) < 0.1  # actions of zeros have 0.68
