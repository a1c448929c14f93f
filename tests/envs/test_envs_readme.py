"""The example of envs/README.md, taken from there: one file and one YAML, and every script takes the task.

It runs on MetaWorld where that is installed, else on a stand-in for what it uses of it.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import ROOT, TINY

from ebt_policy.data.store import open_episodes

HERE = Path(__file__).parent
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", (ROOT / "envs" / "README.md").read_text(), re.S))
SETTINGS = ["processes=1", "method.steps=1"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of what a user edits, with the example's two files added, and its commands' environment."""
    folder = tmp_path_factory.mktemp("house")
    for name in ("envs", "configs", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "assets").symlink_to(ROOT / "assets")
    for path, text in FILES.items():
        (folder / path).write_text(text)
    paths = [folder, *([] if importlib.util.find_spec("metaworld") else [stand_in(folder / "packages")])]
    return folder, os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}


def stand_in(folder: Path) -> Path:
    """A folder of packages with one that is called metaworld."""
    (folder / "metaworld").mkdir(parents=True)
    (folder / "metaworld-0.dist-info").mkdir()
    (folder / "metaworld-0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: metaworld\nVersion: 0\n")
    (folder / "metaworld" / "__init__.py").touch()
    for module in ("env_dict", "policies"):
        shutil.copy(HERE / "metaworld_stand_in.py", folder / "metaworld" / f"{module}.py")
    return folder


def run(house, *commands):
    """What each script said, and its exit code or last words."""
    folder, environment = house
    lines = json.dumps([[f"scripts/{name}.py", *map(str, settings)] for name, *settings in commands])
    run_scripts = [sys.executable, HERE / "run_scripts.py"]
    done = subprocess.run(run_scripts, input=lines, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def climbed(house):
    """Script -> what it said and its code, from demonstrations to a trained and measured policy."""
    commands = [
        ("collect", "task=drawer", "episodes=8", "processes=1"),
        ("inspect", "runs/drawer.zarr.zip"),
        ("replay", "runs/drawer.zarr.zip"),
        ("train", "task=drawer", "run=runs/drawer", "fit.updates=2", "fit.minutes=null", *TINY),
        ("eval", "run=runs/drawer", "episodes=1", "max_steps=40", *SETTINGS),
        ("recover", "run=runs/drawer", "episodes=1", "max_steps=110", "strengths=[1]", *SETTINGS),
        ("monitor", "run=runs/drawer", "episodes=2", "max_steps=20", "watch.samples=2", *SETTINGS),
    ]
    return dict(zip([name for name, *_ in commands], run(house, *commands), strict=True))


def test_the_readme_has_one_file_and_one_yaml():
    assert list(FILES) == ["envs/drawer.py", "configs/task/drawer.yaml"]


def test_demonstrations_are_collected_and_described_and_replayed_from_their_seeds(house, climbed):
    said, code = climbed["collect"]
    assert code == 0 and "wrote runs/drawer.zarr.zip: 8 of the 8 tried succeeded" in said
    assert "task        Drawer-v0" in climbed["inspect"][0] and "rate        80 Hz" in climbed["inspect"][0]
    assert "8 of 8 still succeed (100.0%) under the actions executed" in climbed["replay"][0]
    data = open_episodes(house[0] / "runs" / "drawer.zarr.zip")
    assert data.initial_state is None and data.seed.tolist() == list(range(8))
    assert (data.spec.action.mode, data.spec.action.low) == ("delta", -1.0) and "metaworld" in data.spec.simulator


def test_a_policy_is_trained_and_measured_and_filmed(house, climbed):
    assert climbed["train"][1] == climbed["eval"][1] == 0
    assert "% [" in climbed["eval"][0] and (house[0] / "runs/drawer/eval/rollout.mp4").stat().st_size > 1000


def test_it_is_disturbed_in_all_ways_that_need_nothing_and_the_others_are_named(house, climbed):
    said, code = climbed["recover"]
    assert code == 0
    assert "envs:Drawer-v0 does not take all disturbances, see envs/README.md: move needs move_object" in said
    result = json.loads((house[0] / "runs/drawer/recover/recover.json").read_text())
    assert result["run"]["cells"] == ["noise_1", "freeze_1", "delay_1"] and result["run"]["after"] == 1.0
    triggers = [e["report"]["trigger"] for e in result["episodes"] if e["report"]["disturbance"] != "none"]
    assert triggers == [80, 80, 80]  # a second at 80 Hz


def test_a_monitor_keeps_the_few_episodes_that_it_cannot_judge_by(house, climbed):
    said, code = climbed["monitor"]
    assert "judging signals takes 2 failures and 27 successes: set until=1" in said
    assert str(code).startswith("ValueError: expected at least 2 failures and 27 successes for a false-alarm rate")
    kept = json.loads((house[0] / "runs/drawer/monitor/monitor.json").read_text())
    assert len(kept["episodes"]) == 2


def test_a_server_plans_for_the_simulated_robot(house, climbed):
    folder, environment = house
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "scripts/serve.py", "run=runs/drawer", f"port={port}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)
    try:
        assert "observations hand, fingers, handle" in server.stdout.readline()
        arm = ("run=runs/drawer", "robot=sim", f"server=ws://127.0.0.1:{port}", "seconds=1", "slower=1")
        stages = ("check", "replay", "shadow", "dry", "run")
        said = run(house, *(("deploy", *arm, f"stage={stage}") for stage in stages))
    finally:
        server.terminate()
        server.wait(30)
    assert [code for _, code in said] == [0] * 5, said
    assert "agree on hand, fingers, handle, actions of 4 numbers in [-1, 1] (frame eef, mode delta" in said[0][0]
    assert "100.0% of the commands sent unchanged" in said[1][0] and "the task was solved" in said[1][0]
    data = open_episodes(folder / "runs/drawer/deploy/episodes.zarr.zip")
    assert len(data) == 1 and np.isfinite(data.log["energy"]).any()


def test_a_task_is_told_what_it_lacks_and_other_tasks_work_without_its_simulator(house):
    folder, environment = house
    lacking = FILES["envs/drawer.py"].replace("def expert(self)", "def nobody(self)").replace("Drawer-v0", "Lacking-v0")
    (folder / "envs" / "lacking.py").write_text(lacking)
    (folder / "envs" / "elsewhere.py").write_text('"""Needs what is not there."""\nimport no_such_simulator\n')
    told, other = run(
        house,
        ("collect", "task=drawer", "task.env=envs:Lacking-v0", "out=runs/x.zarr.zip"),
        ("collect", "task=avoid", "episodes=1", "processes=1", "out=runs/avoid.zarr.zip"),
    )
    assert told[1].endswith("collect.py needs of Lacking-v0 what it does not offer: expert: see envs/README.md")
    assert other[1] == 0 and (folder / "runs/avoid.zarr.zip").exists()
    assert "envs/elsewhere.py is left out: No module named 'no_such_simulator'" in other[0] + told[0]
