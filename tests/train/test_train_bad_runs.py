"""What a user can get wrong with a run: each is one message, a non-zero exit, and nothing is lost."""

import fcntl
import os
import shutil
import subprocess
import sys
import warnings

import pytest
import toy_arm  # noqa: F401  registers environments
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tiny_runs import ROOT, compose_train, make_store, overrides, script

from ebt_policy.cli import fail_cleanly
from ebt_policy.train.build import check_targets, load_policy
from ebt_policy.train.checkpoint import CheckpointError
from ebt_policy.train.evaluate import check_meaning, described, evaluate_run
from ebt_policy.train.run import train_run


def complaint(name, *arguments):
    """What scripts/<name>.py says on its way out."""
    with pytest.raises(SystemExit) as stop:
        script(name, *arguments)
    assert stop.value.code not in (0, None)
    return str(stop.value.code)


def evaluation(run, *more):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("eval", [f"run={run}", "processes=1", "episodes=2", "video=false", *more])


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# folders


def test_a_folder_that_holds_a_run_is_not_overwritten(run, store):
    before = contents(run)
    with pytest.raises(CheckpointError, match="holds a run already: set resume=true .*or run=<another folder>"):
        train_run(compose_train(run, store))
    assert contents(run) == before


def test_a_run_is_resumed_with_the_settings_it_has(run, store):
    before = contents(run)
    with pytest.raises(CheckpointError, match="trained with another method, net: resume with the same settings"):
        train_run(compose_train(run, store, "task.env=ToyArm-v0", "resume=true", "method=diffusion", "net.dim=32"))
    assert contents(run) == before


def test_a_run_is_resumed_on_the_data_it_has(run, tmp_path):
    other = make_store(tmp_path / "other.zarr.zip", episodes=5)
    with pytest.raises(CheckpointError, match="trained with another task, data"):
        train_run(compose_train(run, other, "task.env=ToyArm-v0", "resume=true"))


def test_there_is_nothing_to_resume_in_an_empty_folder(store, tmp_path):
    with pytest.raises(CheckpointError, match="holds no run to resume: start it without resume=true"):
        train_run(compose_train(tmp_path, store, "resume=true"))


def test_weights_without_a_save_are_not_trained_over(run, store, tmp_path):
    for name in ("config.yaml", "weights.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(CheckpointError, match="expected a save in .*, found none"):
        train_run(compose_train(tmp_path, store, "task.env=ToyArm-v0", "resume=true"))


def test_two_runs_at_once_in_one_folder_are_refused(store, tmp_path):
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another process is training in .*: wait for it, or set run="):
            train_run(compose_train(tmp_path, store))
    train_run(compose_train(tmp_path, store, updates=1))


def test_settings_that_are_refused_leave_no_run_behind(store, tmp_path):
    with pytest.raises(ValueError, match="step_size must be in"):
        train_run(compose_train(tmp_path, store, "method.model.step_size=0"))
    train_run(compose_train(tmp_path, store, updates=1))


# the command line


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError, FloatingPointError, CheckpointError])
def test_an_error_that_a_user_can_mend_is_one_line_and_not_a_traceback(kind):
    @fail_cleanly
    def main():
        raise kind("set it right")

    with pytest.raises(SystemExit, match=f"^{kind.__name__}: set it right$"):
        main()


def test_an_error_in_the_program_keeps_its_traceback(monkeypatch):
    @fail_cleanly
    def main():
        raise ValueError("set it right")

    monkeypatch.setenv("EBT_TRACEBACK", "1")
    with pytest.raises(ValueError):
        main()


def test_an_unknown_override_is_named_and_nothing_is_made(store, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/train.py"), *overrides(tmp_path / "run", store), "fit.nope=1"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode != 0 and "fit.nope" in result.stderr and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_scripts_end_with_the_message_of_what_went_wrong(run, store, tmp_path):
    both = complaint("train", "fit.updates=2", "fit.minutes=5", f"run={tmp_path}/r")
    assert "expected one budget, got fit.updates=2 and fit.minutes=5: set one to null" in both
    assert "holds a run already" in complaint("train", *overrides(run, store))
    assert "config.yaml, which does not exist" in complaint("eval", f"run={tmp_path}")
    assert "expected a file or a folder of episodes" in complaint(
        "train", f"task.data={tmp_path}/no", f"run={tmp_path}/r"
    )
    assert not (tmp_path / "r").exists()


# configs that come with a checkpoint

HOSTILE = [
    "os.system",
    "builtins.eval",
    "torch.load",
    "torch.nn.Linear",
    "ebt_policy.core.ebt.torch.save",
    "ebt_policy.core.ebt.torch.nn.Linear",
    "ebt_policy.core.ebt.partial",
    "ebt_policy.core.EBT.forward",
    "ebt_policy.core.EBT.__class__",
    "ebt_policy.core.EBT.__new__",
    "ebt_policy.core.EBT.__init__.__globals__",
    "ebt_policy.core.descent.descend",
    "ebt_policy.core",
    "ebt_policy.core.Nothing",
    "ebt_policy.corelib.Thing",
    "ebt_policy.train.build.hydra.utils.get_class",
    "ebt_policy.train.build._make",
    "ebt_policy.train.run.train_run",
    "ebt_policy.data.store.write_store",
    "ebt_policy.tasks.robot.torch.hub.load",
    "../ebt_policy.core.EBT",
    "",
    7,
    None,
    ["ebt_policy.core.EBT"],
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_target_that_is_no_class_of_models_is_refused(target):
    with pytest.raises(ValueError, match="is not allowed: expected a class of ebt_policy.core"):
        check_targets(OmegaConf.create({"method": [{"model": {"act": {"_target_": target}}}]}))


def test_a_target_that_hides_behind_an_interpolation_is_refused(monkeypatch):
    monkeypatch.setenv("INNOCENT", "os.system")
    for hidden in ("${oc.env:INNOCENT}", "${name}"):
        with pytest.raises(ValueError, match="'os.system' is not allowed"):
            check_targets(OmegaConf.create({"name": "os.system", "model": {"_target_": hidden}}))


@pytest.mark.parametrize("place", ["method.model.act", "method.model.head", "task.encoder", "method.replay"])
def test_a_run_whose_config_calls_out_is_not_loaded_and_nothing_is_called(run, tmp_path, place):
    cfg = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(cfg, place, {"_target_": "os.mkdir", "path": str(tmp_path / "owned")})
    OmegaConf.save(cfg, tmp_path / "config.yaml")
    (tmp_path / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match="'os.mkdir' is not allowed"):
        load_policy(tmp_path)
    assert not (tmp_path / "owned").exists()


# evaluation


def test_an_evaluation_does_not_write_over_another_run(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    before = (other / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match="holds another run"):
        evaluate_run(evaluation(run, f"out={other}"))
    assert (other / "config.yaml").read_bytes() == before


def test_two_evaluations_of_a_run_are_the_same_numbers(run, tmp_path):
    first, folder = evaluate_run(evaluation(run, f"out={tmp_path / 'first'}"))
    second, _ = evaluate_run(evaluation(run, f"out={tmp_path / 'second'}"))
    assert first["episodes"] == second["episodes"] and first["summary"]["successes"] == 2
    assert {"eval.json", "report.html"} <= {p.name for p in folder.iterdir()}


def test_more_cannot_be_executed_than_is_predicted(run):
    with pytest.raises(ValueError, match="cannot execute 4 of 4 predicted steps.*set execute to at most 3"):
        evaluate_run(evaluation(run, "execute=4"))
    with pytest.raises(ValueError, match="must be at least 1"):
        evaluate_run(evaluation(run, "execute=0"))


def test_a_setting_that_the_method_does_not_have_is_refused(run):
    with pytest.raises(ValueError, match="no setting sampler; it has steps"):
        evaluate_run(evaluation(run, "method.sampler=ddim"))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("SixJoints-v0", "not what the policy was trained for: action dim 7, here 6"),
        ("Blind-v0", r"observation object \(14,\), here missing"),
        ("Absolute-v0", "action mode delta, here absolute"),
        ("Nowhere-v0", "expected an environment such as envs:Lift-v0, got 'Nowhere-v0'"),
        ("nowhere:Arm-v0", "No module named 'nowhere'"),
    ],
)
def test_an_environment_of_another_kind_than_the_data_is_refused(run, env, message):
    with pytest.raises(ValueError, match=message):
        evaluate_run(evaluation(run, f"env={env}"))


@pytest.mark.parametrize("env", ["ToyArm-v0", "OtherTask-v0"])
def test_another_simulator_or_task_than_recorded_warns_and_strict_refuses(run, env):
    spec = load_policy(run).spec
    if env == "ToyArm-v0":
        spec.simulator["robosuite"] = "0.3"
    with pytest.warns(UserWarning, match="robosuite 0.3, here 1|env_name Lift, here Stack"):
        check_meaning(spec, described(env)[0], env)
    with pytest.raises(ValueError, match="the data was recorded with .*: use that, or set strict=false"):
        check_meaning(spec, described(env)[0], env, strict=True)


def test_what_agrees_passes_without_a_word(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_meaning(load_policy(run).spec, described("ToyArm-v0")[0], "ToyArm-v0", strict=True)
