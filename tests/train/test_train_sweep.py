"""A sweep: trained policies, each sampled in several ways on the same initial states."""

import json

import pytest
from tiny_runs import ROOT, script

RUN = ROOT / "assets" / "checkpoints" / "ebt_avoid_equal"


@pytest.fixture
def sweep(tmp_path):
    settings = [f"folder={tmp_path}", f"out={tmp_path}/sweep.json", "episodes=2", "processes=1"]
    return lambda *more: script("sweep", *settings, *more)


def test_every_way_to_sample_has_a_row_and_is_measured_once(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where evaluations leave their reports
    asked = [f"runs=[{RUN}]", "samplings=[{steps: 2}, {steps: 2, noise: [0.0, 0.2]}, {steps: 1, warm: 0.4}]"]
    sweep(*asked)
    found = json.loads((tmp_path / "sweep.json").read_text())
    samplings = [{"steps": 2}, {"steps": 2, "noise": [0.0, 0.2]}, {"steps": 1, "warm": 0.4}]
    assert [row["sampling"] for row in found["rows"]] == samplings
    assert {(row["run"], row["episodes"]) for row in found["rows"]} == {("ebt_avoid_equal", 2)}
    assert found["settings"]["first_seed"] == 60000
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("ebt_avoid_equal*.json")}
    assert {path.stem for path in made} == {f"ebt_avoid_equal_{n}" for n in ("2", "2_noise0.0-0.2", "1_warm0.4")}
    sweep(*asked)
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_what_cannot_be_swept_is_said(sweep, tmp_path):
    with pytest.raises(SystemExit, match="expected runs and samplings, got .* and \\[\\]"):
        sweep("samplings=[]")
    with pytest.raises(SystemExit, match="expected weights in .*nothing, which has none"):
        sweep(f"runs=[{tmp_path}/nothing]")
