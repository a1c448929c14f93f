"""Each oddity is found where it was put, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
from demo_samples import make_episode

from ebt_policy.data.episodes import Episode, from_episodes
from ebt_policy.data.oddities import find_oddities, quaternion_columns
from ebt_policy.data.spec import ActionSpec, Spec


def turning(length, sign=1.0):
    """Quaternions xyzw of a slow turn about z."""
    half = np.linspace(0.1, 0.6, length)[:, None]
    return sign * np.hstack([0 * half, 0 * half, np.sin(half), np.cos(half)])


def plain(n=6, length=40):
    """Demonstrations with nothing odd in them."""
    rng = np.random.default_rng(0)
    return [
        Episode(
            {"pos": rng.normal(size=(length, 3)), "quat": turning(length) + 0.0}, rng.uniform(-0.9, 0.9, (length, 2))
        )
        for _ in range(n)
    ]


def oddities(episodes):
    spec = Spec({"pos": (3,), "quat": (4,)}, ActionSpec(2))
    return [
        s for s in find_oddities(from_episodes(spec, episodes)) if not s.startswith("quat: constant in dimension 0")
    ]


def change(episodes, i, **obs_or_action):
    action = obs_or_action.pop("action", episodes[i].action)
    return [*episodes[:i], replace(episodes[i], obs=episodes[i].obs | obs_or_action, action=action), *episodes[i + 1 :]]


def test_plain_demonstrations_have_none():
    assert oddities(plain()) == []


def test_a_constant_dimension():
    episodes = [replace(e, obs=e.obs | {"pos": e.obs["pos"] * [1, 0, 1] + [0, 0.8, 0]}) for e in plain()]
    assert oddities(episodes) == ["pos: constant in dimension 1 (0.8)"]


def test_saturated_actions_but_not_a_gripper():
    episodes = plain()
    episodes = [
        replace(e, action=np.stack([np.where(np.arange(40) < 10, 1.0, e.action[:, 0]), np.sign(e.action[:, 1])], 1))
        for e in episodes
    ]
    assert oddities(episodes) == ["action: dimension 0 is at a limit of its range in 25% of the steps"]


def test_a_short_episode():
    episodes = plain()
    short = replace(episodes[2], obs={k: v[:5] for k, v in episodes[2].obs.items()}, action=episodes[2].action[:5])
    assert oddities([*episodes, short])[0] == "1 episodes have less than 30% of the median 40 steps: 6 (5)"


def test_a_copied_episode():
    episodes = plain()
    assert oddities([*episodes, episodes[3]]) == ["1 episodes repeat another one: 6 = 3"]


def test_a_quaternion_that_jumps_and_one_that_starts_on_the_other_side():
    jump = turning(40) * np.where(np.arange(40) < 20, 1, -1)[:, None]
    assert oddities(change(plain(), 1, quat=jump))[0].startswith("quat: the quaternion changes sign in 1 steps")
    assert oddities(change(plain(), 1, quat=turning(40, -1.0))) == [
        "quat: 1 of 6 episodes start in the opposite half of the quaternions"
    ]


def test_a_quaternion_inside_a_longer_observation_is_found():
    rng = np.random.default_rng(0)
    values = np.hstack([rng.normal(size=(40, 3)), turning(40), rng.normal(size=(40, 3))])
    assert quaternion_columns("object", values) == [3]
    assert quaternion_columns("object", np.zeros((40, 10))) == []


def test_nan_is_reported_with_its_place():
    action = plain()[1].action.copy()
    action[7, 1] = np.nan
    found = oddities(change(plain(), 1, action=action))
    assert found[0] == "action: 1 numbers are NaN or infinite"
    assert "episode 1, step 7, dimension 1" in found[1]


def test_failures_and_noise_are_told(spec):
    rng = np.random.default_rng(0)
    episodes = [make_episode(rng, 30, success=i > 0) for i in range(4)]
    found = find_oddities(from_episodes(spec, episodes))
    assert "1 of 4 episodes are marked as failures" in found
    assert any(s.startswith("executed differs from action in 100% of the steps") for s in found)


def test_a_spike_is_named_with_its_place():
    pos = plain()[2].obs["pos"].copy()
    pos[7, 1] = 1000
    (found,) = oddities(change(plain(), 2, pos=pos))
    assert found.startswith("pos: dimension 1 is 1000 at episode 2, step 7 (1 such numbers), all others are in [-")


def test_several_units_in_one_array_are_named():
    episodes = [replace(e, obs=e.obs | {"pos": e.obs["pos"] * [0.01, 0.01, 850]}) for e in plain()]
    (found,) = oddities(episodes)
    assert found.startswith("pos: dimension 2 spans") and found.endswith("several units in one array?")


def test_an_unknown_range_has_no_limits_to_be_at():
    episodes = [replace(e, action=np.sign(e.action)) for e in plain()]
    spec = Spec({"pos": (3,), "quat": (4,)}, ActionSpec(2, low=-np.inf, high=np.inf))
    assert not [s for s in find_oddities(from_episodes(spec, episodes)) if "limit" in s]


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_data_sets_do_not_break_it(spec, length):
    find_oddities(from_episodes(spec, [make_episode(np.random.default_rng(0), length)]))
