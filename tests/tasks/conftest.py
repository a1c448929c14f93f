"""Both methods, trained once on one batch."""

import pytest
from small_policies import make_policy, overfit, windows


@pytest.fixture(scope="session")
def batch(store):
    return windows(store)


@pytest.fixture(scope="session")
def trained(store):
    """Method -> a policy that has learned one batch."""
    return {
        "ebt": overfit(make_policy(store, "ebt"), store, 200),
        "diffusion": overfit(make_policy(store, "diffusion"), store, 500),
    }
