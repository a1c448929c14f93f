"""A whole training run on a synthetic store: resume, precision, several processes, and the policy that it leaves."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from omegaconf import OmegaConf
from tiny_runs import ROOT, TINY, compose_train, overrides, script

from ebt_policy.core import ReplayBuffer
from ebt_policy.data.store import open_episodes
from ebt_policy.data.windows import WindowDataset
from ebt_policy.train.build import load_config, load_policy
from ebt_policy.train.kinds.robot import HeldOutError
from ebt_policy.train.log import RunLog, read_log
from ebt_policy.train.run import train_run

REPLAY = "method.replay={_target_: ebt_policy.core.ReplayBuffer, share: 0.5}"
OFTEN = "fit.save_every=0"
LEARN_STEP = "method.model.learn_step_size=true"
EACH = "fit.log_every=1"


def weights(run, name="weights"):
    return safetensors.torch.load_file(run / f"{name}.safetensors")


def assert_same_end(a, b):
    """The policies for acting, and all that training would go on from, are equal bit for bit."""
    saves = [next(iter(sorted((run / "resume").glob("0*")))) for run in (a, b)]
    assert saves[0].name == saves[1].name
    pairs = [(weights(a), weights(b))] + [
        tuple(weights(save, name) for save in saves) for name in ("module", "ema", "optimizer")
    ]
    for x, y in pairs:
        assert x.keys() == y.keys() and [k for k in x if not torch.equal(x[k], y[k])] == []


def numbers(run):
    """The log without its times."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "wall")} for row in read_log(run / "train.jsonl")]


def observations(store, count=5):
    return WindowDataset(open_episodes(store), 2, 4).batch(torch.arange(0, 10 * count, 10)).obs


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """A finished run with replay, and the averaged policy that training returned."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    policy = train_run(compose_train(run, store, REPLAY, LEARN_STEP, EACH, updates=12))
    return run, policy


def test_a_run_that_stopped_midway_resumes_to_the_same_end_with_its_kept_candidates(
    trained, store, tmp_path, monkeypatch
):
    write = RunLog.write

    def interrupted(self, row):
        write(self, row)
        if row["update"] == 8:
            raise KeyboardInterrupt

    settings = (store, REPLAY, LEARN_STEP, EACH, OFTEN)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLog, "write", interrupted)
        train_run(compose_train(tmp_path, *settings, updates=12))
    assert weights(next((tmp_path / "resume").glob("0*")), "module")["replay.age"].max() > 0
    train_run(compose_train(tmp_path, *settings, "resume=true", updates=12))
    assert_same_end(trained[0], tmp_path)
    assert numbers(trained[0]) == numbers(tmp_path)


def test_a_run_that_was_killed_at_a_random_moment_resumes_to_the_same_end(store, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = (OFTEN, EACH, "method=diffusion", "method.model.act.steps=3")
    train_run(compose_train(whole, store, *settings, updates=60))
    command = [sys.executable, str(ROOT / "scripts/train.py"), *overrides(killed, store, 60), *settings]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    while not (killed / "weights.safetensors").exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    train_run(compose_train(killed, store, *settings, "resume=true", updates=60))
    assert_same_end(whole, killed)
    assert numbers(whole) == numbers(killed)


def test_a_run_that_was_killed_before_its_first_save_starts_over(store, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_run(compose_train(whole, store))

    def killed_early(self, row):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLog, "write", killed_early)
        train_run(compose_train(killed, store))
    train_run(compose_train(killed, store, "resume=true"))
    assert_same_end(whole, killed)


def test_a_finished_run_goes_on_when_its_budget_grows(store, tmp_path):
    train_run(compose_train(tmp_path, store, updates=4))
    train_run(compose_train(tmp_path, store, "resume=true", updates=8))
    assert [row["update"] for row in numbers(tmp_path)] == [2, 4, 6, 8]


def test_a_loaded_policy_acts_bit_for_bit_like_the_one_that_was_trained(trained, store):
    run, policy = trained
    loaded, obs = load_policy(run), observations(store)
    chunks = [p.predict_action(obs, torch.Generator().manual_seed(3)) for p in (policy, loaded)]
    assert torch.equal(chunks[0].plan, chunks[1].plan) and torch.equal(chunks[0].energies, chunks[1].energies)
    assert chunks[0].actions.shape == (5, 2, 7)


def test_a_policy_for_acting_carries_step_size_and_normaliser_but_no_kept_candidates(trained):
    run, policy = trained
    kept = weights(run)
    assert {"model.log_step", "normalizer.action_limits.center", "encoder.net.0.weight"} <= kept.keys()
    assert not [name for name in kept if name.startswith("replay")]
    assert kept["model.log_step"] != 0 and torch.equal(kept["model.log_step"], policy.model.log_step)
    assert isinstance(policy.replay, ReplayBuffer)


def test_the_average_is_of_the_whole_policy(trained):
    save = next((trained[0] / "resume").glob("0*"))
    module, ema, final = weights(save, "module"), weights(save, "ema"), weights(trained[0])
    assert {f"module.{name}" for name in module} | {"n_averaged"} == ema.keys()
    assert all(torch.equal(final[name], ema[f"module.{name}"]) for name in final)
    learned = [name for name in final if name.startswith(("encoder", "model"))]
    assert [name for name in learned if torch.equal(module[name], final[name])] == []
    assert torch.equal(module["normalizer.action_limits.center"], final["normalizer.action_limits.center"])


def test_acting_settings_are_changed_on_loading(trained):
    policy = load_policy(trained[0], steps=5, execute=1)
    assert policy.model.act.steps == 5 and policy.horizon.execute == 1


@pytest.mark.parametrize("precision", ["medium", "bf16"])
def test_lower_precision_trains_to_about_the_same_losses(store, tmp_path, precision):
    losses = []
    for name in ("fp32", precision):
        train_run(compose_train(tmp_path / name, store, f"fit.precision={name}", EACH))
        losses.append([row["loss"] for row in numbers(tmp_path / name)])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_held_out_demonstrations_give_an_error_and_energies_in_the_log(trained):
    rows = [row for row in numbers(trained[0]) if "val_error" in row]
    assert [row["update"] for row in rows] == [4, 8, 12]
    assert all(row["val_energy_drop"] > 0 and row["val_energy_grad"] > 0 for row in rows)


def test_two_processes_end_with_the_same_weights_and_one_log(store, tmp_path):
    run = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launch, str(Path(__file__).with_name("two_ranks.py")), *overrides(run, store, 4), REPLAY]
    result = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    first, second = (safetensors.torch.load_file(tmp_path / f"rank{i}.safetensors") for i in (0, 1))
    assert first.keys() == second.keys() and [k for k in first if not torch.equal(first[k], second[k])] == []
    assert [k for k, v in weights(run).items() if not torch.equal(v, first[k])] == []
    assert [row["update"] for row in numbers(run)] == [2, 4]
    assert json.loads(next((run / "resume").glob("0*/progress.json")).read_text())["update"] == 4


@pytest.mark.parametrize(
    "said, budget",
    [
        (["fit.updates=2"], (2, None)),
        (["fit.minutes=0.001"], (None, 0.001)),
        (["experiment=ebt_lift", "fit.compile=false", "fit.updates=2"], (2, None)),
        (["experiment=equal", "fit.compile=false", "fit.minutes=0.001"], (None, 0.001)),
        (["fit.minutes=null", "fit.updates=2"], (2, None)),
    ],
)
def test_the_budget_that_the_command_line_names_takes_the_place_of_a_preset_one(store, tmp_path, said, budget):
    script("train", *said, f"run={tmp_path}", f"task.data={store}", *TINY)
    fit = load_config(tmp_path).fit
    assert (fit.updates, fit.minutes) == budget


def test_settings_that_change_on_resuming_are_said_and_kept(store, tmp_path):
    def history():
        return OmegaConf.to_container(load_config(tmp_path)).get("history")

    train_run(compose_train(tmp_path, store, updates=2))
    assert history() is None
    with pytest.warns(UserWarning) as said:
        train_run(compose_train(tmp_path, store, "resume=true", "fit.lr=5e-4", "fit.seed=3", updates=4))
    assert sorted(str(w.message) for w in said if "until then" in str(w.message)) == [
        "fit.lr=0.0005 from update 2 on, it was 0.001 until then",
        "fit.seed=3 from update 2 on, it was 0 until then",
        "fit.updates=4 from update 2 on, it was 2 until then",
    ]
    first = {"until": 2, "fit": {"updates": 2, "lr": 1e-3, "seed": 0}}
    assert history() == [first] and load_config(tmp_path).fit.lr == 5e-4
    train_run(compose_train(tmp_path, store, "resume=true", "fit.lr=5e-4", "fit.seed=3", updates=4))
    assert history() == [first]
    train_run(compose_train(tmp_path, store, "resume=true", "fit.lr=5e-4", "fit.seed=3", "fit.batch=4", updates=6))
    assert history() == [first, {"until": 4, "fit": {"updates": 4, "batch": 8}}]
    assert load_policy(tmp_path).horizon.predict == 4


def test_settings_under_which_nothing_was_trained_are_not_kept(store, tmp_path):
    train_run(compose_train(tmp_path, store, updates=2))
    config = tmp_path / "config.yaml"
    trained = OmegaConf.load(config)
    for lr in (0.1, 0.2):  # resumed, and ended without a save
        trained.fit.lr, trained.history = lr, [{"until": 2, "fit": {"lr": 1e-3}}]
        OmegaConf.save(trained, config)
    train_run(compose_train(tmp_path, store, "resume=true", "fit.lr=5e-4", updates=4))
    assert OmegaConf.to_container(load_config(tmp_path).history) == [{"until": 2, "fit": {"lr": 1e-3, "updates": 2}}]


def test_a_run_from_before_settings_that_are_null_now_is_resumed(store, tmp_path):
    train_run(compose_train(tmp_path, store, updates=2))
    trained = OmegaConf.load(tmp_path / "config.yaml")
    assert trained.task.pop("origin") is None and trained.method.pop("replay") is None
    progress = next(tmp_path.glob("resume/*/progress.json"))
    progress.write_text(json.dumps({"update": 2, "seconds": 1.5}))
    OmegaConf.save(trained, tmp_path / "config.yaml")
    train_run(compose_train(tmp_path, store, "resume=true", updates=4))
    assert [row["update"] for row in numbers(tmp_path)] == [2, 4] and read_log(tmp_path / "train.jsonl")[-1][
        "wall"
    ] > 1.5


def test_windows_of_the_held_out_error_are_made_once(trained, store, monkeypatch):
    made, error = [], HeldOutError(open_episodes(store).select(range(2)))
    windows = WindowDataset.__init__
    monkeypatch.setattr(WindowDataset, "__init__", lambda self, *args: made.append(args) or windows(self, *args))
    assert error(trained[1]) == error(trained[1]) and len(made) == 1
