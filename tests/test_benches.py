"""The benches run at the smallest size, and their files say what was measured; their arithmetic is right."""

import json
import os
import runpy
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from tiny_runs import ROOT, script

from ebt_policy.bench import Ratio, Times, interleave, table

CHUNK = SimpleNamespace(score=None)
TINY = "{dim: 16, depth: 1, heads: 2}"


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """bench(name, *arguments) -> what it printed, and the JSON that it wrote."""

    def run(name, *arguments):
        out = tmp_path / "out.json"
        monkeypatch.chdir(ROOT)
        script(name, "--net", TINY, "--out", str(out), *arguments)
        return capsys.readouterr().out, json.loads(out.read_text())

    return run


def test_bench_infer_compares_both_methods_with_its_targets(bench):
    printed, result = bench("bench_infer", "--rounds", "2", "--no-compile")
    assert set(result["seconds"]) == {"EBT@1", "EBT@2", "EBT@3", "EBT@4", "DDIM-10", "DDIM-16", "DDPM-100"}
    assert set(result["ratios"]) == {"EBT@2 / DDPM-100", "EBT@2 / DDIM-10"}
    assert result["flops_per_chunk"]["EBT@4"] > result["flops_per_chunk"]["EBT@2"]
    assert result["ratios"]["EBT@2 / DDPM-100"]["cpu"]["median"] < 0.5 and "torch" in result["versions"]
    assert "<= 1/18" in printed and "EBT@2" in printed


def test_bench_train_takes_turns_and_compares_losses(bench):
    printed, result = bench("bench_train", "--rounds", "1", "--updates", "1", "--no-compile", "--batch", "4")
    assert "diffusion, eager" in result["seconds"] and "<= 2.2" in printed
    assert all(t["wall"]["median"] > 0 for t in result["seconds"].values())


def test_bench_rollout_measures_overhead_and_processes(tmp_path):
    """In a process of its own, because its workers import the script that started them."""
    script, out = str(ROOT / "scripts" / "bench_rollout.py"), tmp_path / "out.json"
    tiny = ["--rounds", "1", "--steps", "8", "--episodes", "4", "--repeats", "1", "--net", TINY, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, *tiny], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["seconds"]["bare simulator"]["cpu"]["median"] > 0
    assert result["ratios"]["speed of 2 processes / 1 process"]["cpu"] is None
    assert "<= 1.10" in done.stdout and ">= 1.7" in done.stdout


def test_seconds_of_planning_are_kept_apart_from_those_of_the_episode():
    policy = SimpleNamespace(spec=None, horizon=None, device=None, predict_action=lambda: time.sleep(0.01) or CHUNK)
    timed = runpy.run_path(str(ROOT / "scripts" / "bench_rollout.py"))["TimedPolicy"](policy)
    before = timed.planning
    timed.predict_action()
    assert (timed.planning - before)[0] >= 0.01 and not before.any()


def test_bench_deploy_reads_a_run_and_times_the_safety_layer(tmp_path):
    script = runpy.run_path(str(ROOT / "scripts" / "bench_deploy.py"))
    summary = {"successes": 1, "episodes": 2, "interval": [0.0, 1.0]}
    episodes = [{"success": True, "length": 30}, {"success": False, "length": 400}]
    joints = {"acceleration": [[1.0, 3.0], [2.0]]}
    (tmp_path / "eval.json").write_text(json.dumps({"summary": summary, "episodes": episodes, "joints": joints}))
    cell = script["_cell"](tmp_path)
    assert cell["ticks"] == 30 and cell["joints"] == {"p95": 2.9, "max": 3.0}
    assert script["safety"](ROOT / "assets" / "checkpoints" / "ebt_lift").median > 0


def test_every_case_has_one_turn_a_round_in_changing_order_after_a_call_that_is_not_counted():
    calls = []
    times = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=20)
    rounds = [tuple(calls[i : i + 2]) for i in range(0, len(calls), 2)]
    assert rounds[0] == ("a", "b") and len(rounds) == 21 and set(rounds) == {("a", "b"), ("b", "a")}
    assert len(times["a"].wall) == len(times["b"].cpu) == 20


def test_a_ratio_is_the_median_over_rounds_not_the_ratio_of_medians():
    above, below = Times([2.0, 9.0, 4.0]), Times([1.0, 3.0, 4.0])
    ratio = Ratio.of("a / b", above, below, "")
    assert ratio.wall.median == pytest.approx(2.0) and ratio.cpu is None
    with pytest.raises(ValueError):
        Ratio.of("a / b", above, Times([1.0]), "")


def test_tables_align():
    assert table(["name", "x"], [["a", "10"], ["long name", "2"]]) == "name        x\na          10\nlong name   2"
