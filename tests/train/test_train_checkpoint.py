"""Checkpoints: whole or not there, data and nothing else, and every damage is called by its name."""

import json
import pickle
import resource
import zipfile

import pytest
import safetensors.torch
import torch
from tiny_runs import compose_train
from toy_fit import Line

from ebt_policy.train import checkpoint
from ebt_policy.train.build import load_config, load_policy
from ebt_policy.train.checkpoint import (
    FORMAT,
    CheckpointError,
    Progress,
    TrainingState,
    latest_update,
    load_training,
    load_weights,
    save_training,
    save_weights,
)
from ebt_policy.train.run import train_run


def state_of(value=0.0, update=0, size=3):
    """A training state whose weights and moments are all `value`."""
    module = Line()
    module.net = torch.nn.Linear(size, size)
    torch.nn.init.constant_(module.net.weight, value)
    ema = torch.optim.swa_utils.AveragedModel(module)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)
    module.net(torch.ones(1, size)).sum().backward()
    optimizer.step()
    return TrainingState(module, ema, optimizer, Progress(update, 10.0 * update))


@pytest.fixture
def run(store, tmp_path):
    """A finished run of one update."""
    train_run(compose_train(tmp_path / "run", store, "validation=0", updates=1))
    return tmp_path / "run"


def edit(path, change):
    path.write_bytes(change(path.read_bytes()))


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    before, after = state_of(0.7, 5), state_of()
    save_training(tmp_path, before)
    load_training(tmp_path, after)
    assert after.progress == Progress(5, 50.0) and latest_update(tmp_path) == 5
    assert torch.equal(after.module.net.weight, before.module.net.weight)
    assert torch.equal(after.ema.module.net.weight, before.ema.module.net.weight)
    kept, found = (s.optimizer.state_dict()["state"] for s in (before, after))
    assert all(torch.equal(kept[i][k], found[i][k]) for i in kept for k in kept[i])


class Crash(BaseException):
    """What stands for a kill."""


@pytest.mark.parametrize("moment", range(6))
def test_a_crash_at_any_moment_of_a_save_leaves_one_whole_save(tmp_path, monkeypatch, moment):
    save_training(tmp_path, state_of(1.0, 1))
    replace, calls = checkpoint.os.replace, []

    def crash(source, target):
        calls.append(target)
        if len(calls) > moment:
            raise Crash
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(checkpoint.os, "replace", crash)
        save_training(tmp_path, state_of(2.0, 2))
    state, acting = state_of(), Line()
    load_training(tmp_path, state)
    load_weights(tmp_path, acting)
    assert state.progress.update == state.module.net.weight[0, 0] in (1, 2)
    assert acting.net.weight[0, 0] == 1.0
    save_training(tmp_path, state_of(3.0, 3))  # and what the crash left behind is in nobody's way
    assert [p.name for p in (tmp_path / "resume").iterdir()] == ["000000003"]


def test_a_disk_that_is_full_while_saving_is_one_message_and_the_save_before_survives(tmp_path):
    save_training(tmp_path, state_of(1.0, 1, size=40))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(CheckpointError, match="could not save update 2 .*The save before it is intact"):
            save_training(tmp_path, state_of(2.0, 2, size=40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    state = state_of(size=40)
    load_training(tmp_path, state)
    assert state.progress.update == 1 == state.module.net.weight[0, 0]
    files = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["ema.safetensors", "module.safetensors", "optimizer.safetensors", "progress.json"] + [
        "weights.safetensors"
    ]


def test_a_folder_that_cannot_be_written_to_is_one_message(tmp_path):
    (tmp_path / "resume").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match="could not save update 1"):
        save_training(tmp_path, state_of(1.0, 1))


def test_weights_of_a_newer_format_ask_for_an_update(run):
    tensors = safetensors.torch.load_file(run / "weights.safetensors")
    safetensors.torch.save_file(tensors, run / "weights.safetensors", {"format": str(FORMAT + 1)})
    with pytest.raises(CheckpointError, match=f"has format {FORMAT + 1}, this version reads up to {FORMAT}: update"):
        load_policy(run)


@pytest.mark.parametrize("keep", [0, 7, 200, 20_000])
def test_truncated_weights_are_damaged(run, keep):
    edit(run / "weights.safetensors", lambda data: data[:keep])
    with pytest.raises(CheckpointError, match="weights.safetensors is not a safetensors file but damaged"):
        load_policy(run)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_in_place_of_weights_is_not_opened(run, protocol):
    (run / "weights.safetensors").write_bytes(pickle.dumps({"net": [1.0]}, protocol))
    with pytest.raises(CheckpointError, match="a pickle or zip archive, which could run code"):
        load_policy(run)


def test_a_zip_in_place_of_weights_is_not_opened(run):
    torch.save({"net": torch.zeros(2)}, run / "weights.safetensors")
    assert zipfile.is_zipfile(run / "weights.safetensors")
    with pytest.raises(CheckpointError, match="a pickle or zip archive, which could run code"):
        load_policy(run)


def test_missing_weights_are_named(run):
    (run / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match="expected .*weights.safetensors, which does not exist"):
        load_policy(run)


def test_weights_of_another_net_are_refused_whole(run):
    save_weights(run, Line())
    with pytest.raises(CheckpointError, match="does not fit its config.yaml: .* tensors missing .*, 3 unknown"):
        load_policy(run)


def test_weights_of_another_width_are_refused(run, store, tmp_path):
    train_run(compose_train(tmp_path / "wide", store, "net.dim=32", updates=1))
    (run / "weights.safetensors").write_bytes((tmp_path / "wide" / "weights.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"0 tensors missing .*, 0 unknown .*, \d+ of another shape"):
        load_policy(run)


def test_a_folder_without_a_config_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="expected .*config.yaml, which does not exist: give the folder of a"):
        load_policy(tmp_path)


@pytest.mark.parametrize("text", ["", "task: [", "- a\n- b\n", "just words", "task: {name: lift}\n", "a: \x00"])
def test_a_damaged_config_is_named(run, text):
    (run / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match="config.yaml is (incomplete|not plain YAML)"):
        load_config(run)


def test_a_config_cannot_construct_objects(run):
    tag = "!!python/object/apply:os.system ['touch owned']"
    (run / "config.yaml").write_text(f"task: {tag}\n")
    with pytest.raises(CheckpointError, match="not plain YAML"):
        load_config(run)


@pytest.mark.parametrize("name", ["module.safetensors", "ema.safetensors", "optimizer.safetensors", "progress.json"])
def test_a_damaged_save_is_named_on_resume(run, store, name):
    path = next((run / "resume").glob(f"*/{name}"))
    edit(path, lambda data: data[:10])
    weights = (run / "weights.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=name):
        train_run(compose_train(run, store, "validation=0", "resume=true", updates=2))
    assert (run / "weights.safetensors").read_bytes() == weights


def test_a_save_holds_nothing_but_safetensors_and_json(run):
    for path in (run / "resume").rglob("*.*"):
        if path.suffix == ".json":
            assert json.loads(path.read_text())["update"] == 1
        else:
            safetensors.torch.load_file(path)
