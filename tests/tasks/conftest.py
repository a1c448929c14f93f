"""Every method, trained once on one batch."""

import pytest
from small_policies import METHODS, make_policy, overfit, windows


@pytest.fixture(scope="session")
def batch(store):
    return windows(store)


@pytest.fixture(scope="session")
def trained(store):
    """Method -> a policy that has learned one batch."""
    return {method: overfit(make_policy(store, method), store, 500 if method != "ebt" else 200) for method in METHODS}
