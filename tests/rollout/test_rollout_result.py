"""The JSON of an evaluation: what is in it, what repeats, what the interval is."""

import json
import os
import re

import pytest
import torch
from toy_rollout import POINT, ToyPolicy, toy_agent

from ebt_policy.rollout.evaluation import evaluate
from ebt_policy.rollout.flops import flops_per_chunk
from ebt_policy.rollout.result import EpisodeLog, describe, write_atomic, write_result
from ebt_policy.rollout.stats import SuccessRate, success_interval

SECTIONS = ["run", "summary", "seeds", "compute", "timing", "versions", "hashes", "config"]


def run(path):
    result = evaluate(toy_agent, POINT, [5, 6], hashes={"checkpoint": "abc"}, config={"steps": 3}, flops=7)
    return write_result(path, result)


def test_the_episodes_of_two_runs_are_byte_identical_and_nothing_in_them_is_a_duration(tmp_path):
    texts = [run(tmp_path / f"{i}.json").read_text() for i in (1, 2)]
    one, two = (re.search(r'"episodes": \[.*?\n\]', text, re.S).group() for text in texts)
    assert one == two and "latency" not in one


def test_the_layout_of_the_json(tmp_path):
    result = json.loads(run(tmp_path / "eval.json").read_text())
    assert set(result) == {*SECTIONS, "episodes"}
    keys = ["seed", "success", "success_end", "length", "steps", "energies", "grad_norm", "digest", "report", "signals"]
    assert [list(episode) for episode in result["episodes"]] == [keys, keys]
    assert result["seeds"] == [e["seed"] for e in result["episodes"]] == [5, 6]
    assert result["summary"]["success_rate"] == 1.0 and result["summary"]["text"].startswith("2/2 = 100 %")
    assert result["run"] == {"env_id": POINT, "max_steps": None, "after_success": 10}
    assert {"python", "torch", "numpy", "mujoco", "robosuite"} <= set(result["versions"])
    assert result["compute"]["steps_per_chunk"] == result["compute"]["gradients_per_chunk"] == 3
    assert result["compute"]["network_evaluations_per_chunk"] == 3 and result["compute"]["flops_per_chunk"] == 7
    chunks = [len(e["steps"]) for e in result["episodes"]]
    assert [len(x) for x in result["timing"]["latency"]] == chunks and result["compute"]["chunks"] == sum(chunks)
    assert 0 < result["timing"]["latency_median"] <= result["timing"]["latency_p95"] < result["timing"]["wall_seconds"]


def test_one_line_per_episode_and_no_invalid_json(tmp_path):
    result = {"episodes": [{"seed": 0, "energies": [[float("inf"), 1.0]]}, {"seed": 1, "energies": []}]}
    text = write_result(tmp_path / "r.json", result).read_text()
    assert text.count('\n  {"seed"') == 2
    assert json.loads(text)["episodes"][0]["energies"] == [[None, 1.0]]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "a.json", "old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_flops_count_every_forward_and_its_gradient():
    once = 2 * 6 * 2 * 32  # (6, 2) x (2, 32), and as much back to the input
    assert flops_per_chunk(ToyPolicy(steps=3)) == 3 * 2 * once
    obs = {k: torch.zeros(1, 2, 2) for k in ("position", "target")}
    assert flops_per_chunk(ToyPolicy(steps=1), obs) == 2 * once


@pytest.mark.parametrize(
    "successes, episodes, low, high",
    [
        (50, 50, 0.9289, 1.0),
        (0, 50, 0.0, 0.0711),
        (49, 50, 0.8935, 0.9995),
        (5, 10, 0.1871, 0.8129),
        (1, 1, 0.025, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_agrees_with_published_tables(successes, episodes, low, high):
    assert success_interval(successes, episodes) == pytest.approx((low, high), abs=6e-5)


def test_a_success_rate_reads_well():
    assert str(SuccessRate(49, 50)) == "49/50 = 98 % [89, 100]"
    assert SuccessRate(3, 4).rate == 0.75
    assert str(SuccessRate(0, 0)) == "0/0 = unknown [0, 100]"


@pytest.mark.parametrize("successes, episodes", [(1, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match="expected 0 <= successes <= episodes"):
        success_interval(successes, episodes)


def test_episodes_of_unknown_success_are_left_out_and_counted():
    logs = [EpisodeLog(i, word, word, 9, [2], [[1.0]], [None], "", [0.1]) for i, word in enumerate((True, False, None))]
    said = describe(logs, 1.0)["summary"]
    assert (said["successes"], said["episodes"], said["unknown"], said["success_rate"]) == (1, 2, 1, 0.5)
    assert tuple(said["interval"]) == success_interval(1, 2) and said["text"].endswith(", unknown of 1")


def test_of_nothing_but_unknown_episodes_every_rate_is_possible(tmp_path):
    log = EpisodeLog(0, None, None, 9, [], [], [], "", [])
    result = json.loads(write_result(tmp_path / "eval.json", describe([log], 1.0)).read_text())
    assert result["summary"]["success_rate"] is None and result["summary"]["interval"] == [0.0, 1.0]
    assert result["episodes"][0]["success"] is None
