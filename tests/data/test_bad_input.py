"""Each kind of bad input gets one clear message that names the file and the place."""

import h5py
import numpy as np
import pytest
import zarr
from demo_samples import make_episode

from ebt_policy.data.episodes import DataError, Episode, from_episodes
from ebt_policy.data.robomimic_write import write_robomimic
from ebt_policy.data.store import open_episodes, write_data, write_store

ATTRIBUTES = ("seed", "success")


def refused(path, match, **options):
    with pytest.raises(DataError, match=match) as caught:
        open_episodes(path, **options)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path):
    refused(tmp_path / "none.hdf5", "there is none")


@pytest.mark.parametrize("name", ["a.hdf5", "a.zarr.zip", "a.zarr"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    refused(tmp_path / name, "the file is empty")


def test_a_truncated_zip(tmp_path, data):
    write_data(tmp_path / "a.zarr.zip", data)
    whole = (tmp_path / "a.zarr.zip").read_bytes()
    for size in (len(whole) // 2, len(whole) - 10):
        (tmp_path / "a.zarr.zip").write_bytes(whole[:size])
        refused(tmp_path / "a.zarr.zip", "truncated file")


@pytest.mark.parametrize("name", ["a.zarr.zip", "a.hdf5"])
def test_a_flipped_byte_is_refused_or_harmless(tmp_path, data, name):
    write = write_data if name.endswith("zip") else write_robomimic
    write(tmp_path / name, data.select([0, 4]))
    whole, good = (tmp_path / name).read_bytes(), open_episodes(tmp_path / name)
    rng = np.random.default_rng(0)
    for position in rng.integers(len(whole), size=60):
        content = bytearray(whole)
        content[position] ^= 0xFF
        (tmp_path / name).write_bytes(content)
        try:
            read = open_episodes(tmp_path / name)
        except DataError as error:
            assert str(tmp_path / name) in str(error)
        else:  # HDF5 has checksums for arrays, not for attributes
            assert all(
                (values == good.arrays()[key]).all() for key, values in read.arrays().items() if key not in ATTRIBUTES
            )
            assert name.endswith("hdf5") or read.content_hash == good.content_hash


def test_truncated_and_empty_hdf5(tmp_path, official):
    whole = official("v0.1").read_bytes()
    (tmp_path / "half.hdf5").write_bytes(whole[: len(whole) // 2])
    refused(
        tmp_path / "half.hdf5", "expected a complete file, got OSError: .*truncated file.*: copy or record it again"
    )
    h5py.File(tmp_path / "nothing.hdf5", "w").close()
    refused(tmp_path / "nothing.hdf5", "expected robomimic's group 'data', got an empty file")


def test_no_episodes(tmp_path, spec):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_group("data")
    refused(tmp_path / "a.hdf5", "there are no episodes")
    with pytest.raises(DataError, match="at least 1 episode, got none"):
        write_store(tmp_path / "a.zarr.zip", spec, [])
    assert not (tmp_path / "a.zarr.zip").exists()


def test_other_formats(tmp_path):
    (tmp_path / "notes.txt").write_text("not a data set")
    refused(tmp_path / "notes.txt", "got 14 bytes of something else")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "expected a zarr v2 group at the root, found none")
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w").create_dataset("x", data=np.zeros(3))
    refused(tmp_path / "other.zarr", r"got a zarr group with \['x'\] in it")


def test_raw_robomimic_demonstrations_without_observations(tmp_path):
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        file["data/demo_1/actions"], file["data/demo_1/states"] = np.zeros((3, 7)), np.zeros((3, 5))
    refused(tmp_path / "demo.hdf5", "with 'obs' and 'actions'.*dataset_states_to_obs")


def test_nan_says_which_episode_step_and_dimension(official):
    path = official("v0.1")
    with h5py.File(path, "r+") as file:
        file["data/demo_10/actions"][7, 3] = np.nan
    refused(path, "got nan in action at episode 10, step 7, dimension 3")
    assert len(open_episodes(path, filter_key="train")) == 10  # the bad episode is not among these
    with h5py.File(path, "r+") as file:
        file["data/demo_2/obs/object"][0, 9] = np.inf
    refused(path, "got inf in obs/object at episode 2, step 0, dimension 9", filter_key="train")


def test_actions_out_of_range_say_how_many_and_the_farthest(official):
    path = official("v0.1")
    with h5py.File(path, "r+") as file:
        file["data/demo_1/actions"][2, 0] = -1.5
        file["data/demo_3/actions"][4, 6] = 2.5
    refused(
        path, r"expected actions in \[-1, 1\], got 2 of 114 outside, the farthest 2.5 at episode 3, step 4, dim.* 6"
    )


def test_float32_rounding_is_not_out_of_range(tmp_path, spec):
    episode = make_episode(np.random.default_rng(0), 4)
    episode.action[0, 0] = np.nextafter(np.float32(1), np.float32(2))
    write_store(tmp_path / "a.zarr.zip", spec, [episode])


def test_mismatched_lengths_and_shapes(tmp_path, spec, episodes, official):
    obs = episodes[2].obs
    with pytest.raises(DataError, match=r"episode 0: expected obs/object of shape \(4, 10\), got \(9, 10\)"):
        from_episodes(
            spec, [Episode(obs | {k: v[:4] for k, v in obs.items() if k != "object"}, episodes[2].action[:4])]
        )
    with pytest.raises(DataError, match=r"episode 1: expected action of shape \(9, 7\), got \(9, 6\)"):
        from_episodes(spec, [episodes[2], Episode(obs, episodes[2].action[:, :6])])
    with pytest.raises(DataError, match=r"\['object'\] are missing"):
        from_episodes(spec, [Episode({k: v for k, v in obs.items() if k != "object"}, episodes[2].action)])
    with pytest.raises(DataError, match="episode 0: expected at least 1 step"):
        from_episodes(spec, [Episode({k: v[:0] for k, v in obs.items()}, episodes[2].action[:0])])
    path = official("v1.5")
    with h5py.File(path, "r+") as file:
        file["data/demo_4"].attrs["num_samples"] = 7
    refused(path, r"expected 7 actions in /data/demo_4 \(num_samples\), got 8")


def test_optional_fields_are_in_all_episodes_or_in_none(spec):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="'executed' in every episode or in none, episode 1 has none"):
        from_episodes(spec, [make_episode(rng, 3), make_episode(rng, 3, executed=None)])
    with pytest.raises(DataError, match=r"expected the same log in every episode, got \[\[\], \['late'\]\]"):
        from_episodes(spec, [make_episode(rng, 3), make_episode(rng, 3, log={"late": np.zeros(3)})])
    with pytest.raises(DataError, match=r"expected log/late of shape \(3,\), got \(2,\)"):
        from_episodes(spec, [make_episode(rng, 3, log={"late": np.zeros(2)})])


def test_episode_ends_that_do_not_fit_the_arrays(pusht):
    path = pusht("pusht.zarr")
    zarr.open_group(str(path))["meta/episode_ends"][:] = [10, 14, 31]
    refused(path, r"shape \(31, 4, 4, 3\) \(3 episodes, 31 steps\), got \(30, 4, 4, 3\)")
    zarr.open_group(str(path))["meta/episode_ends"][:] = [10, 10, 30]
    refused(path, "episode ends that increase, episode 1 has 0 steps")


def test_unknown_filter_keys_name_those_that_exist(official, pusht):
    refused(official("v0.1"), r"filter keys \(train, valid\), got 'test'", filter_key="test")
    refused(pusht("a.zarr"), "expected no filter key", filter_key="train")
