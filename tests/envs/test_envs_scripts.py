"""collect.py and replay.py as a user runs them."""

import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ebt_policy.data.store import DataError, open_episodes, write_data
from envs.record import record

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts" / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Two episodes of Lift, from a run that was killed after the first and started again."""
    out = tmp_path_factory.mktemp("demos") / "lift.zarr.zip"
    settings = ("task=lift", "episodes=2", "first_seed=2000", "processes=1", f"out={out}")
    first = subprocess.Popen([sys.executable, ROOT / "scripts/collect.py", *settings], cwd=ROOT, start_new_session=True)
    parts = out.with_name(f"{out.name}.parts")
    deadline = time.monotonic() + 60
    while not list(parts.glob("seed_*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert len(list(parts.glob("seed_*.npz"))) == 1
    assert not out.exists()
    done = run("collect.py", *settings)
    assert done.returncode == 0, done.stderr
    assert "2 of the 2 tried succeeded" in done.stdout
    assert not parts.exists()
    return out


def test_a_collection_that_was_killed_goes_on_to_the_same_file(collected, environments):
    data = open_episodes(collected)
    assert list(data.seed) == [2000, 2001]
    for i in range(2):
        expected = record(environments["lift"], environments["lift"].unwrapped.expert(), seed=2000 + i, noise=0.25)
        episode = data.episode(i)
        for name in ("action", "executed", "initial_state"):
            assert np.array_equal(getattr(episode, name), expected[name])
        for key, values in episode.obs.items():
            assert np.array_equal(values, expected[f"obs/{key}"])


def test_a_collection_does_not_overwrite(collected):
    again = run("collect.py", "task=lift", f"out={collected}")
    assert again.returncode == 1
    assert "exists: delete it" in again.stderr


def test_a_replay_counts_successes_and_tells_of_another_simulator(collected, tmp_path):
    data = open_episodes(collected)
    older = tmp_path / "older.zarr.zip"
    spec = replace(data.spec, simulator=data.spec.simulator | {"mujoco": "2.3.2"})
    write_data(older, replace(data, spec=spec))
    replayed = run("replay.py", older)
    assert replayed.returncode == 0, replayed.stderr
    assert "2 of 2 still succeed (100.0%)" in replayed.stdout
    assert "recorded with mujoco 2.3.2" in replayed.stderr
    refused = run("replay.py", older, 1, "strict=true")
    assert refused.returncode == 1
    assert "recorded with mujoco 2.3.2" in refused.stderr


def test_an_expert_that_never_succeeds_is_given_up(tmp_path):
    script = runpy.run_path(str(ROOT / "scripts" / "collect.py"))
    for seed in range(20):
        np.savez(script["part"](tmp_path, seed), success=np.bool_(False))
    cfg = SimpleNamespace(first_seed=0, episodes=5, task=SimpleNamespace(name="lift"))
    with pytest.raises(RuntimeError, match="none of 20 tries succeeded: is it this task's expert"):
        script["successes"](tmp_path, cfg)


def test_a_replay_begins_from_seeds_where_there_are_no_states_and_says_if_there_is_neither(collected):
    script = runpy.run_path(str(ROOT / "scripts" / "replay.py"))
    by_seed = replace(open_episodes(collected), initial_state=None)
    assert script["replay"](script["environment"](by_seed), by_seed.episode(1))
    with pytest.raises(DataError, match="expected simulator states in the file, or seeds, there are none"):
        script["environment"](replace(by_seed, seed=None))


def test_a_replay_says_what_it_cannot_do(tmp_path):
    missing = run("replay.py", tmp_path / "none.hdf5")
    assert missing.returncode == 1
    assert "there is none" in missing.stderr
    misspelt = run("replay.py", tmp_path / "none.hdf5", "filter=x")
    assert misspelt.returncode == 1
    assert "filter_key=NAME" in misspelt.stderr
