"""How policies fare under disturbances, and whether they differ in it.

A case is a seed: of the initial state, the sampler and the disturbance. Every policy plays the same cases, each of them
disturbed and undisturbed.

    episodes >= triggered >= took effect >= recovered

Whoever succeeds while a disturbance lasts that took effect has recovered from it, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from ebt_policy.rollout.compare import FREE, holm, paired, refuse_unlike
from ebt_policy.rollout.stats import SuccessRate, bootstrap_interval

WAYS = ("undisturbed", "disturbed")  # in which a case is played
KEPT = ("seed", "success", "length", "digest", "report")  # of an episode's log


def recovery(disturbed: Sequence[dict], undisturbed: Mapping[int, dict]) -> dict:
    """What became of `disturbed` episodes, as in an evaluation's JSON; None where nothing was observed.

    undisturbed: seed -> the episode from the same initial state that nothing happened to.
    """
    hit = [e for e in disturbed if e["report"]["effect"]]
    recovered = [e for e in hit if e["success"]]
    also = [e for e in recovered if undisturbed[e["seed"]]["success"]]
    calm = [undisturbed[e["seed"]] for e in disturbed]
    rate = SuccessRate(len(recovered), len(hit)) if hit else None
    success, without = _success(disturbed), _success(calm)
    return {
        "text": str(rate) if rate else "never took effect",
        "recovery_rate": rate and rate.rate,
        "interval": rate and list(rate.interval),
        "episodes": len(disturbed),
        "triggered": sum(e["report"]["trigger"] is not None for e in disturbed),
        "took_effect": len(hit),
        "recovered": len(recovered),
        "steps_to_recover": _quartiles(e["length"] - e["report"]["trigger"] for e in recovered),
        "steps_lost": _quartiles(e["length"] - undisturbed[e["seed"]]["length"] for e in also),
        "retries": sum(e["report"]["retries"] for e in hit),
        "retries_per_episode": _mean(e["report"]["retries"] for e in hit),
        "success": success.rate,  # of all episodes, hit or not
        "success_interval": list(success.interval),
        "undisturbed": without.rate,
        "undisturbed_interval": list(without.interval),
        "undisturbed_retries_per_episode": _mean(e["report"]["retries"] for e in calm),
    }


def collect(policies: Mapping[str, Sequence[dict]]) -> dict:
    """One JSON of policies that have played the same blocks of cases: name -> its blocks, as `together` makes them.

    ValueError unless all have the same initial states, disturbances, versions and settings.
    """
    (one, facts), *others = ((name, _facts(blocks)) for name, blocks in policies.items())
    for other, found in others:
        refuse_unlike(facts, found, f"the same benchmark of {one} and {other}")
    first = policies[one][0]
    episodes = {
        name: {way: [e for played in blocks for e in played[way]] for way in WAYS} for name, blocks in policies.items()
    }
    return {
        "run": first["run"],
        "seeds": facts["seeds"],
        "versions": first["versions"],
        "hashes": {"disturbances": facts["disturbances"]},
        "policies": {name: _about(blocks[0]) | summary(episodes[name]) for name, blocks in policies.items()},
        "tests": compare(episodes),
        "episodes": [
            {"policy": name} | {key: e[key] for key in KEPT}
            for name, found in episodes.items()
            for way in WAYS
            for e in found[way]
        ],
    }


def together(disturbed: dict, undisturbed: dict, run: dict) -> dict:
    """Two evaluations of the same cases as one, `run` being the settings that they share."""
    same = {key: disturbed[key] for key in ("seeds", "versions", "hashes", "config", "compute")}
    return {"run": run} | same | {"disturbed": disturbed["episodes"], "undisturbed": undisturbed["episodes"]}


def summary(episodes: Mapping[str, Sequence[dict]]) -> dict:
    """Of one policy: over everything, by kind, by strength and by cell, which is a kind at a strength."""
    calm = {e["seed"]: e for e in episodes["undisturbed"]}
    ordered = sorted(episodes["disturbed"], key=lambda e: e["report"]["index"])

    def by(name: Callable[[str], str]) -> dict[str, dict]:
        groups: dict[str, list[dict]] = {}
        for e in ordered:
            groups.setdefault(name(e["report"]["disturbance"]), []).append(e)
        return {name: recovery(group, calm) for name, group in groups.items()}

    return {"all": recovery(ordered, calm), "kinds": by(kind), "strengths": by(strength), "cells": by(str)}


def compare(policies: Mapping[str, Mapping[str, Sequence[dict]]]) -> list[dict]:
    """Exact McNemar tests of every two policies, on the cases whose disturbance took effect for both: over all kinds,
    kind by kind, and undisturbed on all cases. Holm corrects over the pairs; kind by kind, over pairs and kinds.

    policies: name -> {"disturbed", "undisturbed"} -> episodes.
    """
    groups = {name: _groups(episodes) for name, episodes in policies.items()}
    scopes = list(next(iter(groups.values())))
    kinds = [scope for scope in scopes if scope not in ("all", "undisturbed")]
    families = [["all"], kinds, ["undisturbed"]]
    return [test for family in families for test in _family(groups, family)]


def kind(disturbance: str) -> str:
    return disturbance.rpartition("_")[0]


def strength(disturbance: str) -> str:
    return disturbance.rpartition("_")[2]


def _family(groups: Mapping[str, Mapping[str, dict[int, bool]]], scopes: Sequence[str]) -> list[dict]:
    found = []
    for one, other in combinations(groups, 2):
        for scope in scopes:
            a, b = groups[one][scope], groups[other][scope]
            if shared := sorted(a.keys() & b.keys()):
                found.append((one, other, scope, [a[s] for s in shared], [b[s] for s in shared]))
    tests = [paired(a, b) for *_, a, b in found]
    corrected = holm([test.p for test in tests])
    return [
        {
            "scope": scope,
            "one": one,
            "other": other,
            "shared": len(a),
            "only_one": test.only_one,
            "only_other": test.only_other,
            "difference": test.difference,
            "interval": list(bootstrap_interval(np.subtract(a, b, dtype=float))),
            "p": test.p,
            "p_holm": p,
        }
        for (one, other, scope, a, b), test, p in zip(found, tests, corrected, strict=True)
    ]


def _groups(episodes: Mapping[str, Sequence[dict]]) -> dict[str, dict[int, bool]]:
    """Scope -> seed -> success: of the episodes that were hit, and of all undisturbed ones."""
    scopes = {"all": {}} | {kind(e["report"]["disturbance"]): {} for e in episodes["disturbed"]}
    for e in episodes["disturbed"]:
        if e["report"]["effect"]:
            scopes["all"][e["seed"]] = scopes[kind(e["report"]["disturbance"])][e["seed"]] = e["success"]
    return scopes | {"undisturbed": {e["seed"]: e["success"] for e in episodes["undisturbed"]}}


def benchmarked(result: dict) -> dict:
    """What must be the same for two results to be results of the same thing, in JSON's types."""
    versions = {k: v for k, v in result["versions"].items() if k not in FREE}
    facts = {key: result[key] for key in ("run", "seeds", "config", "hashes")} | {"versions": versions}
    return json.loads(json.dumps(facts, default=str))


def _facts(blocks: Sequence[dict]) -> dict:
    """What policies must share to be compared."""
    first = benchmarked(blocks[0])
    seeds = [seed for played in blocks for seed in played["seeds"]]
    return {"seeds": seeds, "disturbances": first["hashes"]["disturbances"]} | first["run"] | first["versions"]


def _about(played: dict) -> dict:
    return {key: played[key] for key in ("hashes", "config", "compute")}


def _success(episodes: Sequence[dict]) -> SuccessRate:
    return SuccessRate(sum(e["success"] for e in episodes), len(episodes))


def _quartiles(steps: Iterable[int]) -> dict[str, float] | None:
    steps = list(steps)
    return dict(zip(("low", "median", "high"), np.percentile(steps, [25, 50, 75]), strict=True)) if steps else None


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None
