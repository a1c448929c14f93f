"""From results with known answers to tables, claims and the page."""

import json

import numpy as np
import pytest

from ebt_policy.rollout.alarm import auroc
from ebt_policy.rollout.evidence import (
    Found,
    Run,
    check_alike,
    check_seeds,
    iso,
    judge,
    pareto_point,
    task_table,
    with_steps_taken,
)
from ebt_policy.rollout.evidence_page import readme_table, summary, write_page
from ebt_policy.rollout.plots import front, pareto
from ebt_policy.rollout.result import write_result
from envs.avoid import mode_entropy


def run(name, successes, n=100, ways=None, flops=100, latency=0.01, steps=2.0, seed=0, first=50000, **versions):
    """The first `successes` of n episodes succeed."""
    episodes = [{"seed": first + i, "success": i < successes, "length": 9} for i in range(n)]
    for episode, way in zip(episodes, ways or [], strict=False):
        episode["report"] = {"way": way}
    return Run(
        name,
        {
            "run": {"env_id": "envs:Square-v0", "max_steps": None, "after_success": 10},
            "summary": {"successes": successes, "episodes": n},
            "seeds": [e["seed"] for e in episodes],
            "compute": {"flops_per_chunk": flops, "steps_per_chunk": steps},
            "timing": {"latency_median": latency},
            "versions": {"mujoco": "3.3.0", "commit": name} | versions,
            "episodes": episodes,
            "hashes": {"weights": name},
            "config": {"fit": {"seed": seed}},
        },
    )


def hypothesis(measure="success", claim="better", margin=0.05, one="EBT@2", other="flow@2", task="square", **more):
    named = {"measure": measure, "claim": claim, "margin": margin, "one": one, "others": [other], "tasks": [task]}
    return {"says": "it does", "claims": [named | more]}


def found_of(one, other):
    return Found(cells={"square": {"EBT@2": one, "flow@2": other}})


@pytest.mark.parametrize(
    "one, other, better, not_worse",
    [
        (100, 60, "supported", "supported"),
        (60, 100, "not supported", "not supported"),
        (100, 100, "not supported", "supported"),
        (90, 88, "underpowered", "supported"),
    ],
)
def test_claims_of_known_answers(one, other, better, not_worse):
    found = found_of([run("ebt", one)], [run("flow", other)])
    assert judge(hypothesis(), found)["verdict"] == better
    assert judge(hypothesis(claim="not worse"), found)["verdict"] == not_worse


def test_what_is_underpowered_says_how_many_episodes_it_needs():
    (claim,) = judge(hypothesis(), found_of([run("ebt", 90)], [run("flow", 86)]))["claims"]
    assert claim["verdict"] == "underpowered" and claim["needed"] > 100
    assert claim["p"] == pytest.approx(0.125)  # exact McNemar: four states, all won by the one


def test_what_is_missing_is_not_run():
    judged = judge(hypothesis(), found_of([run("ebt", 90)], []))
    assert judged["verdict"] == "not run" and judged["claims"][0]["estimate"] is None
    assert judge(hypothesis("auroc", run="ebt_{task}"), Found(monitors={"ebt_square": None}))["verdict"] == "not run"
    for measure in ("modes", "recovery", "density"):
        assert judge(hypothesis(measure), Found())["verdict"] == "not run"


@pytest.mark.parametrize(
    "other, complaint", [({"first": 7}, "seeds"), ({"mujoco": "3.4.0"}, "mujoco 3.3.0 and 3.4.0: run both again")]
)
def test_runs_of_other_initial_states_or_versions_are_refused(other, complaint):
    with pytest.raises(ValueError, match=f"expected ebt and flow evaluated alike, got {complaint}"):
        check_alike([run("ebt", 9), run("flow", 9, **other)])
    check_alike([run("ebt", 9), run("flow", 50)])  # another commit alone says nothing


def test_methods_are_compared_on_the_initial_states_that_both_have():
    few = run("flow", 40, n=50)
    check_alike([run("ebt", 60), few])
    (claim,) = judge(hypothesis(), found_of([run("ebt", 60)], [few]))["claims"]
    assert claim["n"] == 50 and claim["estimate"] == pytest.approx(0.2)  # of the first 50 all, and not 60 of 100
    best, other = task_table({"flow@2": [few], "EBT@2": [run("ebt", 60)]})
    assert (best["method"], other["text"]) == ("flow@2", "60/100 = 60 % [50, 70]")  # what is shown is of all


def test_a_policy_that_plans_no_chunks_has_no_latency_and_counts_only_the_states_it_is_asked_about():
    foreign = run("bc_rnn", 60, latency=None, flops=None).first(50)
    (row,) = task_table({"BC-RNN-GMM": [foreign]})
    assert (row["latency"], row["flops"], foreign.rate.successes) == (None, None, 50)


def test_training_runs_have_seeds_of_their_own():
    check_seeds([run("ebt", 9), run("ebt_seed1", 9, seed=1)])
    with pytest.raises(ValueError, match=r"a training seed of its own for each of ebt, ebt_seed1, got \[0, 0\]"):
        check_seeds([run("ebt", 9), run("ebt_seed1", 9)])


def test_the_entropy_of_ways_is_that_of_the_environment_and_failures_take_none():
    ways = ["000", "001", "010", "011"] * 25
    spread, merged = run("flow", 100, ways=ways), run("ebt", 80, ways=["000"] * 100)
    (row,) = task_table({"EBT@2": [merged], "flow@2": []})
    assert row["entropy_bits"] == 0 and task_table({"flow@2": [spread]})[0]["entropy_bits"] == mode_entropy(ways)
    asked = hypothesis("modes", one="flow@2", other="EBT@2", margin=0.5)
    (claim,) = judge(asked, found_of([merged], [spread]))["claims"]
    assert claim["estimate"] == pytest.approx(2) and claim["low"] > 1.9 and claim["verdict"] == "supported"


def test_coverage_is_compared_where_nobody_succeeds():
    sides = [run("ebt_push_t", 0, n=40), run("flow_push_t", 0, n=40)]
    for side, gain in zip(sides, (0.1, 0.0), strict=True):
        for i, episode in enumerate(side.result["episodes"]):
            episode["report"] = {"max_coverage": i / 50 + gain}
    one, other = sides
    (claim,) = judge(hypothesis("coverage"), found_of([one], [other]))["claims"]
    assert (claim["verdict"], claim["n"]) == ("supported", 40)
    np.testing.assert_allclose([claim["estimate"], claim["low"], claim["high"]], 0.1)  # the same gain on every state
    (row,) = task_table({"EBT@2": [one]})
    assert row["coverage"] == pytest.approx(np.mean(np.arange(40) / 50) + 0.1)
    assert run("ebt_square", 3).coverages is None


def test_signals_are_compared_by_their_auroc():
    rng = np.random.default_rng(0)
    failed = np.arange(80) < 30
    energy, spread = failed + rng.normal(size=80), rng.normal(size=80)
    episodes = [
        {"success": not f, "length": 9, "signals": [{"elapsed": 0.0, "energy": e, "spread": s}]}
        for f, e, s in zip(failed.tolist(), energy.tolist(), spread.tolist(), strict=True)
    ]
    found = Found(monitors={"ebt_square": {"episodes": episodes}})
    asked = hypothesis("auroc", one="energy", other="spread", run="ebt_{task}")
    (claim,) = judge(asked, found)["claims"]
    expected = auroc(energy[failed], energy[~failed]) - auroc(spread[failed], spread[~failed])
    assert claim["estimate"] == pytest.approx(expected) and claim["low"] < expected < claim["high"]
    assert claim["verdict"] == "supported"


def recovered(**policies):
    """Policy -> outcomes by seed; None: the disturbance took no effect."""
    episodes = [
        {"policy": name, "seed": seed, "success": bool(ok), "report": {"effect": ok is not None}}
        for name, outcomes in policies.items()
        for seed, ok in enumerate(outcomes)
    ]
    cell = {"all": {"text": "1/2"}, "kinds": {}, "cells": {"push_1": {"text": "<1"}}}
    test = {"scope": "all", "one": "a", "other": "b", "shared": 3, "p": 0.1, "p_holm": 0.2}
    tests = [test | {"difference": 0.1, "interval": [0.0, 0.2]}]
    return {"policies": dict.fromkeys(policies, cell), "tests": tests, "episodes": episodes}


def test_recovery_is_compared_on_the_cases_that_hit_both():
    result = recovered(ebt=[True] * 60 + [None] * 40, flow=[True] * 20 + [False] * 60)
    (claim,) = judge(hypothesis("recovery", one="ebt", other="flow"), Found(recovered={"square": result}))["claims"]
    assert (claim["estimate"], claim["n"], claim["verdict"]) == (pytest.approx(40 / 60), 60, "supported")
    alone = Found(recovered={"square": recovered(ebt=[True])})
    assert judge(hypothesis("recovery", one="ebt", other="flow"), alone)["verdict"] == "not run"


def test_methods_share_a_letter_unless_they_differ():
    rows = task_table({"bad": [run("bad", 20)], "good": [run("good", 98)], "as good": [run("too", 97)], "none": []})
    assert [(row["method"], row["letters"]) for row in rows] == [("good", "a"), ("as good", "a"), ("bad", "b")]


def test_training_seeds_are_told_apart_from_episodes():
    (row,) = task_table({"EBT@2": [run("ebt", 80), run("ebt_seed1", 90, seed=1), run("ebt_seed2", 100, seed=2)]})
    assert row["text"] == "90.0 %; standard deviation 9.6 over 3 training seeds, 2.9 over 100 episodes"
    assert [r["training_seed"] for r in row["runs"]] == [0, 1, 2]


def points():
    cells = [("EBT", {"steps": 1}, 90, 50, 0.01, 1.0), ("EBT", {"steps": 3}, 95, 150, 0.03, 3.0)]
    cells += [("EBT", {"steps": 3, "tol": 0.1}, 95, 150, 0.02, 2.0), ("flow", {"steps": 4}, 80, 90, 0.028, 4.0)]
    cells += [("flow", {"steps": 1}, 85, 20, 0.005, 1.0)]
    runs = [(family, how, run(family, k, flops=f, latency=t, steps=n)) for family, how, k, f, t, n in cells]
    return with_steps_taken([pareto_point(family, how, result, 7) for family, how, result in runs])


def test_the_flops_of_a_descent_that_stops_early_are_those_of_the_steps_it_took():
    assert [p["flops"] for p in points()] == [50, 150, 100, 90, 20]


def test_the_front_has_what_nothing_cheaper_matches():
    def rates(cost):
        return [(p["family"], p["rate"]) for p in front(points(), cost)]

    assert rates("latency") == rates("flops") == [("flow", 0.85), ("EBT", 0.9), ("EBT", 0.95)]
    lines = pareto(points(), "flops", "FLOP").axes[0].lines
    assert [list(lines[-1].get_xdata()), list(lines[-1].get_ydata())] == [[20, 50, 100], [85, 90, 95]]


def test_rivals_stand_beside_a_reference_at_equal_cost():
    rows = iso(points(), "EBT", {"steps": 3})
    assert [(r["equal"], r["sampling"]["steps"]) for r in rows] == [
        ("reference", 3),
        ("parameters", 1),
        ("flops", 4),
        ("latency", 4),
    ]
    assert iso(points(), "EBT", {"steps": 7}) == []


def test_the_summary_says_what_would_change_a_verdict():
    supported = judge(hypothesis(claim="not worse"), found_of([run("ebt", 99)], [run("flow", 98)]))
    name, word, figures, change = summary("h1", supported)
    assert (name, word) == ("h1: it does", "supported\n(1 supported)")
    assert figures.startswith("square, EBT@2 less flow@2: +1.0 [") and figures.endswith("] points")
    assert change.startswith("supported: lower end below -5.0 points; closest -")
    assert summary("h1", judge(hypothesis(), Found()))[3] == "to be run: square: flow@2"
    assert "needs n = " in summary("h1", judge(hypothesis(), found_of([run("ebt", 90)], [run("flow", 86)])))[3]


def test_the_page_holds_everything_in_itself(tmp_path):
    found = found_of([run("ebt", 99), run("ebt_seed1", 97, seed=1)], [run("flow", 98)])
    never = task_table({"EBT@2": [run("ebt", 0, ways=["000"] * 100)]})  # took no way that counts
    evidence = {
        "hypotheses": {"h1": judge(hypothesis(), found), "h2": judge(hypothesis(), Found())},
        "tasks": {"square": task_table(found.cells["square"]), "can": [], "avoid": never},
        "dynamic": {"task": "square", "episodes": 100, "points": points(), "iso": iso(points(), "EBT", {"steps": 3})},
        "recovery": {
            "square": recovered(ebt=[True]) | {"command": "recover"},
            "can": {"policies": {}, "command": "recover can"},
        },
        "monitors": {"ebt_square": {"signals": None, "command": "monitor"}},
        "densities": [],
        "versions": {},
    }
    evidence = json.loads(write_result(tmp_path / "evidence.json", evidence).read_text())
    html = write_page(tmp_path, evidence).read_text()
    assert "http" not in html.replace("http-equiv", "") and html.count("data:image/svg+xml") == 4
    assert "&lt;1" in html and "<h2>can</h2>" in html and "monitor" in html
    lines = readme_table(evidence["hypotheses"]).splitlines()
    assert len(lines) == 4 and {line.count("|") for line in lines} == {5}
