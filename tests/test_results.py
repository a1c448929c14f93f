"""The tables of the README: what is measured is written between their markers, and nothing else is touched."""

import json
import runpy

import pytest
from omegaconf import OmegaConf
from tiny_runs import ROOT

from ebt_policy.rollout.result import rewrite

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "results.py"))


def measured(rate, latency):
    summary = {"success_rate": rate, "interval": [rate - 0.1, rate]}
    return {"summary": summary, "timing": {"latency_median": latency}, "compute": {"flops_per_chunk": 2.5e7}}


def test_a_cell_has_rate_interval_latency_and_flops_or_says_that_there_is_none():
    assert SCRIPT["_cell"](measured(0.9, 0.0112)) == "90 [80, 90]<br>11 ms, 25 MFLOP"
    assert SCRIPT["_cell"](None) == "-"


def test_the_headline_names_its_cells_in_their_order():
    cfg = OmegaConf.create({"episodes": 100, "headline": {"cells": ["EBT@2", "DDIM-10"]}})
    results = {"DDIM-10": measured(0.8, 0.02), "EBT@2": measured(0.9, 0.0112)}
    text = SCRIPT["_headline"](cfg, "square", results)
    assert text.startswith("Square, 100 initial states")
    assert text.endswith("**EBT@2 90 [80, 90] at 11 ms**; DDIM-10 80 [70, 80] at 20 ms.")


def test_only_what_stands_between_the_markers_is_rewritten(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before <!-- t -->\nold\n<!-- /t --> after")
    rewrite(readme, "t", "new")
    assert readme.read_text() == "before <!-- t -->\nnew\n<!-- /t --> after"
    with pytest.raises(ValueError, match="expected the markers <!-- u -->"):
        rewrite(readme, "u", "new")


def test_speeds_are_the_ratios_of_the_benches_beside_their_goals(tmp_path):
    bench = tmp_path / "bench_infer.json"
    ratio = {"wall": {"median": 0.512, "low": 0.4, "high": 0.61}, "cpu": None, "target": "<= 1/2"}
    bench.write_text(json.dumps({"ratios": {"EBT@2 / DDIM-10": ratio}}))
    row = SCRIPT["_speed"]([bench]).splitlines()[-1]
    assert row == "| EBT@2 / DDIM-10 | 0.512 [0.4, 0.61] | <= 1/2 | `scripts/bench_infer.py` |"


def test_what_latency_costs_is_a_row_for_each_latency():
    def cell(n):
        return {"successes": n, "episodes": 50, "ticks": 36.0, "joints": {"p95": 3.03, "max": 5.4}}

    deployed = {f"{s} ms, {way}": cell(n) for n, s in ((50, 0), (48, 60)) for way in ("joined", "switched")}
    plain = {"successes": 50, "episodes": 50, "ticks": 35.0}
    seconds = {"round trip beyond inference": {"median": 0.0021}}
    lines = SCRIPT["_deployed"]({"plain": plain, "deployed": deployed, "seconds": seconds}).splitlines()
    assert lines[0] == "| latency | joined | switched |" and len(lines) == 6
    assert lines[3].startswith("| 60 ms | 48 of 50 in 36 ticks<br>at joints 3.0, at most 5.4 m/s² | 48 of 50")
    assert lines[-1].endswith("50 of 50 in 35 ticks. Medians: round trip beyond inference 2.1 ms.")


def test_perplexities_of_seeds_are_compared_with_the_rivals_seed_by_seed():
    values = {"text_ebt_s1_0": 44.0, "text_ebt_s1_1": 60.5, "text_transformer_0": 40.0, "text_transformer_1": 50.0}
    rows = [
        {"run": f"runs/{run}", "steps": 1, "candidates": 1, "perplexity": {"value": v}} for run, v in values.items()
    ]
    rows += [row | {"candidates": 4} for row in rows if "ebt" in row["run"]]
    head, rule, ebt, transformer = SCRIPT["_language"](rows).splitlines()
    assert ebt.startswith("| text_ebt_s1 | 1 | 44.0, 60.5 | 1.154 [0.6")  # sqrt(1.10 * 1.21)
    assert transformer.endswith("| 40.0, 50.0 | 1.000 [1.000, 1.000] | - |")


def test_thinking_is_told_by_its_two_ends():
    far = {"corpus": "python", "candidates": 1, "degree": {"value": 40.0}}
    walks = [("s2", 1, 90.0), ("s2", 2, 60.0), ("s2", 4, 50.0), ("transformer", 1, 80.0)]
    rows = [far | {"run": f"runs/{run}", "steps": k, "perplexity": {"value": value}} for run, k, value in walks]
    *_, line = SCRIPT["_thinking"](rows).splitlines()
    assert line == "| python | 40 | 90 in 1, 50 in 4 | 80 in 1 |"


def test_restored_images_are_a_row_for_each_number_of_steps_and_a_column_for_each_noise_level():
    def row(sigma, steps, value, candidates=1):
        told = {"sigma": sigma, "inside": sigma < 1, "steps": steps, "candidates": candidates}
        return told | {"psnr": {"mean": value}}

    rows = [row(0.5, 0, 10), row(0.5, 2, 20.126), row(0.5, 2, 99, candidates=4), row(2.0, 0, 1), row(2.0, 2, 15)]
    lines = SCRIPT["_denoised"]({"ebt": {"rows": rows}}).splitlines()
    assert lines[0] == "| run | steps | 0.5 | 2 (outside) |" and lines[2:] == ["| ebt | 2 | 20.13 | 15.00 |"]


def test_probes_are_a_row_for_each_block_and_a_column_for_each_run():
    rows = [{"features": name, "accuracy": 0.68, "interval": [0.637, 0.721]} for name in ("pixels", "block 1")]
    lines = SCRIPT["_probed"]({"ebt": {"rows": rows}, "dit": {"rows": rows[:1]}}).splitlines()
    assert lines[0] == "| right, % | ebt | dit |" and lines[-1] == "| block 1 | 68 [64, 72] | - |"


def test_ablations_are_a_row_for_each_run_with_the_best_of_many_last():
    def row(steps, candidates, value):
        return {"run": "runs/full", "steps": steps, "candidates": candidates, "perplexity": {"value": value}}

    lines = SCRIPT["_ablation"]([row(2, 1, 50.04), row(4, 1, 48), row(4, 4, 47), row(2, 4, 49)]).splitlines()
    assert lines[0] == "| model | 2 steps | 4 steps | best of 4 |" and lines[2] == "| full | 50.0 | 48.0 | 47.0 |"
