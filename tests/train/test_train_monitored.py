"""scripts/monitor.py on a tiny run: signals of every chunk, the table, and what it takes to have one."""

import json
import runpy
from functools import partial

import pytest
import toy_arm  # noqa: F401  registers environments
from hydra import compose, initialize_config_dir
from tiny_runs import ROOT, make_store, script

from ebt_policy.rollout.result import write_result
from ebt_policy.train.evaluate import load_agent
from ebt_policy.train.monitored import load_monitored

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "monitor.py"))


def config(run, *more):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("monitor", [f"run={run}", "processes=1", "episodes=2", *more])


def test_every_chunk_of_a_run_has_signals_and_the_result_says_how_they_were_computed(run):
    result = SCRIPT["measure"](config(run, "watch.samples=3"))
    assert result["watch"]["samples"] == 3 and result["run"]["after_success"] == 0
    for episode in result["episodes"]:
        assert len(episode["signals"]) == len(episode["steps"]) > 0
        assert all({"elapsed", "spread", "distance", "energy", "steps_to_tol"} <= set(s) for s in episode["signals"])


def test_an_environment_around_the_task_is_named_with_its_settings(run):
    around = ("around=envs:Noisy-v0", "around_kwargs={sigma: 0.3}")
    result = SCRIPT["measure"](config(run, *around))
    assert result["run"]["env_id"] == "envs:Noisy-v0" and result["run"]["max_steps"] == 5
    assert result["run"]["env_kwargs"] == {"task": "ToyArm-v0", "sigma": 0.3}


def test_episodes_are_kept_when_there_are_too_few_of_them_to_judge_signals(run, tmp_path):
    with pytest.raises(SystemExit, match="ValueError: expected at least 2 failures and 27 successes"):
        script("monitor", f"run={run}", f"out={tmp_path}", "episodes=2", "processes=1")
    result = json.loads((tmp_path / "monitor.json").read_text())
    assert len(result["episodes"]) == 2 and result["episodes"][0]["signals"]


def test_a_measured_folder_is_judged_again_with_another_promise(run, tmp_path, capsys):
    result = SCRIPT["measure"](config(run))
    one = result["episodes"][0]
    result["episodes"] = [one | {"seed": i, "success": i % 3 > 0} for i in range(60)]
    write_result(tmp_path / "monitor.json", result)
    script("monitor", f"of={tmp_path}", "alpha=0.2")
    found = json.loads((tmp_path / "monitor.json").read_text())["signals"]
    assert found["energy"]["alarm"]["promised"] == 0.2 and found["energy"]["alarm"]["calibrated_on"] == 20
    assert found["energy"]["whole"]["auroc"] == [0.5, 0.5, 0.5]  # all episodes are the same one
    assert "steps_to_tol" in capsys.readouterr().out


def test_what_to_do_is_asked_for_when_both_or_none_are_given(run):
    for arguments in ((), (f"run={run}", f"of={run}")):
        with pytest.raises(SystemExit, match="expected run=FOLDER to measure or of=FOLDER to judge again"):
            script("monitor", *arguments)


def test_demonstrations_that_a_run_was_not_trained_on_are_refused(run, tmp_path):
    other = make_store(tmp_path / "other.zarr.zip", episodes=3)
    with pytest.raises(ValueError, match=r"was not trained on .*other.zarr.zip, as their hashes differ: set data="):
        load_monitored(partial(load_agent, str(run), {}), str(run), SCRIPT["Watch"](), str(other))
