"""What tests of finished runs share."""

import pytest
import toy_arm  # noqa: F401  registers environments
from tiny_runs import compose_train

from ebt_policy.train.run import train_run


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """A finished run, which no test changes."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_run(compose_train(folder, store, "task.env=ToyArm-v0", updates=2))
    return folder
