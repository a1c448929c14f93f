"""robot=sim in a task: what the task's YAML says, what is set by hand, and a planar task up and down the ladder."""

import runpy
import shutil
from copy import deepcopy

import pytest
import yaml
from hydra import compose, initialize_config_dir
from tiny_runs import ROOT, compose_train

from ebt_policy.deploy.simulated import in_task
from ebt_policy.train.run import train_run

FILE = ROOT / "configs" / "robot" / "sim.yaml"
SIM = yaml.safe_load(FILE.read_text())
DRAWER = {
    "motion": {"key": "hand", "scale": 0.01, "turn": 0.0},
    "limits": {"workspace": {"low": [0.0] * 3}, "turn": None, "watchdog": 2.0},
}


def test_what_the_task_says_goes_before_the_file_and_leaves_the_rest_of_it():
    found = in_task(SIM, DRAWER, FILE)
    assert found["motion"] == DRAWER["motion"] and found["limits"]["turn"] is None
    assert found["limits"]["workspace"] == SIM["limits"]["workspace"] | {"low": [0.0] * 3}
    assert found["delays"] == SIM["delays"] and found["limits"]["gripper"] == SIM["limits"]["gripper"]


@pytest.mark.parametrize(
    "said",
    [{"env": "evil:Lift-v0"}, {"kind": "franka"}, {"arm": {"host": "10.0.0.1"}}, {"sensors": {}}, {"motion": "foo"}]
    + [{"delays": 3}, [1], {"limits": None}],
)
def test_a_run_names_neither_an_arm_nor_an_environment(said):
    with pytest.raises(ValueError, match="task.robot may have motion, limits, delays, each with settings, got"):
        in_task(SIM, said, FILE)


def test_what_is_set_by_hand_goes_before_both():
    by_hand = deepcopy(SIM)
    by_hand["motion"]["scale"], by_hand["limits"]["watchdog"], by_hand["delays"]["jitter"] = 0.02, 3.0, 0.1
    found = in_task(by_hand, DRAWER, FILE)
    assert found["motion"] == {"key": "hand", "scale": 0.02, "turn": 0.0}
    assert found["limits"]["watchdog"] == 3.0 and found["delays"]["jitter"] == 0.1 and found["limits"]["turn"] is None


def test_limits_that_were_taken_away_do_not_come_back():
    assert "limits" not in in_task({k: v for k, v in SIM.items() if k != "limits"}, DRAWER, FILE)


def test_a_task_that_says_nothing_and_another_robot_change_nothing():
    assert in_task(SIM, None, FILE) == in_task(SIM, {}, FILE) == SIM
    franka = yaml.safe_load((ROOT / "configs" / "robot" / "franka.yaml").read_text())
    assert in_task(franka, DRAWER, FILE) == franka


@pytest.fixture(scope="module")
def push_t(tmp_path_factory):
    """The folder of a run on PushT that has hardly been trained."""
    run = tmp_path_factory.mktemp("runs") / "push_t"
    train_run(compose_train(run, ROOT / "assets/demos/push_t.zarr.zip", "task=push_t", updates=1))
    return run


def climb(run, *settings, stages=("check", "replay", "shadow", "dry", "run")):
    script = runpy.run_path(str(ROOT / "scripts" / "deploy.py"))
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("deploy", [f"run={run}", "seconds=1", *settings])
    with script["laid_out"](cfg) as desk:
        for stage in stages:
            script[stage](desk)
    return desk


def test_a_planar_task_climbs_the_ladder_by_its_own_yaml(push_t, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    desk = climb(push_t, "slower=1", f"out={tmp_path}", f"demos={ROOT}/assets/demos/push_t.zarr.zip")
    said = capsys.readouterr().out
    assert "(frame planar, mode absolute, rotation none, gripper none) and 10 Hz" in said
    assert "demonstration 0, 1 times slower: 100.0% of the commands sent unchanged" in said
    assert "the task was solved" in said and "10 ticks, nothing was moved" in said
    assert desk.inner.motion.key == "tool" and desk.limits.workspace.high == (0.25, 0.25)
    assert (tmp_path / "episodes.zarr.zip").exists()


def test_a_plan_on_the_fake_clock_takes_the_time_that_it_really_takes(push_t, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    climb(push_t, stages=["check"])
    said = capsys.readouterr().out
    assert "a plan takes" in said and "a plan takes 0.0 ms" not in said


def test_a_run_whose_task_says_nothing_of_its_robot_is_told_what_is_missing(push_t, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    old = shutil.copytree(push_t, tmp_path / "old")
    config = yaml.safe_load((old / "config.yaml").read_text())
    del config["task"]["robot"]
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="position among the observations block, corners, tool, got 'robot0_eef_pos'"):
        climb(old, stages=[])
    motion, space = (
        "motion={key: tool, scale: 0.25, turn: 0.0}",
        "limits.workspace={low: [-0.25,-0.25], high: [0.25,0.25]}",
    )
    by_hand = [f"robot.{setting}" for setting in (motion, space, "limits.turn=null", "limits.gripper=null")]
    assert climb(old, *by_hand, stages=["check"]).inner.motion.key == "tool"
