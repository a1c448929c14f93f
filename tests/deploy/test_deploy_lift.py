"""The shipped Lift checkpoint behind a server, through client, scheduler and safety, with 60 ms of injected latency."""

import json
import runpy

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from tiny_runs import ROOT
from toy_server import serving

from ebt_policy.data.store import open_episodes
from ebt_policy.deploy.planner import LocalPlanner
from ebt_policy.train.build import load_policy

RUN = "assets/checkpoints/ebt_lift"


def test_every_rung_of_the_ladder_up_to_lifting_the_cube(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    script = runpy.run_path(str(ROOT / "scripts" / "deploy.py"))
    planner = LocalPlanner(load_policy(RUN), "cafe", continuity=0.2)
    with serving(planner) as (url, server, _), initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        settings = [f"run={RUN}", f"server={url}", "inject=0.06", "timing.latency=0.1", "episodes=2", f"out={tmp_path}"]
        cfg = compose("deploy", settings)
        with script["laid_out"](cfg) as desk:
            said = {}
            for stage in ("check", "replay", "shadow", "dry", "run"):
                script[stage](desk)
                said[stage] = capsys.readouterr().out
    assert said["check"].count("ok: ") == 4 and "350 ms can be hidden" in said["check"]
    assert "2 times slower" in said["replay"] and "mean error" in said["shadow"] and "40 ticks" in said["dry"]
    assert "2/2 = 100 %" in said["run"] and server.served > 10
    checks(tmp_path)


def checks(folder):
    data = open_episodes(folder / "episodes.zarr.zip")
    assert len(data) == 2 and data.success.all() and data.executed is not None
    assert data.masks["succeeded"].all() and not data.masks["failed"].any()
    planned = np.isfinite(data.log["energy"])
    assert planned.sum() >= 8 and (data.log["latency"][planned] > 0).all() and not data.log["late"].any()
    ticks = [json.loads(line) for line in (folder / "ticks.jsonl").read_text().splitlines()]
    assert len(ticks) == len(data.action)
    plans = [t["plan"] for t in ticks if "plan" in t]
    assert len(plans) == planned.sum() and [t.get("cause", "") for t in ticks] == data.log["cause"].tolist()
    assert all(p["energy"] is not None and p["stop"] == "steps" for p in plans)
    held = [t for t in ticks if t["asked"] is None]
    assert {t["cause"] for t in held} == {"no plan yet"} and len(held) == 4
    control = json.loads((folder / "eval.json").read_text())["control"]
    assert (control["ticks"], control["missed"], control["held"], control["late_max"]) == (len(ticks), 0, 4, 0.0)
    assert "no plan yet" in (folder / "report.html").read_text()


def test_a_robot_without_limits_and_a_stage_that_does_not_exist_are_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    script = runpy.run_path(str(ROOT / "scripts" / "deploy.py"))
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("deploy", [f"run={RUN}", "~robot.limits"])
    with pytest.raises(ValueError, match="expected limits with workspace, motion"), script["laid_out"](cfg):
        pass
