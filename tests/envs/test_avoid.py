"""Avoid: ways round the posts, collisions, and the entropy that tells whether ways were lost."""

import numpy as np
import pytest

from envs.avoid import AvoidEnv, AvoidExpert, mode_entropy, way

ROWS = [(-0.11, [0.0]), (0.0, [-0.065, 0.065]), (0.11, [-0.13, 0.0, 0.13])]


@pytest.fixture(scope="module")
def env():
    return AvoidEnv()


def follow(env, *points):
    """Drives through points (m) in small steps from the seeded start; the last info."""
    seen, info = env.reset(seed=0)
    for point in points:
        for _ in range(60):
            way = np.array(point) - seen["tool"]
            seen, *_, info = env.step((seen["tool"] + way * min(1, 0.02 / max(np.hypot(*way), 1e-9))) / 0.25)
    return info


def test_the_scene_has_the_rows_that_the_tests_think_of(env):
    assert env._rows == ROWS


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([(0, -0.2), (-0.06, -0.11), (-0.06, -0.05)], "0"),
        ([(0, -0.2), (-0.06, -0.1), (0, 0.01), (0.06, 0.12), (0.06, 0.2)], "012"),
        ([(0.2, -0.2), (0.2, 0.2)], "123"),  # outside of them all
        ([(0.01, -0.12), (0.09, 0.12)], "112"),  # one long move: where it crosses a row is what counts
        ([(0.1, -0.2), (0.1, -0.05), (0.1, -0.2), (-0.1, -0.2), (-0.1, -0.05)], "0"),  # back, and the other way
        ([(0.1, -0.2), (0.1, 0.05), (0.1, -0.05), (0, -0.05), (0, 0.05)], "11"),
        ([(0, -0.2), (0.2, -0.15)], ""),
    ],
)
def test_a_way_is_the_gaps_gone_through(path, expected):
    assert way(np.array(path), ROWS) == expected


def test_the_way_in_info_is_that_of_the_path(env):
    info = follow(env, (-0.065, -0.11), (0.0, 0.0), (0.065, 0.11), (0.065, 0.22))
    assert info["report"] == {"collided": False, "way": "012", "success": True}


def test_a_post_that_was_touched_spoils_the_episode_for_good(env):
    assert follow(env, (0.0, -0.1))["collided"]  # straight into the first post
    info = follow(env, (0.0, -0.1), (-0.065, -0.2), (-0.065, -0.11), (-0.13, 0.0), (-0.195, 0.11), (-0.195, 0.22))
    assert info["report"] == {"collided": True, "way": "000", "success": False}
    assert not env.reset(seed=0)[1]["collided"]


def test_a_tool_beside_a_post_has_not_collided(env):
    """Radii of 25 and 15 mm: centres 45 mm apart leave 5 mm."""
    assert not follow(env, (-0.045, -0.2), (-0.045, -0.08))["collided"]


def test_the_entropy_counts_ways_in_bits():
    assert mode_entropy(["012"] * 5) == 0
    assert mode_entropy(["0", "1"]) == 1
    assert mode_entropy([f"{i:03b}" for i in range(8)] * 3) == pytest.approx(3)
    assert mode_entropy(["0", "0", "0", "1"]) == pytest.approx(0.8113, abs=1e-4)
    with pytest.raises(ValueError, match="at least 1 episode, got none"):
        mode_entropy([])


def test_the_expert_takes_every_way_and_touches_nothing(env):
    expert, ways = AvoidExpert(), []
    for seed in range(64):
        seen, _ = env.reset(seed=seed)
        expert.reset(np.random.default_rng(seed))
        for _ in range(60):
            seen, *_, info = env.step(expert.act(seen))
        ways += [info["way"]] * info["success"]
    assert len(ways) >= 62
    assert len(set(ways)) == 8
    assert mode_entropy(ways) > 2.8
