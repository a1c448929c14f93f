"""Runs of every image experiment on a folder of pictures: their logs, what is measured of them, and what is refused."""

import json

import pytest
import torch
from small_images import compose_image, write_folder
from tiny_runs import ROOT, compose_train, script

from ebt_policy.train.build import load_policy
from ebt_policy.train.checkpoint import CheckpointError
from ebt_policy.train.kinds.image import load_denoiser
from ebt_policy.train.log import read_log
from ebt_policy.train.run import train_run

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("image_*.yaml"))
METHODS = {"ebt": "image_ebt_tiles", "dit": "image_dit_tiles"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pictures") / "folder")


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """A finished run of every experiment, which no test changes."""
    root = tmp_path_factory.mktemp("runs")
    for name in EXPERIMENTS:
        train_run(compose_image(root / name, folder, f"experiment={name}"))
    return {name: root / name for name in EXPERIMENTS}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_trains_and_logs_the_psnr_of_held_out_images(runs, name):
    rows = read_log(runs[name] / "train.jsonl")
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    measured = [row for row in rows if "val_psnr_0.5" in row]
    assert [row["update"] for row in measured] == [2, 4] and all(0 < row["val_psnr_0.5"] < 40 for row in measured)


@pytest.mark.parametrize("method", METHODS)
def test_a_trained_denoiser_is_measured_at_every_noise_level_and_shown(runs, tmp_path, method, capsys):
    run = runs[METHODS[method]]
    script("denoise", f"run={run}", "inside=[0.5]", "outside=[2.0]", "steps=[1,3]", "pictures=2", f"out={tmp_path}")
    assert "2 (outside), 3" in capsys.readouterr().out
    rows = json.loads((tmp_path / "denoise.json").read_text())["rows"]
    assert [(row["sigma"], row["steps"]) for row in rows] == [(s, k) for s in (0.5, 2.0) for k in (0, 1, 3)]
    assert [row["inside"] for row in rows] == [True] * 3 + [False] * 3
    for row in rows:
        assert len(row["psnr_of_each"]) == 12 and row["psnr"]["interval"][0] <= row["psnr"]["mean"]
        assert row.get("network_evaluations", 0) == row["steps"]
        assert row.get("gradients", 0) == (row["steps"] if method == "ebt" else 0)
        assert len(row.get("energy", [])) == (row["steps"] + 1 if method == "ebt" and row["steps"] else 0)
    page = (tmp_path / "gallery.html").read_text()
    assert page.count("data:image/svg+xml") == 3 and "Noise 2" in page
    assert (tmp_path / "pictures.png").read_bytes().startswith(b"\x89PNG")


def test_more_steps_than_the_run_has_are_asked_for_by_name(runs):
    denoiser, data = load_denoiser(runs[METHODS["ebt"]], steps=5)
    assert denoiser.denoise(torch.zeros(1, 3, 8, 8), 0.5).steps.tolist() == [5] and len(data.held_out) == 12


def test_images_that_are_not_those_of_training_are_refused(folder, tmp_path):
    copy = tmp_path / "pictures"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    train_run(compose_image(tmp_path / "run", copy, "experiment=image_ebt_tiles", updates=1))
    (copy / "3.png").unlink()
    with pytest.raises(CheckpointError, match="is not what .* was trained on"):
        load_denoiser(tmp_path / "run")


def test_a_checkpoint_of_another_kind_of_task_is_refused_by_name(runs, store, tmp_path):
    with pytest.raises(CheckpointError, match="holds a image model, expected one of kind robot"):
        load_policy(runs["image_dit_tiles"])
    train_run(compose_train(tmp_path, store, updates=1))
    with pytest.raises(CheckpointError, match="holds a robot model, expected one of kind image"):
        load_denoiser(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("task.patch=3",), "task.size must be a multiple of task.patch, got 8 and 3"),
        (("task.size=48", "task.patch=2"), "577 tokens are more than 512: set task.patch higher"),
        (("task.size=32",), "png is 24 x 16 pixels, a tile needs 32 x 32"),
        (("task.channels=1",), "png is RGB, expected L"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_there_is_a_run(folder, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        train_run(compose_image(tmp_path / "run", folder, "experiment=image_ebt_tiles", *settings))
    assert not (tmp_path / "run").exists()


def test_images_without_labels_cannot_be_probed(runs):
    with pytest.raises(SystemExit, match="have no labels: give a run on digits"):
        script("probe", f"run={runs['image_ebt_tiles']}")


def test_a_run_on_digits_is_probed_beside_pixels_and_chance(tmp_path, capsys):
    digits = ("task.source=digits", "task.size=28", "task.channels=1", "task.patch=14", "validation=0.5")
    train_run(compose_image(tmp_path / "run", "digits", "experiment=image_ebt_mnist", *digits, updates=1))
    script("probe", f"run={tmp_path / 'run'}")
    rows = json.loads((tmp_path / "run" / "probe.json").read_text())["rows"]
    assert [row["features"] for row in rows] == ["pixels", "untrained, block 1", "trained, block 1"]
    assert rows[0]["accuracy"] > 0.75 and all(row["held_out"] == 2500 for row in rows)
    assert "pixels: " in capsys.readouterr().out
