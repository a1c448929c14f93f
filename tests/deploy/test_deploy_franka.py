"""The Franka adapter in an environment of its own, as on an arm's computer: no torch, and the arm's real protocol."""

import json
import os
import subprocess
import sys
import time

import pytest
from franka_world import World
from tiny_runs import ROOT, SPEC, compose_train, make_store
from toy_server import serving

from ebt_policy.data.spec import Spec
from ebt_policy.data.store import open_episodes
from ebt_policy.deploy.planner import LocalPlanner
from ebt_policy.train.build import load_policy
from ebt_policy.train.run import train_run

PYTHON = ROOT / ".venv-franka/bin/python"
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


def test_deploying_needs_no_torch():
    """The environment has none; and here nothing imports it either."""
    script = "import runpy, sys; runpy.run_path('scripts/deploy.py'); assert 'torch' not in sys.modules"
    for python in (PYTHON, sys.executable):
        subprocess.run([python, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
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
    train_run(
        compose_train(
            folder / "run",
            store,
            "task.obs=[robot0_eef_pos,robot0_eef_quat,robot0_gripper_qpos]",
            "~task.quaternions.object",
        )
    )
    return LocalPlanner(load_policy(folder / "run"), "cafe")


def test_a_policy_moves_the_arm_until_its_server_is_gone(policy, tmp_path):
    """On the wall clock: a busy machine drops ticks, but what happened is told and written in any case."""
    world = World(PYTHON)
    try:
        with serving(policy) as (url, server, stop):
            settings = [f"robot.arm.host={world.host}", "robot.arm.realtime=ignore", f"server={url}", f"out={tmp_path}"]
            wide = ["timing.execute=1", "robot.limits.watchdog=2.0", "robot.limits.stale=5.0", "seconds=12"]
            run = at_the_arm("scripts/deploy.py", "robot=franka", "stage=run", *settings, *wide, stdin=subprocess.PIPE)
            end = time.monotonic() + 100
            while server.served < 3 and run.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            stop()
            said = run.stdout.read().decode()  # its input stays open: a terminal that is gone stops the arm
        assert run.wait() == 0 and f"ticks -> {tmp_path}" in said, said
        assert world.speed() < 0.03
    finally:
        world.kill()
    ticks = [json.loads(line) for line in (tmp_path / "ticks.jsonl").read_text().splitlines()]
    assert any("plan" in tick for tick in ticks) and ticks[-1]["sent"][:6] == [0.0] * 6
    assert "is lost" in ticks[-1]["cause"] or "expected a policy server" in ticks[-1]["cause"]
    assert len(open_episodes(tmp_path / "episodes.zarr.zip").action) == len(ticks)
