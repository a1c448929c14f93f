"""Files of other people that are not laid out as expected: what is needed is read, the rest is named."""

import json
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
import zarr

from ebt_policy.data.episodes import DataError
from ebt_policy.data.ranges import robust_range
from ebt_policy.data.store import open_episodes, read_episodes, write_data

STEPS = 20


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def hdf5(tmp_path, rng):
    """A file with demos 0 to 2; `more(demo)` adds to each."""

    def write(more=lambda demo: None, **attrs):
        path = tmp_path / "a.hdf5"
        with h5py.File(path, "w") as file:
            for i in range(3):
                demo = file.create_group(f"data/demo_{i}")
                demo["actions"], demo["obs/pos"] = rng.uniform(-1, 1, (STEPS, 7)), rng.normal(size=(STEPS, 3))
                more(demo)
            file["data"].attrs.update({name: json.dumps(value) for name, value in attrs.items()})
        return path

    return write


@pytest.fixture
def folder(tmp_path, rng):
    """A zarr folder as diffusion_policy's, with these arrays besides action and episode ends."""

    def write(**arrays):
        root = zarr.open_group(str(tmp_path / "a.zarr"), "w")
        for name, values in {"action": rng.normal(size=(60, 2)), **arrays}.items():
            root[f"data/{name.replace('__', '/')}"] = values
        root["meta/episode_ends"] = np.array([20, 40, 60])
        return tmp_path / "a.zarr"

    return write


def put(name, make):
    return lambda demo: demo.__setitem__(name, make())


def test_groups_where_arrays_are_usual_are_left_out(hdf5, rng):
    data = open_episodes(hdf5(put("states/articulation/robot/joint_position", lambda: rng.normal(size=(STEPS, 9)))))
    assert data.states is None and data.initial_state is None
    assert data.left_out == {"states": "a group of arrays, expected one array"}


def test_observations_in_groups_are_called_by_their_path(hdf5, rng):
    path = hdf5(put("obs/datagen_info/object_pose/cube_1", lambda: rng.normal(size=(STEPS, 4, 4))))
    assert open_episodes(path).spec.obs == {"datagen_info/object_pose/cube_1": (4, 4), "pos": (3,)}


def test_rewards_and_dones_are_kept_and_the_next_observations_named(hdf5):
    rewards = np.linspace(0, 1, STEPS)

    def more(demo):
        demo["rewards"], demo["dones"], demo["next_obs/pos"] = rewards, rewards > 0.5, np.zeros((STEPS, 3))

    data = open_episodes(hdf5(more))
    assert data.log["rewards"].tolist() == 3 * rewards.tolist() and data.log["dones"].dtype == bool
    assert data.left_out == {"next_obs": "nothing learns from it"}


def test_masks_may_list_demos_that_are_gone(hdf5):
    path = hdf5()
    with h5py.File(path, "r+") as file:
        file["mask/train"] = np.array([f"demo_{i}" for i in range(1, 9)], "S")
        file["mask/valid"] = np.array([b"demo_9"])
    data = open_episodes(path)
    assert len(data) == 3 and data.masks["train"].tolist() == [False, True, True]
    assert data.left_out["mask/train"] == "6 of the 8 demos that it lists are not in the file"
    with pytest.warns(UserWarning, match="6 of the 8 demos"):
        assert len(open_episodes(path, filter_key="train")) == 2
    with pytest.raises(DataError, match="mask/valid, it lists none of them"):
        open_episodes(path, filter_key="valid")


@pytest.mark.parametrize("name", ["states", "obs/pos"])
def test_what_was_seen_after_the_last_action_is_dropped(hdf5, rng, name):
    values = rng.normal(size=(STEPS + 1, 3))

    def more(demo):
        if name in demo:
            del demo[name]
        demo[name] = values

    data = open_episodes(hdf5(more))
    kept = data.states if name == "states" else data.obs["pos"]
    np.testing.assert_array_equal(kept[:STEPS], values[:-1].astype(kept.dtype))


def test_states_of_several_sizes_are_not_needed(hdf5, rng):
    sizes = iter((9, 10, 11))
    data = open_episodes(hdf5(put("states", lambda: rng.normal(size=(STEPS, next(sizes))))))
    assert data.states is None and "several sizes" in data.left_out["states"]


def test_what_only_some_demos_say_of_themselves_is_left_out(hdf5):
    path = hdf5()
    with h5py.File(path, "r+") as file:
        file["data/demo_1"].attrs.update({"success": True, "model_file": "<mujoco/>"})
        file["data/demo_2/actions_executed"] = file["data/demo_2/actions"][()]
    data = open_episodes(path)
    assert data.success is data.model_xml is data.executed is None
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            demo.pop("actions_executed", None)
            demo["actions_executed"] = np.zeros(3)
    assert open_episodes(path).left_out["actions_executed"] == "3 rows for 20 actions"
    assert data.left_out == dict.fromkeys(["success", "model_file", "actions_executed"], "not in every demo")


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        *(("success", value, None) for value in ("False", b"0", np.nan, [True, False])),
        *(("success", value, True) for value in (True, 1, np.int64(1))),
        *(("seed", value, None) for value in ("None", [1, 2], 3.7, np.uint64(2**63 + 1))),
        ("seed", 3.0, 3),
        ("model_file", np.bytes_(b"<mujoco/>"), "<mujoco/>"),
    ],
)
def test_what_a_demo_says_of_itself_is_taken_for_what_it_is(hdf5, name, value, read):
    path = hdf5()
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            demo.attrs[name] = value
    data = open_episodes(path)
    found = {"success": data.success, "seed": data.seed, "model_file": data.model_xml}[name]
    assert (found is None) == (read is None) == (name in data.left_out)
    assert read is None or list(found) == [read] * 3


def test_demos_without_steps_are_left_out(hdf5):
    path = hdf5()
    with h5py.File(path, "r+") as file:
        for name in ("actions", "obs/pos"):
            values = file[f"data/demo_1/{name}"][:0]
            del file[f"data/demo_1/{name}"]
            file[f"data/demo_1/{name}"] = values
        file["mask/train"] = np.array([b"demo_1", b"demo_2"])
    data = open_episodes(path)
    assert len(data) == 2 and data.masks["train"].tolist() == [False, True]
    assert data.left_out == {"data/demo_1": "no steps"}


def test_filter_keys_may_lie_in_groups_and_be_anything_but_groups(hdf5):
    path = hdf5()
    with h5py.File(path, "r+") as file:
        file["mask/split/train"] = np.array([b"demo_1"])
    assert len(open_episodes(path, filter_key="split/train")) == 1
    with h5py.File(path, "r+") as file:
        del file["mask"]
        file["mask"] = np.ones(3)
    assert open_episodes(path).masks == {}


@pytest.mark.parametrize("shape", [(STEPS, 1), (STEPS, 3)])
def test_rewards_of_any_shape_stop_nobody(hdf5, shape):
    data = open_episodes(hdf5(put("rewards", lambda: np.ones(shape))))
    assert ("rewards" in data.log) == (shape[1] == 1) == ("rewards" not in data.left_out)


@pytest.mark.parametrize(
    "configs", ["OSC_POSE", {"type": None}, {"type": "OSC_POSE", "control_delta": "true"}, {"body_parts": [1]}, 7]
)
def test_controllers_that_say_nothing_are_unknown(hdf5, configs):
    env_args = {"env_name": "Lift", "type": 1, "env_kwargs": {"controller_configs": configs, "control_freq": -5}}
    spec = open_episodes(hdf5(env_args=env_args)).spec
    assert spec.action.mode == "unknown" and spec.hz is None


def test_arrays_of_one_name_in_two_folders_are_both_there(folder, rng):
    data = open_episodes(
        folder(state=rng.normal(size=(60, 2)), obs__state=np.ones((60, 3)), obs__action=np.ones((60, 4)))
    )
    assert data.spec.obs == {"obs/action": (4,), "obs/state": (3,), "state": (2,)}


def test_episode_ends_are_whole_numbers(folder):
    path = folder(state=np.zeros((60, 2)))
    root = zarr.open_group(str(path))
    for ends, good in (([20.0, 40.0, 60.0], True), ([[20], [40], [60]], True), ([20.0, 40.9, 60.0], False)):
        del root["meta/episode_ends"]
        root["meta/episode_ends"] = np.array(ends)
        if good:
            assert open_episodes(path).ends.tolist() == [20, 40, 60]
        else:
            with pytest.raises(DataError, match="expected whole numbers in meta/episode_ends, got .20.0, 40.9, 60.0."):
                open_episodes(path)


def test_a_depth_image_with_one_wrong_number_keeps_its_range(folder, rng):
    depth = rng.uniform(0.4, 0.8, (60, 8, 8, 1))
    depth[3, 2, 1] = 1e4
    low, high = robust_range(open_episodes(folder(depth=depth)).obs["depth"])
    assert 0.4 <= low < 0.41 and 0.79 < high <= 0.8


def test_a_mask_of_bytes_is_no_photograph(folder, rng):
    mask = rng.integers(0, 2, (60, 8, 8, 1)).astype(np.uint8)
    assert robust_range(open_episodes(folder(mask=mask)).obs["mask"]) == (0.0, 1.0)


def test_texts_are_left_out_and_refused_by_name(hdf5):
    path = hdf5(lambda demo: demo.create_dataset("obs/language", data=["lift"] * STEPS, dtype=h5py.string_dtype()))
    assert open_episodes(path).left_out == {"obs/language": "text"}
    with pytest.raises(DataError, match=r"among \['pos'\], got language \(text\)"):
        open_episodes(path, obs_keys=["language"])


def test_an_observation_that_only_some_demos_have_is_left_out(hdf5, rng):
    path = hdf5()
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/extra"] = rng.normal(size=(STEPS, 2))
    assert open_episodes(path).left_out == {"obs/extra": "not in demo_1"}


@pytest.mark.parametrize("layout", ["hdf5", "zarr"])
def test_one_number_a_step_is_an_observation_of_one_number(hdf5, folder, rng, layout):
    width = rng.uniform(size=STEPS if layout == "hdf5" else 60).astype(np.float32)
    data = open_episodes(hdf5(put("obs/width", lambda: width)) if layout == "hdf5" else folder(width=width))
    assert data.spec.obs["width"] == (1,) and data.obs["width"].shape == (60, 1)


def test_zarr_arrays_in_folders_are_read(folder, rng):
    data = open_episodes(folder(obs__state=rng.normal(size=(60, 5)), obs__cams__depth=rng.normal(size=(60, 4))))
    assert data.spec.obs == {"cams/depth": (4,), "state": (5,)}


def test_zarr_arrays_of_other_lengths_and_texts_are_left_out(folder, rng):
    data = open_episodes(folder(state=rng.normal(size=(60, 5)), camera=rng.normal(size=(3, 3)), words=["lift"] * 60))
    assert list(data.obs) == ["state"]
    assert data.left_out == {"obs/camera": "3 rows for 60 actions", "obs/words": "text"}


def test_a_codec_that_is_missing_matters_only_to_who_asks_for_it(folder, rng):
    path = folder(image=rng.integers(0, 255, (60, 4, 4, 3), np.uint8), pos=rng.normal(size=(60, 3)))
    about = path / "data/image/.zarray"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"compressor": {"id": "imagecodecs_jpegxl"}}))
    data = open_episodes(path)
    assert list(data.obs) == ["pos"]
    assert data.left_out["obs/image"].startswith("stored with the codec imagecodecs_jpegxl, which is not installed")
    with pytest.raises(DataError, match=r"got image \(stored with the codec imagecodecs_jpegxl"):
        open_episodes(path, obs_keys=["image"])


@pytest.mark.parametrize("layout", ["hdf5", "zarr"])
def test_seconds_since_1970_are_refused_rather_than_merged(hdf5, folder, layout):
    stamps = 1.7e9 + np.arange(60) / 20
    if layout == "hdf5":
        path = hdf5(put("obs/stamp", lambda: stamps[:STEPS, None]))
    else:
        path = folder(stamp=stamps, pos=np.zeros((60, 3)))
    with pytest.raises(
        DataError, match="obs/stamp.* that float32 keeps apart.*subtract its first value, or leave it out"
    ):
        open_episodes(path)
    assert len(open_episodes(path, obs_keys=["pos"])) == 3


def test_numbers_that_hardly_vary_are_not_refused_for_their_rounding(folder, rng):
    open_episodes(folder(height=0.8 + 1e-12 * rng.normal(size=60), count=np.arange(60) + 10**6))


def test_infinite_in_float32_is_not_finite(folder):
    with pytest.raises(DataError, match="got inf in obs/big at episode 0, step 3"):
        open_episodes(folder(big=np.where(np.arange(60) == 3, 1e39, 0.0)))


def test_what_a_file_does_not_say_can_be_stated(folder, rng):
    path = folder(tool=rng.normal(size=(60, 2)))
    spec = open_episodes(path, hz=10, action={"mode": "absolute", "frame": "planar", "low": -9}).spec
    assert (spec.hz, spec.action.mode, spec.action.frame, spec.action.low, spec.action.high) == (
        *(10.0, "absolute", "planar", -9.0),
        np.inf,
    )
    with pytest.raises(ValueError, match="action.mode is one of delta, absolute, unknown, got 'abs'"):
        open_episodes(path, action={"mode": "abs"})
    with pytest.raises(ValueError, match="low, high can be stated, got units"):
        open_episodes(path, action={"units": "m"})
    with pytest.raises(ValueError, match="expected a rate of control above 0 Hz, got hz=0"):
        open_episodes(path, hz=0)


def test_what_is_stated_against_the_file_is_said(tmp_path, data):
    write_data(tmp_path / "a.zarr.zip", data)
    with pytest.warns(UserWarning, match="stated otherwise than the file says: hz: 20.0 against 5.0"):
        assert open_episodes(tmp_path / "a.zarr.zip", hz=5).spec.hz == 5


def test_absolute_poses_under_a_controller_that_says_delta(hdf5):
    arm = {"type": "OSC_POSE", "input_max": 1, "input_min": -1, "control_delta": True}
    path = hdf5(env_args={"env_name": "Lift", "type": 1, "env_kwargs": {"controller_configs": arm}})
    with h5py.File(path, "r+") as file:
        file["data/demo_1/actions"][:, 3] = 3.13
    with pytest.raises(DataError, match="if they are absolute poses .*state mode=absolute.*never clip poses"):
        open_episodes(path)
    action = open_episodes(path, action={"mode": "absolute"}).spec.action
    assert action.mode == "absolute" and action.high == np.inf


@pytest.mark.parametrize("env_args", [{"env_name": "Lift", "type": 1}, {}, None, {"env_kwargs": None}])
def test_env_args_may_say_little(hdf5, env_args):
    assert open_episodes(hdf5(env_args=env_args)).spec.hz is None


def test_a_file_that_another_process_writes_is_not_called_damaged(hdf5):
    with h5py.File(path := hdf5(), "r+"), pytest.raises(DataError, match="another process writes this file|in use"):
        read_in_a_process_of_its_own(path)


def read_in_a_process_of_its_own(path):
    code = f"from ebt_policy.data.store import read_episodes; read_episodes({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    raise DataError(done.stderr.strip().splitlines()[-1])


def test_bytes_that_are_no_image_are_numbers_in_an_old_store_as_well(tmp_path, data):
    old = replace(
        data,
        obs=data.obs | {"open": np.ones((30, 1), np.uint8)},
        spec=replace(data.spec, obs=data.spec.obs | {"open": (1,)}),
    )
    write_data(tmp_path / "old.zarr.zip", old)
    assert read_episodes(tmp_path / "old.zarr.zip").obs["open"].dtype == np.float32
