"""PushT: what counts as covered, how the block moves, and an expert that gets it there."""

from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.polygons import area, coverage, overlap, placed, rectangle
from envs.push_t import PushTEnv, PushTExpert, error, t_block
from envs.pushing import Pose, push

T = [rectangle(0.5j, 2 + 0.5j), rectangle(-1.5j, 0.5 + 1.5j)]  # a bar of 4 x 1 above a stem of 1 x 3: area 7
GOAL_STATE = [0, 0, 0, np.pi / 4, 0.2, 0.2, 0, 0, 0, 0, 0, 0]  # time, block, tool, velocities, best coverage


@pytest.fixture(scope="module")
def env():
    return PushTEnv()


@pytest.mark.parametrize(
    ("moved", "turned", "expected"),
    [
        (0, 0, 1),
        (0.5, 0, 5 / 7),  # half the stem's width to the side: 3.5 of the bar, 1.5 of the stem
        (1, 0, 3 / 7),  # the bar alone
        (-1j, 0, 3 / 7),  # down: 2 of the stem, and 1 where the bar is on the stem
        (0.5j, 0, 5 / 7),
        (0, np.pi, 2 / 7),  # upside down about the joint of bar and stem: they lie on each other
        (10, 0, 0),
        (4, 0, 0),  # edge to edge
    ],
)
def test_coverage_is_what_a_drawing_says(moved, turned, expected):
    shape = [placed(part, moved, np.exp(1j * turned)) for part in T]
    assert coverage(shape, T) == pytest.approx(expected, abs=1e-9)


def test_squares_an_eighth_of_a_turn_apart_share_an_octagon():
    square = rectangle(0, 0.5 + 0.5j)
    shared = overlap(placed(square, 0, np.exp(0.25j * np.pi)), square)
    assert len(shared) == 8
    assert area(shared) == pytest.approx(2 * (np.sqrt(2) - 1))


def test_an_overlap_is_as_large_as_counting_points_says():
    rng = np.random.default_rng(0)
    one = placed(rectangle(0.2j, 0.6 + 0.4j), 0.1, np.exp(0.7j))
    other = rectangle(0.1, 0.5 + 0.3j)
    points = rng.uniform(-1, 1, 200_000) + 1j * rng.uniform(-1, 1, 200_000)

    def inside(polygon):
        edges = zip(polygon, polygon[1:] + polygon[:1], strict=True)
        return np.all([((q - p).conjugate() * (points - p)).imag > 0 for p, q in edges], axis=0)

    assert area(overlap(one, other)) == pytest.approx(4 * (inside(one) & inside(other)).mean(), abs=0.01)


def test_at_the_goal_the_task_is_solved_and_far_from_it_nothing_is_covered(env):
    _, info = env.reset(options={"state": GOAL_STATE})
    assert info["report"] == {"coverage": pytest.approx(1), "max_coverage": pytest.approx(1), "success": True}
    _, reward, *_, info = env.step(np.array([0.8, 0.8]))
    assert reward == 1 and info["success"]
    far = [0, 0.15, -0.15, *GOAL_STATE[3:]]
    assert env.reset(options={"state": far})[1]["report"] == {"coverage": 0, "max_coverage": 0, "success": False}


def test_the_best_coverage_is_remembered_when_the_block_is_pushed_away(env):
    env.reset(options={"state": [0, 0, 0, np.pi / 4, 0, 0.15, *GOAL_STATE[6:]]})
    infos = [env.step(np.array([0, y]))[4] for y in np.linspace(0.5, -0.4, 12)]
    assert infos[-1]["coverage"] < 0.5 and not infos[-1]["success"]
    assert infos[-1]["max_coverage"] == max(info["coverage"] for info in [infos[0], *infos]) > 0.95


def test_the_simplest_model_of_a_push_is_where_mujoco_ends_too(env):
    """Off centre, so that the block turns, and slowly, as the model has no speed."""
    env.reset(options={"state": [0, 0.0, 0.0, 0.0, 0.04, 0.1, 0, 0, 0, 0, 0, 0]})
    block, pose = t_block(env._model), Pose(0j, 1 + 0j)
    for y in np.linspace(0.1, 0.02, 80):
        seen, *_ = env.step(np.array([0.04, y]) / 0.25)
        pose = push(block, pose, 0.04 + 1j * y, 0.015)
    at, turn = complex(*seen["block"][:2]), complex(*seen["block"][2:])
    assert abs(np.angle(turn)) > 0.3
    assert abs(at - pose.at) < 0.002
    assert abs(np.angle(turn / pose.turn)) < 0.05


def test_a_push_through_the_centre_turns_nothing_and_moves_as_far_as_the_tool():
    block = t_block(PushTEnv()._model)
    pose = push(block, Pose(0j, 1 + 0j), 0.05j, 0.015)  # the bar's upper edge is at 0.0407 m
    assert pose.turn == 1
    assert pose.at == pytest.approx(-1j * (0.015 - (0.05 - 0.040714286)))


def test_the_drag_on_turning_in_the_scene_is_that_of_the_model(env):
    slide, _, turn = env._model.dof_damping[:3]
    assert turn / slide == pytest.approx(t_block(env._model).spread, rel=1e-5)


def test_the_error_is_the_root_mean_square_way_of_the_blocks_points():
    block = t_block(PushTEnv()._model)
    rng = np.random.default_rng(0)
    share = block.halves.real * block.halves.imag
    part = rng.choice(2, 100_000, p=share / share.sum())
    half = block.halves[part]
    points = (
        block.centres[part] + rng.uniform(-1, 1, len(part)) * half.real + 1j * rng.uniform(-1, 1, len(part)) * half.imag
    )
    pose, goal = Pose(0.03 - 0.02j, np.exp(2j)), Pose(0j, np.exp(0.25j * np.pi))
    measured = np.sqrt((abs(pose.outside(points) - goal.outside(points)) ** 2).mean())
    assert error(block, pose) == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_expert_solves_the_task_and_leaves_it_solved(env, seed):
    seen, _ = env.reset(seed=seed)
    expert = PushTExpert()
    expert.reset(np.random.default_rng(seed))
    coverages = []
    for _ in range(200):
        seen, *_, info = env.step(expert.act(seen))
        coverages.append(info["coverage"])
    assert min(coverages[-50:]) >= 0.95


def test_the_expert_fetches_the_block_from_a_corner_that_no_episode_begins_in(env):
    env.reset(options={"state": [0, 0.18, 0.18, 2.5, 0, 0, *GOAL_STATE[6:]]})
    expert = PushTExpert()
    expert.reset(np.random.default_rng(0))
    assert any(env.step(expert.act(env._observe()))[4]["success"] for _ in range(150))


def test_where_the_block_is_home_the_expert_stays(env):
    seen, _ = env.reset(options={"state": GOAL_STATE})
    expert = PushTExpert()
    expert.reset(np.random.default_rng(0))
    np.testing.assert_allclose(0.25 * expert.act(seen), seen["tool"], atol=1e-7)


def test_from_pixels_the_block_is_seen_and_not_told():
    with closing(gym.make("envs:PushTPixels-v0", size=48)) as pixels:
        check_env(pixels.unwrapped, skip_render_check=True)
        (first, _), (other, _) = pixels.reset(seed=3), pixels.reset(seed=4)
        assert set(first) == {"tool", "image"} and pixels.observation_space.contains(first)
        assert first["image"].shape == (48, 48, 3) and (first["image"] != other["image"]).any()
