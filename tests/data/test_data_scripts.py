"""inspect.py and convert.py as a user runs them, and inspect.py beside the standard library's module of that name."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ebt_policy.data.store import open_episodes, write_data

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(*arguments, script=None):
    command = [sys.executable, str(script or SCRIPTS / arguments[0]), *map(str, arguments[1:])]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_inspect_prints_what_is_there(tmp_path, data):
    write_data(tmp_path / "a.zarr.zip", data)
    page = run("inspect.py", tmp_path / "a.zarr.zip").stdout
    for text in (
        "ebt_policy format",
        "Lift",
        "mujoco 3.3.0, robosuite 1.5.2",
        "20 Hz",
        data.content_hash,
        "5, 5 successful, 30 steps",
        "min 1, median 5, max 12",
        "frame eef, mode delta, rotation axis_angle, gripper close_positive, range [-1, 1]",
        "robot0_eef_pos (3,) float32   m",
        "robot0_eef_quat (4,) float32   quaternion xyzw",
        "train: 3 episodes",
        "the initial one only, 32 numbers",
        "0 .. 4, 5 different",
        "executed differs from action",
    ):
        assert text in page, text


def test_inspect_reads_other_peoples_files(official, pusht):
    page = run("inspect.py", official("v0.1"), "--filter-key", "valid").stdout
    assert "robomimic format" in page and "robosuite 1.2" in page and "2, 29 steps" in page
    page = run("inspect.py", pusht("pusht.zarr")).stdout
    assert "diffusion_policy format" in page and "unit unknown" in page and "img (4, 4, 3)" in page


def test_inspect_shows_a_file_that_training_would_refuse(official):
    path = official("v0.1")
    with h5py.File(path, "r+") as file:
        file["data/demo_3/actions"][0, 0] = np.nan
    shown = run("inspect.py", path)
    assert shown.returncode == 0
    assert "training would refuse this file" in shown.stdout and "episode 3, step 0, dimension 0" in shown.stdout


@pytest.mark.parametrize("script", ["inspect.py", "convert.py"])
def test_help_and_one_line_for_a_missing_file(tmp_path, script):
    assert "demonstrations" in run(script, "--help").stdout
    refused = run(script, tmp_path / "none.hdf5", *([tmp_path / "b.zarr"] if script == "convert.py" else []))
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1


def test_convert_goes_round_without_losing_anything(tmp_path, data):
    write_data(tmp_path / "a.zarr.zip", data)
    for source, target in (("a.zarr.zip", "b.hdf5"), ("b.hdf5", "c.zarr"), ("c.zarr", "d.zarr.zip")):
        done = run("convert.py", tmp_path / source, tmp_path / target)
        assert done.returncode == 0 and data.content_hash in done.stdout, done.stderr
    assert open_episodes(tmp_path / "d.zarr.zip").content_hash == data.content_hash


def test_convert_keeps_states_and_models_of_official_files(tmp_path, official):
    source = official("v1.5")
    done = run("convert.py", source, tmp_path / "b.zarr.zip", "filter_key=valid", "obs_keys=object,robot0_eef_pos")
    assert done.returncode == 0, done.stderr
    data = open_episodes(tmp_path / "b.zarr.zip")
    assert list(data.obs) == ["object", "robot0_eef_pos"] and data.states.shape == (29, 32)
    assert data.model_xml[1].startswith("<mujoco model='11'>")


def everything(group):
    """Path -> bytes and type of every array, attributes of every group and array."""
    found = {"": dict(group.attrs)}
    group.visititems(lambda path, item: found.update({path: (told(item), sorted(item.attrs.items()))}))
    return found


def told(item):
    return (item.dtype, item[()].tobytes()) if isinstance(item, h5py.Dataset) else "group"


def test_convert_from_robomimic_to_robomimic_copies_the_demos_of_a_filter_key_bit_for_bit(tmp_path, official):
    source, rewards = official("v0.1"), np.linspace(0, 1, 14) / 3
    with h5py.File(source, "r+") as file:
        demo = file["data/demo_10"]
        demo["rewards"][()] = rewards
        demo["obs/a/b"], demo["meta/note"] = np.ones((14, 2), np.float16), 7
        demo["obs"].attrs["camera"], demo["meta"].attrs["by"] = "front", "hand"
    done = run("convert.py", source, tmp_path / "b.hdf5", "filter_key=valid")
    assert done.returncode == 0 and "copied, bit for bit" in done.stdout, done.stderr
    with h5py.File(source) as old, h5py.File(tmp_path / "b.hdf5") as new:
        assert list(new["data"]) == ["demo_10", "demo_11"]
        for name in new["data"]:
            assert everything(new["data"][name]) == everything(old["data"][name])
        assert new["data"].attrs["total"] == 29 and dict(new["data"].attrs)["env_args"] == old["data"].attrs["env_args"]
    assert open_episodes(tmp_path / "b.hdf5").log["rewards"][:14].tolist() == rewards.tolist()


def test_convert_says_what_it_does_not_carry_and_what_it_makes_up(tmp_path, official, data):
    done = run("convert.py", official("v0.1"), tmp_path / "b.zarr.zip")
    assert "note: left out: next_obs (nothing learns from it)" in done.stdout
    write_data(tmp_path / "a.zarr.zip", data)
    done = run("convert.py", tmp_path / "a.zarr.zip", tmp_path / "c.hdf5")
    assert "note: made up, as the source has none and robomimic asks for them: rewards, dones" in done.stdout


def test_convert_states_what_the_file_does_not_say(tmp_path, pusht):
    done = run("convert.py", pusht("a.zarr"), tmp_path / "b.zarr.zip", "hz=10", "mode=absolute", "low=0", "high=512")
    assert done.returncode == 0, done.stderr
    spec = open_episodes(tmp_path / "b.zarr.zip").spec
    assert (spec.hz, spec.action.mode, spec.action.high) == (10.0, "absolute", 512.0)
    refused = run("convert.py", pusht("c.zarr"), tmp_path / "d.zarr.zip", "hz=fast")
    assert refused.stderr == "error: expected a number for hz, got 'fast'\n"


def test_convert_never_overwrites(tmp_path, data):
    write_data(tmp_path / "a.zarr.zip", data)
    (tmp_path / "b.hdf5").write_text("precious")
    refused = run("convert.py", tmp_path / "a.zarr.zip", tmp_path / "b.hdf5")
    assert refused.returncode == 1 and "exists: choose another name" in refused.stderr
    assert (tmp_path / "b.hdf5").read_text() == "precious"


@pytest.mark.parametrize("words", [["out.csv"], ["out.zarr", "filter=train"]])
def test_convert_says_what_it_expects(tmp_path, data, words):
    write_data(tmp_path / "a.zarr.zip", data)
    refused = run("convert.py", tmp_path / "a.zarr.zip", tmp_path / words[0], *words[1:])
    assert refused.returncode == 1 and refused.stderr.startswith("error: expected")
    assert sorted(os.listdir(tmp_path)) == ["a.zarr.zip"]


SIBLING = """
import dataclasses, inspect, multiprocessing, sys

def child(queue):
    import inspect
    queue.put((inspect.__file__, str(inspect.signature(child))))

if __name__ == "__main__":
    import torch
    assert sys.path[0] == {folder!r}, sys.path
    assert inspect is sys.modules["inspect"] and "scripts" not in inspect.__file__
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(*queue.get(timeout=60))
    process.join()
"""


def test_scripts_beside_inspect_get_the_standard_librarys_inspect(tmp_path):
    (tmp_path / "inspect.py").write_text((SCRIPTS / "inspect.py").read_text())
    (tmp_path / "train.py").write_text(SIBLING.format(folder=str(tmp_path)))
    done = run(script=tmp_path / "train.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(Path(os.__file__).parent / "inspect.py"), "(queue)"]
