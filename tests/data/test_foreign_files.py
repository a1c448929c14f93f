"""Files made to harm: none runs code, reads another file or fills the memory; each gets one message."""

import base64
import json
import os
import pickle
import zipfile

import h5py
import numcodecs
import numpy as np
import pytest
import zarr

from ebt_policy.data import foreign
from ebt_policy.data.episodes import DataError
from ebt_policy.data.robomimic_write import copy_robomimic, write_robomimic
from ebt_policy.data.store import open_episodes, write_data


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def secret(tmp_path):
    """An HDF5 file that is nobody's business, and its numbers as raw bytes."""
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["numbers"] = np.ones((30, 3))
    (tmp_path / "secret.bin").write_bytes(np.ones((30, 3)).tobytes())
    return tmp_path / "secret.hdf5"


@pytest.fixture
def hdf5(tmp_path, data):
    write_robomimic(tmp_path / "a.hdf5", data.select([2]))  # 9 steps
    return tmp_path / "a.hdf5"


@pytest.fixture
def folder(tmp_path, data):
    write_data(tmp_path / "a.zarr", data)
    return tmp_path / "a.zarr"


def edited(folder, name, **changes):
    path = folder / name / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def refused(path, match, **options):
    with pytest.raises(DataError, match=match) as caught:
        open_episodes(path, **options)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("where", ["fill_value", "chunks"])
def test_a_pickle_is_not_opened_wherever_it_lies(tmp_path, folder, where):
    if where == "chunks":
        bombs = np.array([Bomb(tmp_path / "exploded")] * 5, dtype=object)
        zarr.open_group(str(folder)).create_dataset("model_xml", data=bombs, object_codec=numcodecs.Pickle())
    else:
        text = base64.b64encode(pickle.dumps(Bomb(tmp_path / "exploded"))).decode()
        edited(folder, "success", dtype="|O", filters=[{"id": "pickle", "protocol": 5}], fill_value=text)
    refused(folder, "it is pickled, and reading it could run code: do not open it")
    assert not (tmp_path / "exploded").exists()


def test_links_out_of_an_hdf5_file_are_not_followed(hdf5, secret):
    with h5py.File(hdf5, "r+") as file:
        file["data/demo_0/obs/linked"] = h5py.ExternalLink(str(secret), "/numbers")
        layout = h5py.VirtualLayout((9, 3), float)
        layout[:] = h5py.VirtualSource(str(secret), "numbers", (30, 3))[:9]
        file["data/demo_0/obs"].create_virtual_dataset("virtual", layout)
        raw = [(str(secret.with_suffix(".bin")), 0, h5py.h5f.UNLIMITED)]
        file["data/demo_0/obs"].create_dataset("raw", (9, 3), float, external=raw)
    found = open_episodes(hdf5)
    assert {"linked", "virtual", "raw"}.isdisjoint(found.obs)
    assert "a link into another one" in found.left_out["obs/linked"]
    for key in ("virtual", "raw"):
        assert "they lie in another one" in found.left_out[f"obs/{key}"]
        refused(hdf5, f"got {key} .*they lie in another one", obs_keys=[key])


@pytest.mark.parametrize("name", ["data", "data/demo_0", "data/demo_0/actions", "mask"])
def test_a_link_in_the_place_of_what_is_needed_is_refused(hdf5, secret, name):
    with h5py.File(hdf5, "r+") as file:
        del file[name]
        file[name] = h5py.ExternalLink(str(secret), "/numbers")
    refused(hdf5, "a link into another one")


def test_groups_in_a_circle_end(hdf5):
    with h5py.File(hdf5, "r+") as file:
        file["data/demo_0/obs/again"] = file["data/demo_0/obs"]
        for name in ("a", "b", "c"):
            file["data/demo_0/obs"][name] = file["data/demo_0/obs"]
        file["data/demo_0/obs/loop"] = h5py.SoftLink("/data/demo_0/obs/loop")
    left_out = open_episodes(hdf5).left_out
    assert left_out["obs/a"] == left_out["obs/again"] == "a group that has been read"
    assert "a link that leads to itself" in left_out["obs/loop"]


@pytest.mark.parametrize("name", ["obs/k", "states"])
def test_a_link_inside_of_the_file_may_not_lead_out_of_it_by_another(hdf5, secret, name):
    with h5py.File(hdf5, "r+") as file:
        file["out"] = h5py.ExternalLink(str(secret), "/")
        if name in file["data/demo_0"]:
            del file[f"data/demo_0/{name}"]
        file[f"data/demo_0/{name}"] = h5py.SoftLink("/out/numbers")
    data = open_episodes(hdf5)
    assert "k" not in data.obs and data.states is None
    assert "a link into another one" in data.left_out[name]


def test_a_link_to_another_place_of_the_same_file_is_read(hdf5):
    with h5py.File(hdf5, "r+") as file:
        file["data/demo_0/obs/same"] = h5py.SoftLink("/data/demo_0/obs/object")
    data = open_episodes(hdf5)
    np.testing.assert_array_equal(data.obs["same"], data.obs["object"])


def test_chunks_that_are_links_out_of_the_store_are_not_read(folder, secret):
    (folder / "action" / "0.0").unlink()
    (folder / "action" / "0.0").symlink_to(secret)
    refused(folder, "expected 'action/0.0' inside of the store, it is a link: copy what it leads to")


def test_folders_of_chunks_that_are_links_are_not_read(tmp_path, secret):
    root = zarr.open_group(zarr.DirectoryStore(str(tmp_path / "a.zarr"), dimension_separator="/"), "w")
    for name in ("action", "pos"):
        root.create_dataset(f"data/{name}", data=np.zeros((4, 2)), dimension_separator="/")
    root["meta/episode_ends"] = np.array([4])
    chunks = tmp_path / "a.zarr" / "data" / "pos" / "0"
    chunks.rename(tmp_path / "elsewhere")
    chunks.symlink_to(tmp_path / "elsewhere")
    refused(tmp_path / "a.zarr", "expected 'data/pos/0' inside of the store, it is a link")


def test_a_copy_of_groups_in_a_circle_ends(tmp_path, hdf5):
    with h5py.File(hdf5, "r+") as file:
        file["data/demo_0/obs/deep/again"] = file["data/demo_0/obs"]
    copy_robomimic(hdf5, tmp_path / "b.hdf5", None)
    assert open_episodes(tmp_path / "b.hdf5").content_hash == open_episodes(hdf5).content_hash


def test_folders_that_are_links_are_not_entered(tmp_path):
    root = zarr.open_group(str(tmp_path / "a.zarr"), "w")
    root["data/action"], root["data/pos"] = np.zeros((4, 2)), np.zeros((4, 2))
    root["meta/episode_ends"] = np.array([4])
    (tmp_path / "a.zarr" / "data" / "a").symlink_to(tmp_path / "a.zarr" / "data")
    refused(tmp_path / "a.zarr", "expected 'data/a' inside of the store, it is a link")


def test_many_arrays_that_were_never_written_are_refused_together(hdf5, monkeypatch):
    monkeypatch.setattr(foreign, "LARGE", 1 << 26)
    with h5py.File(hdf5, "r+") as file:
        for i in range(9):
            file["data/demo_0/obs"].create_dataset(f"x{i}", (9, 1 << 17), "f8", chunks=True)
    refused(hdf5, "all that is read to hold what it says")
    assert len(open_episodes(hdf5, obs_keys=["object"])) == 1


@pytest.mark.parametrize("kind", ["hdf5", "zarr", "zip"])
def test_what_is_next_to_nothing_on_the_disk_and_huge_in_memory_is_refused(tmp_path, hdf5, folder, kind, monkeypatch):
    monkeypatch.setattr(foreign, "LARGE", 1 << 20)  # the right rule at a size that a test can write
    if kind == "hdf5":
        with h5py.File(hdf5, "r+") as file:
            del file["data/demo_0/obs/object"]
            file["data/demo_0/obs"].create_dataset("object", (9, 1 << 20), "f8", chunks=True, compression="gzip")
        refused(hdf5, "takes 0.0755 GB in memory and .* kB on disk: do not open it, or leave it out")
    elif kind == "zarr":
        root = zarr.open_group(str(folder))
        root.create_dataset("states", data=np.zeros((30, 1 << 16)), overwrite=True, chunks=(30, 1 << 16))
        refused(folder, "states to hold what it says")
    else:
        with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(".zgroup", '{"zarr_format": 2}')
            archive.writestr("data/action/0.0", bytes(4 << 20))
        refused(tmp_path / "a.zarr.zip", "data/action/0.0 to hold what it says")


@pytest.mark.parametrize(
    "changes",
    [
        {"chunks": [0, 7]},
        {"chunks": []},
        {"chunks": [10**18, 10**18]},
        {"shape": [-1, 7]},
        {"shape": [10**15, 7]},
        {"shape": "many"},
        {"dtype": "nothing"},
        {"dtype": [["a", "<f4"]]},
        {"dtype": "<V8"},
        {"dtype": "|O", "filters": None},
        {"dtype": 7},
        {"compressor": {"id": "no_such_codec"}},
        {"compressor": 7},
        {"filters": [{"id": "delta"}]},
        {"filters": 3},
        {"order": "Z"},
        {"zarr_format": 9},
        {"fill_value": {"a": 1}},
    ],
)
def test_metadata_that_makes_no_sense_is_one_message(folder, changes):
    refused(edited(folder, "action", **changes), ".")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"shape": 1e999}', "[" * 100_000])
@pytest.mark.parametrize("name", ["action/.zarray", "obs/object/.zarray", ".zattrs", ".zgroup"])
def test_metadata_that_is_no_metadata_is_one_message(folder, name, text):
    (folder / name).write_text(text)
    refused(folder, ".")


@pytest.mark.parametrize("value", [7, "a", [], {"obs": 3, "action": {}}, {"obs": {}, "action": {"dim": -1}}])
def test_a_spec_that_is_none_is_one_message(folder, hdf5, value):
    zarr.open_group(str(folder)).attrs["spec"] = value
    refused(folder, "spec|expected")
    with h5py.File(hdf5, "r+") as file:
        file["data"].attrs["spec"] = json.dumps(value)
    refused(hdf5, "spec|expected")


@pytest.mark.parametrize("value", ["[", '"text"', '{"env_kwargs": [1]}'])
def test_env_args_that_are_none_are_one_message(hdf5, value):
    with h5py.File(hdf5, "r+") as file:
        del file["data"].attrs["spec"]
        file["data"].attrs["env_args"] = value
    refused(hdf5, "expected")
