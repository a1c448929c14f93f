"""Which executed actions nobody could foresee: noise and stops, and neither rounding nor a limit at work."""

from dataclasses import replace

import numpy as np
import pytest

from ebt_policy.data.disturbed import disturbed_steps, share_that_counts
from ebt_policy.data.episodes import Episode, from_episodes
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.data.windows import WindowDataset

ASKED = [0, 0, 1, 1, 1, 1, 0, 0]


def demonstrations(asked, executed, scale=1.0):
    action, executed = (scale * np.array(v, np.float32)[:, None] for v in (asked, executed))
    spec = Spec({"x": (1,)}, ActionSpec(1, mode="delta", low=-np.inf, high=np.inf))
    return from_episodes(spec, [Episode({"x": np.zeros((len(action), 1))}, action, executed=executed)])


@pytest.mark.parametrize("scale", [1.0, 850.0, 0.01])
@pytest.mark.parametrize(
    ("executed", "at"),
    [
        (ASKED, []),
        ([0, 0, 0.3, 0.6, 0.9, 1, 0.7, 0.4], []),  # a limit on acceleration
        ([0, 0, 0, 0, 0, 0, 0, 0], []),  # a wall
        ([0, 0, 0, 0, 1, 1, 1, 0], []),  # a gripper that waits
        ([0, 0, 1, 0.5, 1, 1, 0, 0], [3]),  # a hand that was knocked, and then let go on
        ([0, 0, 1, 1, 0.6, 0.2, 0, 0], [4, 5]),  # a stop
        ([0, 0.3, 1, 1, 1.3, 1, 0, 0], [1, 4]),  # noise
        ([0, 0, 0, 1, 1, 1, 1, 0], []),  # a delay
        ([-0.2, 0, 1, 1, 1, 1, 0, 0], [0]),  # an episode begins at rest
    ],
)
def test_what_lies_off_the_way_to_the_label_is_a_disturbance(executed, at, scale):
    data = demonstrations(ASKED, executed, scale)
    assert np.flatnonzero(disturbed_steps(data)).tolist() == at


def test_a_limit_is_at_work_from_the_first_step_on():
    data = demonstrations([1, 1, 1, 1], [0.25, 0.5, 0.75, 1])
    assert not disturbed_steps(data).any()


@pytest.mark.parametrize("label", [0.0, -1.0])
def test_a_label_that_never_changes_is_compared_with_a_tolerance_too(label):
    executed = label + 1e-5 * np.random.default_rng(0).normal(size=50)
    assert not disturbed_steps(demonstrations([label] * 50, executed)).any()


@pytest.mark.parametrize("change", [lambda a: np.nextafter(a, np.float32(2)), lambda a: a.round(4), lambda a: a - 1e-4])
def test_rounding_is_no_disturbance(change):
    action = np.random.default_rng(0).uniform(-1, 1, 50).astype(np.float32)
    data = demonstrations(action, change(action))
    assert not disturbed_steps(data).any() and share_that_counts(data, 16) == 1


def test_an_episode_does_not_go_on_from_the_one_before(data):
    executed = data.action.copy()
    executed[data.starts] += 0.5
    assert np.flatnonzero(disturbed_steps(replace(data, executed=executed))).tolist() == data.starts.tolist()


def test_the_share_of_labels_that_count_is_that_of_the_windows():
    rng = np.random.default_rng(0)
    data = demonstrations(rng.normal(size=60), rng.normal(size=60))
    foreseen = WindowDataset(data, observe=1, predict=16).foreseen
    assert share_that_counts(data, 16) == pytest.approx(foreseen.float().mean().item())
