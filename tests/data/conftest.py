"""Small synthetic demonstrations, and files laid out as robomimic's and diffusion_policy's are."""

import json

import h5py
import numpy as np
import pytest
import zarr
from demo_samples import ENV_ARGS, SHAPES, make_episode

from ebt_policy.data.episodes import from_episodes
from ebt_policy.data.spec import ActionSpec, Spec


@pytest.fixture
def spec():
    action = ActionSpec(7, "eef", "delta", "axis_angle", "close_positive")
    return Spec(SHAPES, action, hz=20.0, env_args=ENV_ARGS["v1.5"], simulator={"robosuite": "1.5.2", "mujoco": "3.3.0"})


@pytest.fixture
def episodes():
    rng = np.random.default_rng(0)
    return [make_episode(rng, length, seed=i) for i, length in enumerate((5, 1, 9, 12, 3))]


@pytest.fixture
def data(spec, episodes):
    masks = {"train": np.array([1, 1, 0, 1, 0], bool), "valid": np.array([0, 0, 1, 0, 1], bool)}
    return from_episodes(spec, episodes, masks)


@pytest.fixture
def official(tmp_path):
    """Writes a low-dim file like the official ones and returns its path; 12 demos: as text, demo_10 precedes demo_2."""

    def write(era):
        rng = np.random.default_rng(1)
        path = tmp_path / f"low_dim_{era}.hdf5"
        with h5py.File(path, "w") as file:
            group = file.create_group("data")
            group.attrs["env_args"] = json.dumps(ENV_ARGS[era], indent=4)
            for i in range(12):
                length = 4 + i
                demo = group.create_group(f"demo_{i}")
                demo.attrs["num_samples"] = length
                demo.attrs["model_file"] = f"<mujoco model='{i}'>" + " " * 200_000 + "</mujoco>"
                demo["actions"] = rng.uniform(-1, 1, (length, 7))
                demo["states"] = rng.normal(size=(length, 32))
                demo["rewards"], demo["dones"] = np.zeros(length), np.zeros(length, int)
                for key, shape in SHAPES.items():
                    demo[f"obs/{key}"] = rng.normal(size=(length, *shape))
                    demo[f"next_obs/{key}"] = rng.normal(size=(length, *shape))
            group.attrs["total"] = sum(4 + i for i in range(12))
            file["mask/train"] = np.array([f"demo_{i}" for i in range(10)], dtype="S8")
            file["mask/valid"] = np.array(["demo_11", "demo_10"], dtype="S8")
        return path

    return write


@pytest.fixture
def pusht(tmp_path):
    """Writes a store like diffusion_policy's pusht, as a folder or a zip, and returns its path."""

    def write(name):
        rng = np.random.default_rng(2)
        path = tmp_path / name
        store = zarr.ZipStore(path, mode="w") if name.endswith(".zip") else zarr.DirectoryStore(str(path))
        with store:
            root = zarr.group(store)
            arrays = {"state": (5,), "keypoint": (9, 2), "img": (4, 4, 3), "action": (2,)}
            for key, shape in arrays.items():
                values = rng.uniform(0, 512, (30, *shape)).astype(np.float32)
                root.create_dataset(f"data/{key}", data=values, chunks=(8, *shape))
            root.create_dataset("meta/episode_ends", data=np.array([10, 14, 30]))
        return path

    return write
