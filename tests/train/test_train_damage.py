"""Damaged files of a run: a flipped bit is noticed, the same tensors are the same file, and what to do is said."""

import json
import random
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from test_train_checkpoint import state_of
from tiny_runs import ROOT
from toy_fit import Line

from ebt_policy.data.spec import Spec
from ebt_policy.train.build import load_config, load_policy, policy
from ebt_policy.train.checkpoint import (
    CheckpointError,
    TrainingState,
    load_training,
    load_weights,
    save_training,
    save_weights,
)
from ebt_policy.train.evaluate import sha256
from ebt_policy.train.fit import _groups

WEIGHTS = "weights.safetensors"
SAVED = ["module.safetensors", "ema.safetensors", "optimizer.safetensors"]


@pytest.fixture
def copy(run, tmp_path):
    """A copy of a finished run."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def training(run):
    """A state of that run's kind, for its save to be loaded into."""
    cfg = load_config(run)
    module = policy(cfg, Spec.from_dict(OmegaConf.to_container(cfg.spec)))
    optimizer = torch.optim.AdamW(_groups(module, 1e-4))
    return TrainingState(module, torch.optim.swa_utils.AveragedModel(module), optimizer)


def saved(path, name):
    return next((path / "resume").glob(f"*/{name}"))


def resaved(path, change):
    """Writes the tensors of a file anew as others do, without a checksum, once `change` has been at them."""
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


# weights


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path):
    save_weights(tmp_path, Line())
    path, unnoticed = tmp_path / WEIGHTS, []
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 5):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            load_weights(tmp_path, Line())
            unnoticed.append(bit)
        except CheckpointError as error:
            assert "\n" not in str(error)
    assert unnoticed == []


def test_a_flipped_bit_of_the_body_is_called_damage(copy):
    whole = (copy / WEIGHTS).read_bytes()
    for place in (-1, -1000, -5000):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        (copy / WEIGHTS).write_bytes(flipped)
        with pytest.raises(CheckpointError, match=f"{WEIGHTS} is damaged, its tensors are not what was saved: take a"):
            load_policy(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["encoder.net.0.weight", "model.log_step"])
def test_weights_that_are_no_numbers_are_refused_with_or_without_a_checksum(copy, name, value):
    resaved(copy / WEIGHTS, lambda tensors: tensors[name].fill_(value))
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} is damaged, {name} holds values that are not finite"):
        load_policy(copy)


def test_weights_that_are_no_numbers_are_not_saved_and_the_save_before_stays(tmp_path):
    save_training(tmp_path, state_of(1.0, 1))
    with pytest.raises(CheckpointError, match="did not save .*: net.weight holds values that are not finite; lower"):
        save_training(tmp_path, state_of(float("nan"), 2))
    state = state_of()
    load_training(tmp_path, state)
    assert state.progress.update == 1 == state.module.net.weight[0, 0]


@pytest.mark.parametrize("metadata", [None, {"format": "1", "kind": "ebt_policy.weights", "update": "2"}])
def test_files_from_before_there_were_checksums_load(copy, metadata):
    before = {k: v.clone() for k, v in load_policy(copy).state_dict().items()}
    safetensors.torch.save_file(safetensors.torch.load_file(copy / WEIGHTS), copy / WEIGHTS, metadata)
    after = load_policy(copy).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_metadata_of_others_is_named(copy):
    tensors = safetensors.torch.load_file(copy / WEIGHTS)
    others = [{"format": "pt"}, {"format": "1e9"}, {"ebt_polisy": "1"}, {"ebt_policy": "1"}, {"ebt_policy": "{"}]
    for metadata in others:
        safetensors.torch.save_file(tensors, copy / WEIGHTS, metadata)
        with pytest.raises(CheckpointError, match=f"{WEIGHTS} is not a safetensors file but damaged"):
            load_policy(copy)
    safetensors.torch.save_file(tensors, copy / WEIGHTS, {"ebt_policy": json.dumps({"format": 7, "sha512": ""})})
    with pytest.raises(CheckpointError, match="has format 7, this version reads up to 1: update ebt-policy"):
        load_policy(copy)


def test_weights_of_another_type_are_refused(copy):
    def halve(tensors):
        tensors["encoder.net.0.weight"] = tensors["encoder.net.0.weight"].half()

    resaved(copy / WEIGHTS, halve)
    with pytest.raises(CheckpointError, match=r"1 of another shape \['encoder.net.0.weight'\]"):
        load_policy(copy)


SAVE = """
import sys, torch
from pathlib import Path
from ebt_policy.train.checkpoint import save_weights
torch.manual_seed(0)
names = ["b", "a", "d", "c"] if sys.argv[2] == "1" else ["a", "b", "c", "d"]
weights = {name: torch.full((3, 2), 1.0 + ord(name)) for name in "abcd"}
module = torch.nn.Module()
for name in names:
    module.register_buffer(name, weights[name])
save_weights(Path(sys.argv[1]), module)
"""


def test_the_same_tensors_are_the_same_file_in_any_process_and_order(tmp_path):
    hashes = set()
    for seed in "12":
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", SAVE, str(tmp_path / seed), seed]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)})
        hashes.add(sha256(tmp_path / seed / WEIGHTS))
    assert len(hashes) == 1


def test_saving_again_at_another_update_changes_no_byte_of_the_weights(tmp_path):
    contents = set()
    for update in (1, 2):
        save_training(tmp_path, state_of(0.5, update))
        contents.add((tmp_path / WEIGHTS).read_bytes())
    assert len(contents) == 1
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        assert list(file.metadata()) == ["ebt_policy"]


# saves to resume from


def test_a_whole_save_is_loaded(run, training):
    load_training(run, training)
    assert training.progress.update == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "progress.json"),
        ("5", "progress.json"),
        ("null", "progress.json"),
        ('{"update": 7, "seconds": 1.0}', "update 7 in the save of update 2"),
        ('{"update": -2, "seconds": 1.0}', "update -2 in the save of update 2"),
        ('{"update": 2.0, "seconds": 1.0}', "update 2.0 in the save of update 2"),
        ('{"update": 2, "seconds": NaN}', "nan seconds"),
        ('{"update": 2, "seconds": -1}', "-1 seconds"),
        ('{"update": 2, "seconds": "x"}', "'x' seconds"),
        ('{"update": 2, "seconds": 1, "more": 1}', "unexpected keyword argument 'more'"),
        ('{"update": 2, "seconds": 1, "sums": {"loss": NaN, "count": 1}}', "the sums"),
        ('{"update": 2, "seconds": 1, "sums": {"loss": 1, "count": -3}}', "the sums"),
        ('{"update": 2, "seconds": 1, "sums": {"loss": 1, "count": Infinity}}', "the sums"),
        ("[" * 100_000, "recursion"),
        ("\udcff", "progress.json"),
    ],
)
def test_progress_that_is_none_is_named(copy, training, text, message):
    saved(copy, "progress.json").write_text(text, errors="surrogateescape")
    with pytest.raises(CheckpointError, match=f"expected the progress of a save in .*{message}.*: train again"):
        load_training(copy, training)


def test_moments_under_other_names_shapes_or_numbers_are_named(copy, training):
    path = saved(copy, "optimizer.safetensors")
    whole = path.read_bytes()
    changes = [
        lambda t: t.update({"x.step": t.pop("0.step")}),
        lambda t: t.update({"step": t.pop("0.step")}),
        lambda t: t.update({"0.step.more": torch.zeros(())}),
        lambda t: t.update({"0.pace": t.pop("0.step")}),
        lambda t: t.update({"99.step": torch.zeros(())}),
        lambda t: t.update({"-1.step": torch.zeros(())}),
        lambda t: t.update({"0.step": torch.zeros(2)}),
        lambda t: t.update({"0.step": torch.zeros((), dtype=torch.int64)}),
        lambda t: t.update({"0.exp_avg": torch.zeros(1, 1)}),
        lambda t: t.pop("0.exp_avg"),
    ]
    for change in changes:
        path.write_bytes(whole)
        resaved(path, change)
        with pytest.raises(CheckpointError, match="optimizer.safetensors is not of this optimiser: [12] tensors"):
            load_training(copy, training)


@pytest.mark.parametrize("name", ["module.safetensors", "ema.safetensors"])
def test_a_saved_module_with_other_tensors_is_named(copy, training, name):
    path = saved(copy, name)
    whole = path.read_bytes()
    key = next(k for k in safetensors.torch.load_file(path) if k.endswith("encoder.net.0.weight"))
    for change in (
        lambda t: t.pop(key),
        lambda t: t.update({key + "s": t.pop(key)}),
        lambda t: t.update({key: torch.zeros(3)}),
        lambda t: t.update({key: t[key].double()}),
    ):
        path.write_bytes(whole)
        resaved(path, change)
        with pytest.raises(CheckpointError, match=f"{name} does not fit its config.yaml"):
            load_training(copy, training)


def test_moments_that_are_gone_are_missed(copy, training):
    resaved(saved(copy, "optimizer.safetensors"), lambda tensors: tensors.clear())
    with pytest.raises(CheckpointError, match="optimizer.safetensors has nothing of this optimiser"):
        load_training(copy, training)


def test_what_lies_in_the_folder_of_saves_and_is_none_is_left_alone(copy, training):
    (copy / "resume" / "000000123").write_text("a file")
    (copy / "resume" / "٠٠٠٠٠٠١٢٣").mkdir()
    (copy / "resume" / ".000000124.partial").mkdir()
    load_training(copy, training)
    assert training.progress.update == 2


def test_a_file_where_saves_should_be_is_no_save(copy, training):
    shutil.rmtree(copy / "resume")
    (copy / "resume").write_text("a file")
    with pytest.raises(CheckpointError, match="expected a save in .*, found none"):
        load_training(copy, training)


def test_an_empty_newest_save_is_named_and_how_to_go_on_from_the_one_before(copy, training):
    (copy / "resume" / "000000007").mkdir()
    with pytest.raises(CheckpointError, match="resume/000000007.*, or remove .*000000007 to go on from update 2"):
        load_training(copy, training)
    (copy / "resume" / "000000007").rmdir()
    load_training(copy, training)


def test_updates_of_ten_digits_come_after_those_of_nine(copy, training):
    shutil.copytree(copy / "resume" / "000000002", copy / "resume" / "1000000000")
    saved(copy, "../1000000000/progress.json").write_text('{"update": 1000000000, "seconds": 1.0}')
    load_training(copy, training)
    assert training.progress.update == 10**9


# chance


def spoilt(data, rng):
    if rng.random() < 0.2:
        return data[: rng.randrange(len(data))]
    at, data = rng.randrange(len(data)), bytearray(data)
    if rng.random() < 0.7:
        data[at] ^= 1 << rng.randrange(8)
    else:
        data[at : at + 8] = rng.randbytes(rng.randrange(12))
    return bytes(data)


@pytest.mark.parametrize("name", ["config.yaml", WEIGHTS, *SAVED, "progress.json"])
def test_whatever_is_spoilt_in_a_run_is_noticed_or_harmless(copy, training, name):
    path = copy / name if (copy / name).exists() else saved(copy, name)
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(60):
        path.write_bytes(spoilt(whole, rng))
        try:
            load_training(copy, training) if "resume" in str(path) else load_policy(copy)
        except (CheckpointError, ValueError) as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused == 60 if name.endswith(".safetensors") else refused > 20
