"""Runs of every text experiment on a folder of text: their logs, resuming, and writing with what they leave."""

import json

import pytest
import safetensors.torch
import torch
from hydra import compose, initialize_config_dir
from small_text import compose_text, write_folder
from tiny_runs import ROOT, compose_train, script

from ebt_policy.train.build import load_policy
from ebt_policy.train.checkpoint import CheckpointError
from ebt_policy.train.kinds.text import load_language_model
from ebt_policy.train.log import RunLog, read_log
from ebt_policy.train.run import train_run

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("text_*.yaml"))
KEPT = "method.replay.size=8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("corpus") / "texts")


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """A finished run of every experiment, which no test changes."""
    root = tmp_path_factory.mktemp("runs")
    for name in EXPERIMENTS:
        more = [KEPT, "fit.save_every=0"] if name == "text_ebt_s2" else []
        train_run(compose_text(root / name, folder, f"experiment={name}", *more))
    return {name: root / name for name in EXPERIMENTS}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_trains_and_logs_its_perplexity_on_held_out_text(runs, name):
    rows = read_log(runs[name] / "train.jsonl")
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    measured = [row for row in rows if "val_perplexity" in row]
    assert [row["update"] for row in measured] == [2, 4] and all(1 < row["val_perplexity"] < 1e6 for row in measured)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_loaded_model_predicts_and_writes_with_the_tokeniser_of_its_run(runs, name, capsys):
    model, tokenizer = load_language_model(runs[name])
    ids = torch.tensor([tokenizer.encode("The house of glass").ids])
    assert torch.isfinite(model.predict(ids).y).all()
    script("generate", f"run={runs[name]}", "prompt=The house", "tokens=4", "table=true")
    said = capsys.readouterr().out
    assert said.startswith("The house") and "4 tokens" in said and "probability" in said
    assert ("this model has no energies" in said) == (name == "text_transformer")


def test_a_run_that_stopped_midway_resumes_to_the_same_end_with_its_kept_rows(runs, folder, tmp_path, monkeypatch):
    write = RunLog.write

    def interrupted(self, row):
        write(self, row)
        if row["update"] == 3:
            raise KeyboardInterrupt

    settings = (folder, "experiment=text_ebt_s2", KEPT, "fit.save_every=0")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLog, "write", interrupted)
        train_run(compose_text(tmp_path, *settings))
    train_run(compose_text(tmp_path, *settings, "resume=true"))
    for name in ("module", "ema", "optimizer"):
        one, other = (
            safetensors.torch.load_file(next((run / "resume").glob("0*")) / f"{name}.safetensors")
            for run in (tmp_path, runs["text_ebt_s2"])
        )
        assert one.keys() == other.keys() and [k for k in one if not torch.equal(one[k], other[k])] == []
        if name == "module":
            assert one["replay.count"] == 16 and one["replay.walks.age"].min() >= 1


def test_a_model_for_writing_carries_no_kept_rows_and_its_thinking_can_be_set(runs):
    weights = safetensors.torch.load_file(runs["text_ebt_s2"] / "weights.safetensors")
    assert "embed.weight" in weights and not [name for name in weights if name.startswith("replay")]
    model, _ = load_language_model(runs["text_ebt_s2"], steps=7)
    assert model.predict(torch.zeros(1, 4, dtype=torch.long)).steps.tolist() == [7]


def test_a_checkpoint_of_another_kind_of_task_is_refused_by_name(runs, store, tmp_path):
    with pytest.raises(CheckpointError, match="holds a text model, expected one of kind robot"):
        load_policy(runs["text_transformer"])
    train_run(compose_train(tmp_path, store, updates=1))
    with pytest.raises(CheckpointError, match="holds a robot model, expected one of kind text"):
        load_language_model(tmp_path)


def test_a_task_of_an_unknown_kind_is_refused_with_the_known_ones(folder, tmp_path):
    with pytest.raises(ValueError, match="task.kind must be one of .*robot.*text.*, got 'music'"):
        train_run(compose_text(tmp_path / "run", folder, "experiment=text_ebt_s1", "task.kind=music"))
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_written_ends_with_one_message(runs, capsys):
    run = f"run={runs['text_ebt_s1']}"
    for arguments, message in (
        (("prompt=" + "glass " * 40,), "do not fit in the context of 16 that the model was trained with"),
        (("prompt=x", "temperature=-1"), "temperature must be at least 0"),
        (("prompt=x", "method.steps=0"), "steps must be at least 1"),
    ):
        with pytest.raises(SystemExit, match=message):
            script("generate", run, *arguments)


def test_every_published_size_composes():
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for path in (ROOT / "configs" / "net").glob("text_*.yaml"):
            cfg = compose("train", ["experiment=text_ebt_s1", f"net={path.stem}"])
            assert cfg.net.dim >= 128 and cfg.net.dim % (2 * cfg.net.heads) == 0


def test_the_bench_of_writing_says_what_a_token_costs_beside_its_targets(tmp_path, capsys):
    script(
        "bench_write", "--net", "{dim: 16, depth: 1, heads: 2}", "--rounds", "1", "--out", str(tmp_path / "out.json")
    )
    result = json.loads((tmp_path / "out.json").read_text())
    assert "<= 1.3" in capsys.readouterr().out and len(result["ratios"]) == 7
    assert result["ratios"]["EBT S1, 1000 before / EBT S1, 10 before"]["cpu"]["median"] > 0
