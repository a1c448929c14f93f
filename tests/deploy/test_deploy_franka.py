"""The Franka adapter in an environment of its own, as on an arm's computer: no torch, and the arm's real protocol."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from franka_world import World
from person import Person
from tiny_runs import ROOT, SPEC, compose_train, make_store
from toy_server import ToyPlanner, serving

from ebt_policy.data.spec import Spec
from ebt_policy.data.store import open_episodes
from ebt_policy.deploy.plan import Terms
from ebt_policy.deploy.planner import LocalPlanner
from ebt_policy.train.build import load_policy
from ebt_policy.train.run import train_run

PYTHON = ROOT / ".venv-franka/bin/python"
TASK = ["task.obs=[robot0_eef_pos,robot0_eef_quat,robot0_gripper_qpos]", "~task.quaternions.object"]
OWN = {"robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_gripper_qpos": (2,)}


@pytest.fixture(scope="module", autouse=True)
def environment():
    if not PYTHON.exists():
        pytest.fail("expected the arm's environment in .venv-franka: run `make franka`")


def at_the_arm(*arguments, **options):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [str(PYTHON), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def output_of(*arguments):
    process = at_the_arm(*arguments)
    return process.communicate()[0].decode(), process.returncode


def test_the_adapter_against_the_simulated_arm():
    files = "tests/deploy/franka_checks.py", "tests/deploy/franka_figures.py"
    said, code = output_of("-m", "pytest", "--noconftest", "-p", "no:cacheprovider", *files)
    assert code == 0 and "skipped" not in said, said


def test_deploying_and_recording_need_no_torch():
    """The environment has none; and here nothing imports it either."""
    run = "import runpy, sys; [runpy.run_path(f'scripts/{name}.py') for name in ('deploy', 'record')]"
    for python in (PYTHON, sys.executable):
        command = [python, "-c", f"{run}; assert 'torch' not in sys.modules"]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    said, code = output_of("-c", "import torch")
    assert code != 0 and "No module named 'torch'" in said


def test_no_arm_and_no_server_each_get_one_line():
    said, code = output_of("scripts/deploy.py", "robot=franka", "server=ws://127.0.0.1:9", "out=x")
    assert code != 0 and said.startswith("PlanError: expected a policy server at ws://127.0.0.1:9")
    said, code = output_of("scripts/deploy.py", "robot=franka")
    assert code != 0 and said.startswith("ValueError: expected run=<folder of a training run")
    said, code = output_of("scripts/deploy.py", "robot=franka", "server=ws://127.0.0.1:9", "~robot.limits")
    assert code != 0 and said.startswith("LimitsError: expected limits")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """Trained for a moment on what the arm measures of itself."""
    folder = tmp_path_factory.mktemp("own")
    spec = Spec(OWN, SPEC.action, SPEC.hz, SPEC.env_args, SPEC.simulator)
    store = make_store(folder / "own.zarr.zip", spec)
    train_run(compose_train(folder / "run", store, *TASK))
    return LocalPlanner(load_policy(folder / "run"), "cafe")


def driven(world, url, folder, *more):
    """What a policy on a busy machine, where ticks are dropped, is driven with."""
    settings = [*at(world), f"server={url}", f"out={folder}", "stage=run", "timing.execute=1"]
    return [*settings, "robot.limits.watchdog=2.0", "robot.limits.stale=5.0", *more]


def at(world):
    return ["robot=franka", f"robot.arm.host={world.host}", "robot.arm.realtime=ignore"]


def until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


@pytest.fixture
def world():
    made = World(PYTHON)
    yield made
    made.kill()


def test_a_policy_moves_the_arm_until_its_server_is_gone(policy, world, tmp_path):
    """On the wall clock: a busy machine drops ticks, but what happened is told and written in any case."""
    with serving(policy) as (url, server, stop):
        run = at_the_arm("scripts/deploy.py", *driven(world, url, tmp_path, "seconds=12"), stdin=subprocess.PIPE)
        until(lambda: server.served >= 3 or run.poll() is not None)
        stop()
        said = run.stdout.read().decode()  # its input stays open: a terminal that is gone stops the arm
    assert run.wait() == 0 and f"ticks -> {tmp_path}" in said, said
    assert world.speed() < 0.03
    ticks = [json.loads(line) for line in (tmp_path / "ticks.jsonl").read_text().splitlines()]
    assert any("plan" in tick for tick in ticks) and ticks[-1]["sent"][:6] == [0.0] * 6
    assert "is lost" in ticks[-1]["cause"] or "expected a policy server" in ticks[-1]["cause"]
    data = open_episodes(tmp_path / "episodes.zarr.zip")
    assert len(data.action) == len(ticks) and data.success is None and data.log["cause"][-1] == ticks[-1]["cause"]
    result = json.loads((tmp_path / "eval.json").read_text())
    assert result["episodes"][0]["success"] is None and result["summary"]["unknown"] == 1
    assert result["control"]["ticks"] == len(ticks) and result["control"]["late_max"] > 0
    assert "success unknown" in said and '<div class="big">unknown</div>' in (tmp_path / "report.html").read_text()


class Wave(ToyPlanner):
    """To one side and back, as an arm of these limits can."""

    def __init__(self):
        super().__init__()
        self.terms, self.plans = Terms(Spec(OWN, SPEC.action, SPEC.hz).to_dict(), 2, 8, 15, "cafe"), 0

    def __call__(self, request):
        self.plans += 1
        actions = np.zeros((15, 7), np.float32)
        actions[:, 1] = 0.3 if self.plans % 2 else -0.3
        return replace(super().__call__(request), actions=actions)


def test_a_person_says_what_came_of_each_episode_and_an_interrupted_run_is_written_too(world, tmp_path):
    def begins():
        person.sees("Put everything where an episode begins")
        before = server.served
        person.types("\n")
        until(lambda: server.served > before + 2)

    with serving(Wave()) as (url, server, _):
        person = Person("deploy.py", *driven(world, url, tmp_path, "episodes=3", "seconds=200"), python=PYTHON)
        try:
            for answer, said in (("y", "90000: solved"), ("n", "90001: not solved")):
                begins()
                person.types(f"{answer}\n")
                person.sees(rf"{said}, \d+ ticks")
            begins()
            person.script.send_signal(signal.SIGINT)
            person.sees("1/2 = 50 % .*, unknown of 1, .*ticks -> ")
            assert person.script.wait(60) == 128 + signal.SIGINT and world.speed() < 0.03
        finally:
            person.leaves()
    result = json.loads((tmp_path / "eval.json").read_text())
    assert [episode["success"] for episode in result["episodes"]] == [True, False, None]
    assert "token" not in result["config"]["deploy"] and (tmp_path / "report.html").exists()
    data = open_episodes(tmp_path / "episodes.zarr.zip")
    assert data.masks["succeeded"].tolist() == [True, False, False]
    assert data.masks["failed"].tolist() == [False, True, False]
    assert data.success is None and data.seed.tolist() == [90000, 90001, 90002]


def test_demonstrations_recorded_with_the_arm_are_trained_on(world, tmp_path):
    def pushes(key, axis):
        """Until the hand is 2 cm farther on: simulated time is slow on a busy machine."""
        places = []
        while not places or abs(places[-1] - places[0]) < 0.02:
            shown = person.sees(r" s  robot0_eef_pos \[([-\d. ]+)\]", types=key)
            places.append(float(shown[1].split()[axis]))

    out = tmp_path / "mine.zarr.zip"
    wide = ["robot.limits.watchdog=2.0", "robot.limits.stale=5.0"]
    person = Person("record.py", *at(world), *wide, f"out={out}", "episodes=2", "seconds=300", python=PYTHON)
    try:
        for axis, key in enumerate("wa"):
            person.sees(f"episode {axis + 1} of 2, put everything where it belongs: it begins when you steer")
            pushes(key, axis)
            person.types("\n")
            person.sees(r"kept: \d+ steps")
        person.sees("2 episodes added")
        assert person.script.wait(60) == 0 and world.speed() < 0.03
    finally:
        person.leaves()
    data = open_episodes(out)
    moved = [np.ptp(data.episode(i).obs["robot0_eef_pos"], axis=0) for i in range(2)]
    assert moved[0].argmax() == 0 and moved[1].argmax() == 1 and min(map(max, moved)) > 0.015
    assert data.success is None and data.seed is None and set(data.spec.obs) == set(OWN)
    train_run(compose_train(tmp_path / "run", out, *TASK, "validation=0.5", updates=2))
    assert load_policy(tmp_path / "run").spec == data.spec
