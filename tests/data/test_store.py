"""Our store: what goes in comes out, all or nothing, and damage is noticed."""

import os
import resource
from dataclasses import replace

import numcodecs
import numpy as np
import pytest
import zarr

from ebt_policy.data.episodes import DataError, Episode, from_episodes
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.data.store import append_episode, open_episodes, write_data, write_store

ENDINGS = ("a.zarr.zip", "a.zarr")


def assert_same(one, other):
    assert one.spec == other.spec
    assert one.arrays().keys() == other.arrays().keys()
    for name, values in one.arrays().items():
        np.testing.assert_array_equal(values, other.arrays()[name])
        assert values.dtype == other.arrays()[name].dtype and values.flags.c_contiguous


@pytest.mark.parametrize("name", ENDINGS)
def test_what_was_written_is_read(tmp_path, spec, episodes, name):
    written = write_store(tmp_path / name, spec, episodes)
    data = open_episodes(tmp_path / name)
    assert_same(data, from_episodes(spec, episodes))
    assert data.content_hash == written
    assert list(data.spec.obs) == list(spec.obs)  # a network may concatenate in this order
    for i, episode in enumerate(episodes):
        np.testing.assert_array_equal(data.episode(i).obs["object"], episode.obs["object"])
        np.testing.assert_array_equal(data.episode(i).initial_state, episode.initial_state)
        assert (data.episode(i).seed, data.episode(i).success) == (i, True)


@pytest.mark.parametrize("name", ENDINGS)
def test_masks_model_xml_and_every_state_survive(tmp_path, spec, episodes, name):
    full = [
        Episode(e.obs, e.action, states=np.ones((len(e), 3)) * i, model_xml=f"<m i='{i}' é/>")
        for i, e in enumerate(episodes)
    ]
    data = from_episodes(spec, full, {"train": np.array([1, 0, 1, 0, 1], bool)})
    write_data(tmp_path / name, data)
    read = open_episodes(tmp_path / name)
    assert_same(read, data)
    assert read.model_xml == data.model_xml
    assert read.content_hash == data.content_hash
    assert open_episodes(tmp_path / name, "train").model_xml[1] == "<m i='2' é/>"


@pytest.mark.parametrize("name", ENDINGS)
def test_a_log_of_numbers_that_are_missing_and_of_texts_survives(tmp_path, spec, episodes, name):
    texts = ["", "workspace", "the action is not finite"]
    logs = [
        {"energy": np.full(len(e), np.nan), "cause": np.array([texts[(i + t) % 3] for t in range(len(e))])}
        for i, e in enumerate(episodes)
    ]
    data = from_episodes(spec, [replace(e, log=log) for e, log in zip(episodes, logs, strict=True)])
    write_data(tmp_path / name, data)
    read = open_episodes(tmp_path / name)
    assert_same(read, data)
    assert read.episode(-1).log["cause"].tolist() == logs[-1]["cause"].tolist()
    assert read.select([2]).log["cause"].tolist() == logs[2]["cause"].tolist()
    assert read.content_hash == data.content_hash != from_episodes(spec, episodes).content_hash


def test_the_hash_ignores_chunks_and_compression_and_sees_one_changed_number(tmp_path, data):
    write_data(tmp_path / "a.zarr", data)
    zarr.copy_store(
        zarr.DirectoryStore(str(tmp_path / "a.zarr")), target := zarr.DirectoryStore(str(tmp_path / "b.zarr"))
    )
    root = zarr.open_group(target)
    action = root["action"][...]
    root.create_dataset("action", data=action, chunks=(2, 7), compressor=None, overwrite=True)
    assert open_episodes(tmp_path / "b.zarr").content_hash == data.content_hash
    root["action"][3, 2] += 0.01
    with pytest.raises(DataError, match="expected content hash .* damaged or edited"):
        open_episodes(tmp_path / "b.zarr")


def test_only_the_observations_asked_for_are_read_in_the_order_asked(tmp_path, data):
    write_data(tmp_path / "a.zarr.zip", data)
    read = open_episodes(tmp_path / "a.zarr.zip", obs_keys=["object", "robot0_eef_pos"])
    assert list(read.obs) == list(read.spec.obs) == ["object", "robot0_eef_pos"]
    with pytest.raises(DataError, match=r"expected observation keys among .*'object'.*, got cube"):
        open_episodes(tmp_path / "a.zarr.zip", obs_keys=["cube"])


def test_a_filter_key_selects_and_an_unknown_one_names_those_that_exist(tmp_path, data):
    write_data(tmp_path / "a.zarr.zip", data)
    chosen = open_episodes(tmp_path / "a.zarr.zip", filter_key="valid")
    assert chosen.lengths.tolist() == [9, 3] and chosen.seed.tolist() == [2, 4]
    with pytest.raises(DataError, match=r"filter keys \(train, valid\), got 'test'"):
        open_episodes(tmp_path / "a.zarr.zip", filter_key="test")


def test_select_takes_indices_masks_and_refuses_nothing(data):
    assert data.select([3, 0]).lengths.tolist() == [12, 5]
    assert data.select(data.masks["train"]).lengths.tolist() == [5, 1, 12]
    for nothing in ([], np.zeros(5, bool)):
        with pytest.raises(DataError, match="at least 1 of 5 episodes"):
            data.select(nothing)


def test_images_stay_bytes(tmp_path):
    spec = Spec({"img": (4, 4, 3)}, ActionSpec(2))
    image = np.arange(6 * 48, dtype=np.uint8).reshape(6, 4, 4, 3)
    write_store(tmp_path / "a.zarr.zip", spec, [Episode({"img": image}, np.zeros((6, 2)))])
    read = open_episodes(tmp_path / "a.zarr.zip").obs["img"]
    assert read.dtype == np.uint8 and (read == image).all()


@pytest.mark.parametrize("name", ENDINGS)
def test_a_full_disk_leaves_what_was_there(tmp_path, spec, episodes, name):
    rng = np.random.default_rng(0)
    big = [Episode({k: rng.normal(size=(20_000, *s)) for k, s in spec.obs.items()}, rng.uniform(-1, 1, (20_000, 7)))]
    before = write_store(tmp_path / "a.zarr.zip", spec, episodes)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the kernel refuses to write more, as a full disk does
    try:
        with pytest.raises(DataError, match=r"could not write .*: File too large; nothing was changed"):
            write_store(tmp_path / name, spec, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert open_episodes(tmp_path / "a.zarr.zip").content_hash == before
    assert os.listdir(tmp_path) == ["a.zarr.zip"]


def test_a_file_is_replaced_and_a_folder_is_not(tmp_path, spec, episodes):
    for name in ENDINGS:
        write_store(tmp_path / name, spec, episodes)
    write_store(tmp_path / "a.zarr.zip", spec, episodes[:2])
    assert len(open_episodes(tmp_path / "a.zarr.zip")) == 2
    with pytest.raises(DataError, match="folder .* exists: delete it first"):
        write_store(tmp_path / "a.zarr", spec, episodes)
    with pytest.raises(DataError, match="ends in .zarr.zip or .zarr"):
        write_store(tmp_path / "a.npz", spec, episodes)


def test_a_newer_version_is_refused(tmp_path, data):
    write_data(tmp_path / "a.zarr", data)
    zarr.open_group(str(tmp_path / "a.zarr")).attrs["version"] = 2
    with pytest.raises(DataError, match="expected format version 1, got 2: update ebt_policy"):
        open_episodes(tmp_path / "a.zarr")


def test_a_lost_chunk_is_not_taken_for_zeros(tmp_path, data):
    write_data(tmp_path / "a.zarr", data)
    (tmp_path / "a.zarr" / "action" / "0.0").unlink()
    with pytest.raises(DataError, match="1 are missing: the copy is incomplete"):
        open_episodes(tmp_path / "a.zarr")


def test_a_pickle_in_a_file_is_never_loaded(tmp_path, data):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    write_data(tmp_path / "a.zarr", data)
    root = zarr.open_group(str(tmp_path / "a.zarr"))
    bombs = np.array([Bomb(), Bomb()], dtype=object)
    root.create_dataset("model_xml", data=bombs, object_codec=numcodecs.Pickle())
    with pytest.raises(DataError, match="'model_xml' cannot be read: it is pickled"):
        open_episodes(tmp_path / "a.zarr")
    assert not (tmp_path / "exploded").exists()


def test_episodes_are_appended_one_by_one_and_are_in_no_filter_key(tmp_path, spec, episodes, data):
    path = tmp_path / "a.zarr.zip"
    for episode in episodes:
        append_episode(path, spec, episode)
    assert open_episodes(path).content_hash == from_episodes(spec, episodes).content_hash
    write_data(path, data)
    append_episode(path, spec, episodes[0])
    again = open_episodes(path)
    assert len(again) == len(data) + 1 and again.masks["train"].tolist() == [*data.masks["train"], False]
    np.testing.assert_array_equal(again.episode(-1).action, episodes[0].action)
    assert list(tmp_path.iterdir()) == [path]


def test_an_episode_of_another_spec_or_with_other_fields_is_not_appended(tmp_path, spec, episodes):
    path = tmp_path / "a.zarr.zip"
    digest = write_store(path, spec, episodes[:1])
    other = replace(spec, hz=10.0, action=replace(spec.action, mode="absolute"), simulator={"mujoco": "3.4.0"})
    with pytest.raises(DataError) as refused:
        append_episode(path, other, replace(episodes[1], seed=None))
    for said in ("action.mode: delta against absolute", "hz: 20.0 against 10.0", "seed: given against none"):
        assert said in str(refused.value)
    assert "simulator.mujoco: 3.3.0 against 3.4.0; simulator.robosuite: 1.5.2 against none" in str(refused.value)
    assert open_episodes(path).content_hash == digest
