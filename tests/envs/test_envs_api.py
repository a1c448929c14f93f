"""The Gymnasium interface, what an environment says about itself, and its pictures."""

import json

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.osc import ArmControl
from envs.render import Renderer, working_backend
from envs.robosuite_env import RobosuiteEnv

SIZES = {"lift": 10, "can": 14, "square": 14}


def test_gymnasium_finds_nothing_wrong(environments, task):
    check_env(environments[task].unwrapped, skip_render_check=True)


def test_observations_have_robomimics_keys(environments, task):
    shapes = {key: space.shape for key, space in environments[task].observation_space.items()}
    assert shapes == {
        "robot0_eef_pos": (3,),
        "robot0_eef_quat": (4,),
        "robot0_gripper_qpos": (2,),
        "object": (SIZES[task],),
    }


def test_poses_are_relative_to_where_the_hand_is_now(lift):
    lift.reset(seed=0)
    for _ in range(5):
        seen, *_ = lift.step(np.array([1, 0, -1, 0, 0, 0, -1.0]))
    np.testing.assert_allclose(seen["object"][:3] - seen["robot0_eef_pos"], seen["object"][7:], atol=1e-6)


def test_an_episode_ends_by_time_alone(environments):
    env = environments["lift"]
    env.reset(seed=0)
    ends = [env.step(np.zeros(7))[2:4] for _ in range(400)]
    assert ends[:-1] == [(False, False)] * 399
    assert ends[-1] == (False, True)


def test_the_arm_moves_as_under_robosuites_own_control(environments, task):
    env = environments[task].unwrapped
    actions = np.random.default_rng(1).uniform(-1.2, 1.2, (15, 7))
    trajectories = []
    for control in (env._arm, None):
        kept, env._arm = env._arm, control
        env.reset(seed=2)
        trajectories.append([env.step(action) and env.state() for action in actions])
        env._arm = kept
    assert ArmControl.applies_to(env.sim_env.robots)
    assert np.array_equal(*trajectories)


def test_an_environment_describes_itself_in_plain_data(environments, task):
    described = json.loads(json.dumps(environments[task].unwrapped.spec_dict()))
    assert described["hz"] == 20.0
    assert described["action"]["dim"] == 7
    assert described["action"]["frame"] == "eef"
    assert described["env_args"]["type"] == 1
    assert set(described["simulator"]) == {"robosuite", "mujoco"}


def test_frames_show_something_and_change_with_the_scene(environments, task):
    env = environments[task]
    env.reset(seed=0)
    before = env.render()
    for _ in range(10):
        env.step(np.array([1, 0, 0, 0, 0, 0, 1.0]))
    after = env.render()
    assert before.shape == (64, 64, 3)
    assert before.dtype == np.uint8
    assert before.std() > 10
    assert np.abs(before.astype(int) - after).max() > 30


def test_an_unknown_camera_is_refused_by_name(lift):
    with pytest.raises(ValueError, match="expected a camera of .*agentview.*, got 'nowhere'"):
        Renderer(lift._model, 64, "nowhere")


def test_without_graphics_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(RuntimeError, match="nonsense: .*install EGL .* or OSMesa"):
        working_backend.__wrapped__()


def test_a_window_is_refused():
    with pytest.raises(ValueError, match="got 'human'"):
        RobosuiteEnv("Lift", render_mode="human")
