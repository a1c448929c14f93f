"""How a policy fares under disturbances, cell by cell, and whether two policies differ in it.

A cell is one disturbance (or none) on all seeds: an evaluation whose episodes carry the report of `envs.disturb`.

    episodes >= triggered >= took effect >= recovered

Whoever succeeds while a disturbance lasts that took effect has recovered from it, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ebt_policy.rollout.compare import holm, paired
from ebt_policy.rollout.stats import SuccessRate

FILE = "recover.json"
FREE = ("commit",)  # of the versions: hashes say whether the disturbances are the same


def recovery(episodes: Sequence[dict]) -> dict:
    """What became of one cell's episodes, as in an evaluation's JSON; None where nothing was observed."""
    reports = [e["report"] for e in episodes]
    hit = [e for e in episodes if e["report"]["effect"]]
    recovered = [e for e in hit if e["success"]]
    rate = SuccessRate(len(recovered), len(hit)) if hit else None
    success = SuccessRate(sum(e["success"] for e in episodes), len(episodes))
    times = [e["length"] - e["report"]["trigger"] for e in recovered]
    undisturbed = reports[0]["index"] == 0
    return {
        "text": f"{success} undisturbed" if undisturbed else str(rate) if rate else "never took effect",
        "recovery_rate": rate and rate.rate,
        "interval": rate and list(rate.interval),
        "episodes": len(episodes),
        "triggered": sum(r["trigger"] is not None for r in reports),
        "took_effect": len(hit),
        "recovered": len(recovered),
        "median_steps_to_recover": float(np.median(times)) if times else None,  # from the trigger to success
        "retries": sum(e["report"]["retries"] for e in hit),
        "retries_per_episode": float(np.mean([e["report"]["retries"] for e in hit])) if hit else None,
        "success": success.rate,  # of all episodes, hit or not
        "success_interval": list(success.interval),
    }


def collect(cells: Mapping[str, dict]) -> dict:
    """One JSON of a run from its cells' evaluations, by name of the disturbance."""
    first = next(iter(cells.values()))
    return {
        "run": first["run"],
        "cells": {name: recovery(cell["episodes"]) for name, cell in cells.items()},
        "seeds": first["seeds"],
        "versions": first["versions"],
        "hashes": first["hashes"],
        "config": first["config"],
        "episodes": [episode for cell in cells.values() for episode in cell["episodes"]],
    }


def read_recovery(folder: str | Path) -> dict:
    path = Path(folder) / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"expected a recovery benchmark at {path}, found none: run scripts/recover.py run=... first"
        )
    return json.loads(path.read_text())


def compare(one: dict, other: dict) -> dict[str, dict]:
    """Cell -> exact McNemar test on the seeds on which the disturbance took effect for both, Holm over the cells.

    ValueError unless both ran the same cells from the same initial states with the same versions.
    """
    _check_alike(one, other)
    tests = {}
    for name in one["cells"]:
        a, b = (_outcomes(result, name) for result in (one, other))
        if shared := sorted(a.keys() & b.keys()):
            tests[name] = paired([a[seed] for seed in shared], [b[seed] for seed in shared])
    corrected = holm([test.p for test in tests.values()])
    return {
        name: {
            "shared": test.both + test.only_one + test.only_other + test.neither,
            "only_one": test.only_one,
            "only_other": test.only_other,
            "difference": test.difference,
            "p": test.p,
            "p_holm": p,
        }
        for (name, test), p in zip(tests.items(), corrected, strict=True)
    }


def _outcomes(result: dict, cell: str) -> dict[int, bool]:
    """Seed -> success, of the episodes that were hit, or of all where nothing was to hit them."""
    of_cell = [e for e in result["episodes"] if e["report"]["disturbance"] == cell]
    return {e["seed"]: e["success"] for e in of_cell if e["report"]["effect"] or e["report"]["index"] == 0}


def benchmarked(result: dict) -> dict:
    """What must be the same for two results to be results of the same thing, in JSON's types."""
    versions = {k: v for k, v in result["versions"].items() if k not in FREE}
    facts = {key: result[key] for key in ("run", "seeds", "config", "hashes")} | {"versions": versions}
    return json.loads(json.dumps(facts, default=str))


def _check_alike(one: dict, other: dict) -> None:
    def facts(result: dict) -> dict:
        found = benchmarked(result)
        disturbances = {"disturbances": found["hashes"]["disturbances"], "cells": list(result["cells"])}
        return {"seeds": found["seeds"]} | found["run"] | found["versions"] | disturbances

    a, b = facts(one), facts(other)
    unlike = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
    if unlike:
        words = "; ".join(f"{k} {_short(a.get(k))} and {_short(b.get(k))}" for k in unlike)
        raise ValueError(f"expected two runs of the same benchmark, got {words}: run both again with the same settings")


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"
