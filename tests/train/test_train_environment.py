"""A policy is measured where its numbers mean what they meant in the data, or not at all."""

import copy
import sys
import warnings
from dataclasses import replace

import gymnasium as gym
import pytest
from omegaconf import OmegaConf
from tiny_runs import ROOT

from ebt_policy.data.spec import Spec
from ebt_policy.train.build import load_config
from ebt_policy.train.evaluate import RECORDED, environment_of


@pytest.fixture(scope="module")
def trained():
    return load_config(ROOT / "assets" / "checkpoints" / "ebt_square")


@pytest.fixture(scope="module")
def shipped(trained):
    return Spec.from_dict(OmegaConf.to_container(trained.spec))


@pytest.fixture
def official(shipped):
    """As robomimic's low_dim_v15.hdf5 of Square says it: `object` in robosuite's order, which env_args do not name."""
    env_args = copy.deepcopy(shipped.env_args)
    del env_args["object_order"]
    return replace(shipped, env_args=env_args)


def controller(spec):
    return spec.env_args["env_kwargs"]["controller_configs"]["body_parts"]["right"]


def test_our_own_data_is_measured_in_the_task_it_names(shipped, trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert environment_of(shipped, None, trained) == {"env_id": "envs:Square-v0", "max_steps": None}


def test_a_robomimic_file_is_measured_in_the_environment_that_it_describes(official, trained):
    with pytest.warns(
        UserWarning, match="measured in NutAssemblySquare as the data describes it: envs:Square-v0 differs"
    ):
        settings = environment_of(official, None, trained)
    assert settings == {"env_id": RECORDED, "max_steps": 400, "env_kwargs": {"env_args": official.env_args}}
    env = gym.make(RECORDED, max_episode_steps=400, **settings["env_kwargs"])
    ours = gym.make("envs:Square-v0")
    there, here = (e.reset(seed=3)[0]["object"].tolist() for e in (env, ours))
    assert there == here[7:] + here[:7]
    env.close(), ours.close()


def test_a_robomimic_checkpoint_is_measured_where_its_data_was_recorded(official):
    assert environment_of(official, None, None, max_steps=300)["env_id"] == RECORDED
    with pytest.raises(ValueError, match="expected max_steps=<control steps of an episode>"):
        environment_of(official, None, None)


def test_an_environment_of_another_layout_is_refused_by_name(official, trained):
    with pytest.raises(ValueError, match="object_order robosuite, here absolute_first: leave env out"):
        environment_of(official, "envs:Square-v0", trained)


def test_an_action_unit_of_another_length_is_refused(shipped, trained):
    spec = copy.deepcopy(shipped)
    controller(spec)["output_max"] = [0.1] * 3 + [0.5] * 3
    with pytest.raises(ValueError, match=r"output_max \[0.1, .*, here \[0.05"):
        environment_of(spec, "envs:Square-v0", trained)


def test_what_changes_no_meaning_may_be_named(shipped, trained):
    spec = copy.deepcopy(shipped)
    spec.env_args["env_kwargs"]["camera_heights"] = 84
    controller(spec)["kp"] = 120
    assert environment_of(spec, "envs:Square-v0", trained)["env_id"] == "envs:Square-v0"


def test_data_of_an_environment_that_is_not_here_needs_a_name(official, trained):
    spec = replace(official, env_args=official.env_args | {"env_name": "Square_D0"})
    with pytest.raises(ValueError, match="recorded in Square_D0, which cannot be made here: .*say env=envs:Square-v0"):
        environment_of(spec, None, trained)
    with pytest.warns(UserWarning, match="whether envs:Square-v0 means the same cannot be checked"):
        environment_of(spec, "envs:Square-v0", trained)


def test_what_was_stated_of_the_data_holds_for_its_own_environment_too(official, trained):
    spec = official.stating(action={"mode": "absolute"})
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="action mode absolute, here delta"):
        environment_of(spec, None, trained)


@pytest.mark.parametrize(
    "env_args",
    [
        {"env_name": "Noisy-v0", "type": 2, "env_kwargs": {"task": "antigravity:Lift-v0", "sigma": 0.1}},
        {"env_name": "antigravity:Lift-v0", "type": 2, "env_kwargs": {"a": 1}},
        {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Nobody"]}},
        {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Panda"], "no_such_argument": 1}},
        {"env_name": "Lift", "type": 1, "env_kwargs": {"controller_configs": {}}},
        {"env_name": ["Lift"], "type": 1, "env_kwargs": {"robots": ["Panda"]}},
    ],
)
def test_env_args_of_a_foreign_file_make_nothing_but_registered_environments(shipped, trained, env_args, monkeypatch):
    monkeypatch.setitem(sys.modules, "antigravity", None)  # importing it would fail otherwise
    with pytest.raises(ValueError, match="which cannot be made here"):
        environment_of(replace(shipped, env_args=env_args), None, trained)
