"""Environments from a data set's env_args, old and new."""

import copy
import json

import numpy as np
import pytest
from fingerprint import fingerprint

import envs
from envs.env_args import composite

OLD_ARM = {  # as robosuite up to 1.4 wrote it
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "control_delta": True,
    "interpolation": None,
    "ramp_ratio": 0.2,
}
OLD = {
    "env_name": "NutAssemblySquare",
    "type": 1,
    "env_kwargs": {
        "has_renderer": False,
        "has_offscreen_renderer": True,
        "ignore_done": True,
        "use_object_obs": True,
        "use_camera_obs": True,
        "camera_heights": 84,
        "camera_widths": 84,
        "camera_depths": False,
        "control_freq": 20,
        "controller_configs": OLD_ARM,
        "robots": ["Panda"],
        "reward_shaping": False,
    },
}


def test_env_args_that_an_environment_wrote_lead_back_to_it(environments):
    env = environments["square"].unwrapped
    again = envs.from_env_args(json.loads(json.dumps(env.spec_dict()["env_args"])))
    assert fingerprint(again, seed=5) == fingerprint(env, seed=5)


def test_old_env_args_build_the_same_task_with_absolute_poses_first(environments):
    env, here = envs.from_env_args(OLD), environments["square"].unwrapped
    observation, _ = env.reset(seed=5)
    expected, _ = here.reset(seed=5)
    assert all(np.array_equal(observation[key], expected[key]) for key in expected)
    for _ in range(10):
        action = np.array([0.5, 0.2, -0.5, 0, 0, 0.5, -1.0])
        observation, expected = env.step(action)[0], here.step(action)[0]
    for key in expected:  # the physics is stepped another way, the command means the same
        np.testing.assert_allclose(observation[key], expected[key], atol=2e-3)


def test_old_lift_pointed_from_the_cube_to_the_hand(lift):
    env = envs.from_env_args(OLD | {"env_name": "Lift"})
    observation, _ = env.reset(seed=5)
    ours, _ = lift.reset(seed=5)
    assert np.array_equal(observation["object"][:7], ours["object"][:7])
    assert np.array_equal(observation["object"][7:], -ours["object"][7:])


def test_new_env_args_keep_the_order_of_their_robosuite(environments):
    written = environments["square"].unwrapped.spec_dict()["env_args"]
    by_robosuite = {key: value for key, value in written.items() if key != "object_order"}
    env = envs.from_env_args(by_robosuite)
    listed, _ = env.reset(seed=5)
    ours, _ = environments["square"].unwrapped.reset(seed=5)
    assert np.array_equal(listed["object"], np.roll(ours["object"], 7))


def test_an_old_controller_becomes_the_arm_of_a_composite_one():
    arm = composite(OLD_ARM)["body_parts"]["right"]
    assert composite(OLD_ARM)["type"] == "BASIC"
    assert arm["damping_ratio"] == 1
    assert arm["input_type"] == "delta"
    assert arm["gripper"] == {"type": "GRIP"}
    assert "damping" not in arm
    assert "control_delta" not in arm
    assert composite(OLD_ARM | {"control_delta": False})["body_parts"]["right"]["input_type"] == "absolute"


def test_arms_of_a_composite_controller_are_found_at_either_depth():
    nested = {"type": "BASIC", "body_parts": {"arms": {"right": {"type": "OSC_POSE"}}}}
    flat = {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE"}}}
    assert composite(nested) == composite(flat) == flat


def test_what_is_not_here_is_refused():
    with pytest.raises(ValueError, match="an environment that is registered here, got 'NutAssemblySquare'"):
        envs.from_env_args(OLD | {"type": 2})
    with pytest.raises(ValueError, match=r"robosuite \(type 1\) or registered \(type 2\) environment, got 3"):
        envs.from_env_args(OLD | {"type": 3})
    unknown = copy.deepcopy(OLD) | {"env_name": "Juggle"}
    with pytest.raises(ValueError, match="expected a robosuite task .*Lift.*, got 'Juggle'"):
        envs.from_env_args(unknown)


def test_a_registered_environment_is_made_again_with_what_it_was_made_with():
    env = envs.from_env_args({"env_name": "PushT-v0", "type": 2, "env_kwargs": {"size": 96}})
    assert env.unwrapped.size == 96
    with pytest.raises(ValueError, match="without a name of a module"):
        envs.from_env_args({"env_name": "Noisy-v0", "type": 2, "env_kwargs": {"task": "a:b", "sigma": 0.1}})
