"""The recovery benchmark: what its numbers are, what it compares, and what it refuses to."""

import json
import runpy
from functools import partial

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tiny_runs import ROOT, compose_train
from toy_handling import TRAY, Picker

from ebt_policy.rollout.evaluation import evaluate
from ebt_policy.rollout.recovery import collect, compare, recovery, together
from ebt_policy.rollout.recovery_page import first_cases
from ebt_policy.rollout.sim import rollout
from ebt_policy.train.run import train_run
from envs.disturb import DISTURBANCES

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "recover.py"))
INDEX = {d.name: i for i, d in enumerate(DISTURBANCES)}


def episode(seed, success, *, effect=True, trigger=30, length=90, retries=1, cell="open_1"):
    over = None if trigger is None else trigger + 5
    report = {"disturbance": cell, "index": INDEX[cell], "trigger": trigger, "over": over}
    return {"seed": seed, "success": success, "length": length, "digest": f"{cell}{seed}"} | {
        "report": report | {"effect": effect, "grasps": 1 + retries, "retries": retries}
    }


def calm(seed, success=True, length=60):
    return episode(seed, success, effect=False, trigger=None, length=length, retries=0, cell="none")


EPISODES = [
    episode(0, True, length=90),
    episode(1, True, length=100, retries=3),
    episode(2, False, length=400, retries=0),
    episode(3, True, effect=False),
    episode(4, False, effect=False, trigger=None, length=400),
]
CALM = [calm(0), calm(1, success=False, length=400), calm(2), calm(3), calm(4)]


def block(disturbed=EPISODES, undisturbed=CALM, **changes):
    run = {"env_id": TRAY, "max_steps": 120, "after_success": 0, "cells": ["open_1"]}
    fixed = {"seeds": [e["seed"] for e in disturbed], "versions": {"mujoco": "3.3.0", "commit": "abc"}}
    fixed |= {"hashes": {"weights": "w", "disturbances": "d"}, "config": {}, "compute": {}, "run": run} | changes
    return together(fixed | {"episodes": disturbed}, {"episodes": undisturbed}, fixed["run"])


def cases(disturbed, undisturbed):
    return {"disturbed": disturbed, "undisturbed": undisturbed}


def test_the_recovery_rate_is_of_the_episodes_that_were_hit_and_the_others_are_counted():
    found = recovery(EPISODES, {e["seed"]: e for e in CALM})
    assert (found["episodes"], found["triggered"], found["took_effect"]) == (5, 4, 3)
    assert found["recovered"] == 2 and found["recovery_rate"] == pytest.approx(2 / 3)
    assert found["interval"] == pytest.approx([0.0943, 0.9916], abs=1e-4)  # Clopper-Pearson of 2 in 3
    assert found["steps_to_recover"]["median"] == 65 and found["retries_per_episode"] == pytest.approx(4 / 3)
    assert found["success"] == pytest.approx(3 / 5) and found["undisturbed"] == pytest.approx(4 / 5)


def test_steps_are_lost_beside_the_undisturbed_episode_of_the_same_seed_if_both_succeed():
    found = recovery(EPISODES, {e["seed"]: e for e in CALM})
    assert found["steps_lost"] == {"low": 30, "median": 30, "high": 30}


def test_where_nothing_took_effect_there_is_no_rate():
    found = recovery(EPISODES[3:], {e["seed"]: e for e in CALM})
    assert found["recovery_rate"] is None and found["interval"] is None and found["text"] == "never took effect"
    assert found["steps_to_recover"] is None and found["retries_per_episode"] is None
    assert (found["episodes"], found["triggered"]) == (2, 1)


def test_a_policy_is_summed_up_over_all_by_kind_by_strength_and_by_cell():
    names = ("move_1", "move_2", "open_freeze_1")
    disturbed = [episode(i, i > 0, cell=name) for i, name in enumerate(names)]
    result = collect({"a": [block(disturbed, [calm(i) for i in range(3)])]})
    found = result["policies"]["a"]
    assert {k: v["text"][:3] for k, v in found["kinds"].items()} == {"move": "1/2", "open_freeze": "1/1"}
    assert {k: v["text"][:3] for k, v in found["strengths"].items()} == {"1": "1/2", "2": "1/1"}
    assert list(found["cells"]) == list(names) and found["all"]["text"].startswith("2/3")
    assert [(e["policy"], e["report"]["disturbance"]) for e in result["episodes"][2:4]] == [
        ("a", "none"),
        ("a", "move_1"),
    ]


def test_two_policies_are_compared_on_the_cases_that_were_hit_in_both():
    still = [calm(i) for i in range(9)]
    one = cases([episode(i, True) for i in range(8)] + [episode(8, True, effect=False)], still)
    other = cases([episode(i, i < 2) for i in range(9)], still)
    over_all, opened, undisturbed = compare({"one": one, "other": other})
    for test, scope in ((over_all, "all"), (opened, "open")):
        assert (test["scope"], test["one"], test["other"]) == (scope, "one", "other")
        assert (test["shared"], test["only_one"], test["only_other"]) == (8, 6, 0)
        assert test["difference"] == pytest.approx(0.75) and test["interval"][0] < 0.75 < test["interval"][1]
        assert test["p"] == test["p_holm"] == pytest.approx(2 / 2**6)
    assert (undisturbed["scope"], undisturbed["shared"], undisturbed["difference"]) == ("undisturbed", 9, 0)


def test_holm_corrects_over_the_kinds_and_the_pairs_but_not_for_the_test_over_all():
    def policy(moved, opened):
        of_move = [episode(i, ok, cell="move_1") for i, ok in enumerate(moved)]
        of_open = [episode(10 + i, ok) for i, ok in enumerate(opened)]
        return cases([*of_move, *of_open], [calm(e["seed"]) for e in [*of_move, *of_open]])

    good, bad = policy([True] * 8, [True] * 8), policy([False] * 7 + [True], [False] * 6 + [True] * 2)
    tests = compare({"good": good, "bad": bad})
    assert [t["scope"] for t in tests] == ["all", "move", "open", "undisturbed"]
    assert [t["p"] for t in tests[:3]] == pytest.approx([2 / 2**13, 2 / 2**7, 2 / 2**6])
    assert [t["p_holm"] for t in tests[:3]] == pytest.approx([2 / 2**13, 4 / 2**7, 2 / 2**6])
    assert len(compare({"good": good, "bad": bad, "third": bad})) == 3 * len(tests)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"seeds": [0, 1, 2, 3, 5]}, r"seeds \[0, 1, 2, 3, 4\] and \[0, 1, 2, 3, 5\]"),
        ({"versions": {"mujoco": "3.2.0"}}, "mujoco 3.3.0 and 3.2.0"),
        ({"hashes": {"weights": "w", "disturbances": "e"}}, "disturbances d and e"),
        ({"run": {"env_id": TRAY, "max_steps": 90}}, "after_success 0 and None; cells .*; max_steps 120 and 90"),
    ],
)
def test_policies_of_other_states_versions_or_disturbances_are_not_compared(changes, complaint):
    with pytest.raises(ValueError, match=f"same benchmark of a and b, got {complaint}: run both again"):
        collect({"a": [block()], "b": [block(**changes)]})


def test_policies_of_other_weights_and_commits_are_compared():
    changes = {"hashes": {"weights": "v", "disturbances": "d"}, "versions": {"mujoco": "3.3.0", "commit": "def"}}
    assert collect({"a": [block()], "b": [block(**changes)]})["tests"][0]["p"] == 1.0


def test_the_first_cases_are_ten_of_a_kind_in_the_order_of_seeds_at_all_strengths():
    disturbed = [episode(i, True, cell=f"move_{1 + i % 3}") for i in range(12)]
    result = collect({"a": [block(disturbed[6:] + disturbed[:6], [calm(i) for i in range(12)])]})
    assert [e["seed"] for e in first_cases(result, "a")["move"]] == list(range(10))


def disturbed(name, seeds, processes=1):
    settings = {"max_steps": 120, "env_kwargs": {"task": TRAY, "indices": [INDEX[name]]}, "after_success": 0}
    return rollout(partial(Picker, 0.5), "envs:Disturbed-v0", seeds, processes=processes, **settings)


def test_two_processes_disturb_as_one_does():
    alone = disturbed("move_2", [1, 2, 3])
    assert disturbed("move_2", [1, 2, 3], processes=2) == alone
    assert all(log.report["disturbance"] == "move_2" and log.report["effect"] for log in alone)


def test_a_scripted_hand_recovers_from_every_drop():
    ways = [
        evaluate(Picker, "envs:Disturbed-v0", range(5), max_steps=120, env_kwargs={"task": TRAY, "indices": [index]})
        for index in (INDEX["open_1"], 0)
    ]
    found = collect({"hand": [together(*ways, run={}) | {"hashes": {"disturbances": "d"}}]})["policies"]["hand"]["all"]
    assert found["recovered"] == found["took_effect"] == 5 and found["retries_per_episode"] == 1
    assert found["undisturbed"] == 1 and found["undisturbed_retries_per_episode"] == 0


def recover(*settings):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("recover", [*settings])


@pytest.fixture(scope="module")
def benchmark(store, tmp_path_factory):
    """What the script is told: two policies of a run that has hardly been trained, disturbed on the tray."""
    folder = tmp_path_factory.mktemp("runs")
    train_run(compose_train(folder / "tiny", store, updates=2))
    settings = ["compare=tiny", f"env={TRAY}", "processes=1", "episodes=2", "kinds=[move]", "strengths=[1,3]"]
    cfg = recover(*settings, f"out={folder / 'recover'}")
    cfg.policies = {f"{n} steps": {"run": f"{folder}/{{task}}", "method": {"steps": n}} for n in (1, 2)}
    SCRIPT["measure"](cfg)
    return cfg, folder / "recover"


def test_the_script_writes_all_policies_on_the_same_cases_and_their_tests(benchmark):
    _, folder = benchmark
    result = json.loads((folder / "recover.json").read_text())
    assert result["seeds"] == [70000, 70001, 70002, 70003] and list(result["policies"]) == ["1 steps", "2 steps"]
    assert {t["scope"] for t in result["tests"]} >= {"undisturbed"} and "mujoco" in result["versions"]
    assert {"weights", "data", "disturbances"} == set(result["policies"]["1 steps"]["hashes"])
    met = [
        [(e["seed"], e["report"]["disturbance"]) for e in result["episodes"] if e["policy"] == p]
        for p in result["policies"]
    ]
    assert met[0] == met[1] and len(met[0]) == 8
    assert sorted(name for _, name in met[0]) == ["move_1"] * 2 + ["move_3"] * 2 + ["none"] * 4
    page = (folder / "recover.html").read_text()
    assert "move_3" in page and "://" not in page


def test_blocks_that_are_there_are_not_run_again_but_for_other_settings(benchmark):
    cfg, folder = benchmark
    path = folder / "blocks" / "1_steps" / "70002.json"
    kept = json.loads(path.read_text())
    kept["compute"] = "not run again"
    path.write_text(json.dumps(kept))
    SCRIPT["measure"](cfg)
    assert json.loads(path.read_text())["compute"] == "not run again"
    SCRIPT["measure"](OmegaConf.merge(cfg, {"method": {"restarts": 2}}))
    assert json.loads(path.read_text())["compute"] != "not run again"


def test_one_run_is_measured_alone(benchmark, tmp_path):
    cfg, folder = benchmark
    alone = {
        "compare": None,
        "run": str(folder.parent / "tiny"),
        "out": str(tmp_path),
        "json": str(tmp_path / "one.json"),
    }
    SCRIPT["measure"](OmegaConf.merge(cfg, alone, {"episodes": 1}))
    result = json.loads((tmp_path / "one.json").read_text())
    assert list(result["policies"]) == ["tiny"] and result["tests"] == []


def test_some_of_the_policies_are_measured_and_may_plan_early(benchmark, tmp_path):
    cfg, _ = benchmark
    early = {"redraw": 1e-6, "only": ["1 steps"], "episodes": 1, "max_steps": 20}
    SCRIPT["measure"](OmegaConf.merge(cfg, early, {"out": str(tmp_path)}))
    result = json.loads((tmp_path / "recover.json").read_text())
    assert list(result["policies"]) == ["1 steps"] and result["policies"]["1 steps"]["config"]["redraw"] == 1e-6
    with pytest.raises(ValueError, match=r"expected only=\[...\] of 1 steps, 2 steps, got 3 steps"):
        SCRIPT["measure"](OmegaConf.merge(cfg, {"only": ["3 steps"]}))
    with pytest.raises(ValueError, match="expected replan or redraw, got replan=1 and redraw=2: leave one out"):
        SCRIPT["measure"](OmegaConf.merge(cfg, {"replan": 1.0, "redraw": 2.0}))


def test_videos_of_the_first_cases_lie_beside_the_page(benchmark, tmp_path):
    cfg, _ = benchmark
    short = {"episodes": 1, "max_steps": 20, "strengths": [3], "out": str(tmp_path)}
    SCRIPT["measure"](OmegaConf.merge(cfg, short, {"video": True}))
    videos = sorted((tmp_path / "videos").iterdir())
    assert len(videos) == 2 and all(video.stat().st_size > 1000 for video in videos)
    page = (tmp_path / "recover.html").read_text()
    assert all(f'src="videos/{video.name}"' in page for video in videos)


@pytest.mark.parametrize("settings", ["kinds=[quake]", "strengths=[4]", "kinds=[]"])
def test_a_kind_or_strength_that_there_is_not_is_refused(settings):
    cfg = recover(settings)
    with pytest.raises(ValueError, match="expected kinds"):
        SCRIPT["chosen"](cfg.kinds, cfg.strengths)


@pytest.mark.parametrize("settings", [[], ["compare=square", "run=runs/mine"]])
def test_either_a_run_or_a_task_is_asked_for(settings):
    with pytest.raises(ValueError, match="expected run=FOLDER or compare=square"):
        SCRIPT["policies"](recover(*settings))
