"""robomimic files: official layouts are understood, and robomimic itself reads what we write."""

import json

import h5py
import numpy as np
import pytest
from demo_samples import ENV_ARGS, SHAPES

from ebt_policy.data.episodes import Episode, from_episodes
from ebt_policy.data.robomimic import infer_spec
from ebt_policy.data.robomimic_write import write_robomimic
from ebt_policy.data.spec import ActionSpec
from ebt_policy.data.store import open_episodes
from ebt_policy.data.windows import WindowDataset

LIMITS, DELTA_POSE = {"input_min": -1, "input_max": 1}, {"type": "OSC_POSE", "input_type": "delta"}


@pytest.mark.parametrize(("era", "robosuite"), [("v0.1", "1.2"), ("v1.5", "1.5.1")])
def test_an_official_file_says_what_its_numbers_mean(official, era, robosuite):
    data = open_episodes(official(era))
    assert data.spec.action == ActionSpec(7, "eef", "delta", "axis_angle", "close_positive", -1.0, 1.0)
    assert data.spec.hz == 20.0
    assert data.spec.simulator == {"robosuite": robosuite}
    assert data.spec.env_args == ENV_ARGS[era]
    assert data.spec.obs == SHAPES
    assert data.action.dtype == data.obs["object"].dtype == np.float32
    assert data.initial_state.shape == (12, 32)
    assert data.model_xml[11].startswith("<mujoco model='11'>")


def test_demos_come_in_numerical_order(official):
    assert open_episodes(official("v0.1")).lengths.tolist() == list(range(4, 16))


def test_filter_keys_select_demos(official):
    data = open_episodes(official("v0.1"), filter_key="valid")
    assert data.lengths.tolist() == [14, 15]
    assert data.masks["valid"].all() and not data.masks["train"].any()


@pytest.mark.parametrize(
    ("controller", "expected"),
    [
        ({"type": "OSC_POSE", "control_delta": False}, ("eef", "absolute", "axis_angle", -np.inf)),
        (LIMITS | {"type": "OSC_POSITION", "control_delta": True}, ("eef", "delta", "none", -1.0)),
        ({"type": "JOINT_POSITION", "input_type": "absolute"}, ("joint", "absolute", "unknown", -np.inf)),
        ({"body_parts": {"arms": {"right": LIMITS | DELTA_POSE}}}, ("eef", "delta", "axis_angle", -1.0)),
        ([{"type": "OSC_POSE", "control_delta": False}], ("eef", "absolute", "axis_angle", -np.inf)),
        (None, ("unknown", "unknown", "unknown", -np.inf)),
    ],
)
def test_the_controller_tells_what_an_action_is(controller, expected):
    action = infer_spec({"env_kwargs": {"controller_configs": controller}}, {}, 7).action
    assert (action.frame, action.mode, action.rotation, action.low) == expected


def test_what_is_written_is_read_back_whole(tmp_path, data):
    write_robomimic(tmp_path / "a.hdf5", data)
    read = open_episodes(tmp_path / "a.hdf5")
    assert read.content_hash == data.content_hash
    assert list(read.spec.obs) == list(data.spec.obs)
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert json.loads(file["data"].attrs["env_args"]) == data.spec.env_args
        assert file["data"].attrs["total"] == 30
        assert file["data/demo_3/states"].shape == (1, 32)  # only the initial state is known
        assert file["data/demo_3/dones"][()].tolist() == [0] * 11 + [1]


def test_states_of_every_step_are_written(tmp_path, spec, episodes):
    with_states = [Episode(e.obs, e.action, states=np.ones((len(e), 4))) for e in episodes]
    write_robomimic(tmp_path / "a.hdf5", from_episodes(spec, with_states))
    assert open_episodes(tmp_path / "a.hdf5").states.shape == (30, 4)


def sequences(path, observe, predict, filter_key=None):
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.utils.dataset import SequenceDataset

    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": list(SHAPES)}})
    return SequenceDataset(
        hdf5_path=str(path),
        obs_keys=list(SHAPES),
        dataset_keys=["actions", "rewards", "dones"],
        frame_stack=observe,
        seq_length=predict - observe + 1,
        pad_frame_stack=True,
        pad_seq_length=True,
        hdf5_cache_mode=None,
        hdf5_use_swmr=False,
        filter_by_attribute=filter_key,
        load_next_obs=False,
    )


@pytest.mark.parametrize(("observe", "predict", "filter_key"), [(2, 16, None), (1, 1, None), (3, 5, "train")])
def test_robomimics_own_dataset_gives_the_same_windows(tmp_path, data, observe, predict, filter_key):
    write_robomimic(tmp_path / "a.hdf5", data)
    theirs = sequences(tmp_path / "a.hdf5", observe, predict, filter_key)
    windows = WindowDataset(open_episodes(tmp_path / "a.hdf5", filter_key), observe, predict)
    ours = windows.batch(np.arange(len(windows)))
    assert len(theirs) == len(windows)
    for i in range(len(theirs)):
        item = theirs[i]
        np.testing.assert_array_equal(item["actions"].astype(np.float32), ours.action[i].numpy())
        for key in SHAPES:
            np.testing.assert_array_equal(item["obs"][key][:observe].astype(np.float32), ours.obs[key][i].numpy())


def test_robomimic_finds_the_environment_of_an_exported_file(tmp_path, data):
    import robomimic.utils.file_utils as file_utils

    write_robomimic(tmp_path / "a.hdf5", data)
    meta = file_utils.get_env_metadata_from_dataset(str(tmp_path / "a.hdf5"))
    assert meta["env_name"] == "Lift" and meta["type"] == 1
