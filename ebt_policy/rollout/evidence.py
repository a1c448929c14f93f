"""From evaluations to what they say of each hypothesis: tables by task, claims with intervals, verdicts.

    cells       task -> method -> its training runs, each evaluated on the task's initial states
    recovered   name -> a recovery benchmark of several methods, as scripts/recover.py writes it
    monitors    checkpoint -> monitored episodes
    densities   (objective, density) -> a row of scripts/densities.py

A measure compares one and other on a task: what it finds is a Difference, or None if there is nothing to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations

import numpy as np
from scipy.stats import entropy
from statsmodels.stats.proportion import confint_proportions_2indep

from ebt_policy.rollout.alarm import per_chunk, scores
from ebt_policy.rollout.compare import (
    Difference,
    difference,
    facts,
    holm,
    letters,
    refuse_unlike,
    success_difference,
)
from ebt_policy.rollout.sample_size import to_decide
from ebt_policy.rollout.stats import Spread, SuccessRate
from ebt_policy.rollout.verdicts import UNDERPOWERED, bound, combined, verdict

LEVEL = 0.05


@dataclass(frozen=True)
class Run:
    """One training run, evaluated."""

    checkpoint: str
    result: dict

    def first(self, count: int) -> Run:
        """Evaluated on the first `count` of its initial states alone."""
        cut = {key: self.result[key][:count] for key in ("episodes", "seeds")}
        return replace(self, result=self.result | cut)

    @property
    def outcomes(self) -> np.ndarray:
        """(n,) whether the episode from each initial state succeeded."""
        return np.array([e["success"] for e in self.result["episodes"]], dtype=float)

    @property
    def coverages(self) -> np.ndarray | None:
        """(n,) the largest coverage in each episode of PushT; None of other tasks."""
        reports = [e.get("report", {}) for e in self.result["episodes"]]
        return np.array([r["max_coverage"] for r in reports]) if all("max_coverage" in r for r in reports) else None

    @property
    def training_seed(self) -> int | None:
        return self.result["config"].get("fit", {}).get("seed")

    @property
    def rate(self) -> SuccessRate:
        return SuccessRate(int(self.outcomes.sum()), len(self.outcomes))


@dataclass(frozen=True)
class Found:
    """All figures that there are."""

    cells: Mapping[str, Mapping[str, Sequence[Run]]] = field(default_factory=dict)
    recovered: Mapping[str, dict | None] = field(default_factory=dict)
    monitors: Mapping[str, dict | None] = field(default_factory=dict)
    densities: Mapping[tuple[str, str], dict] = field(default_factory=dict)


def check_alike(runs: Sequence[Run]) -> None:
    """ValueError unless all were evaluated with the same versions and from the same initial states, or the first."""
    for run in runs[1:]:
        what = f"{runs[0].checkpoint} and {run.checkpoint} evaluated alike"
        one, other = shared([runs[0]], [run])
        refuse_unlike(facts(one[0].result), facts(other[0].result), what)


def shared(*sides: Sequence[Run]) -> list[list[Run]]:
    """Runs on as many initial states as all of them have."""
    count = min(len(run.result["seeds"]) for side in sides for run in side)
    return [[run.first(count) for run in side] for side in sides]


def check_seeds(runs: Sequence[Run]) -> None:
    """ValueError unless the training runs of a method have seeds of their own."""
    seeds = [run.training_seed for run in runs]
    if len(set(seeds)) < len(seeds):
        names = ", ".join(run.checkpoint for run in runs)
        raise ValueError(
            f"expected a training seed of its own for each of {names}, got {seeds}: train with fit.seed=..."
        )


def judge(hypothesis: dict, found: Found) -> dict:
    """A hypothesis of configs/evidence.yaml with its claims, each with figures and verdict, and its own verdict."""
    claims = [
        _claim(claim, other, task, found)
        for claim in hypothesis["claims"]
        for task in claim["tasks"]
        for other in claim["others"]
    ]
    tested = [claim for claim in claims if claim["p"] is not None]
    for claim, p in zip(tested, holm([claim["p"] for claim in tested]), strict=True):
        claim["p_holm"] = p
    return {"says": hypothesis["says"], "verdict": combined([c["verdict"] for c in claims]), "claims": claims}


def _claim(claim: dict, other: str, task: str, found: Found) -> dict:
    measure, margin = MEASURES[claim["measure"]], claim["margin"]
    result = measure.compare(found, claim | {"other": other, "task": task})
    said = {key: claim[key] for key in ("measure", "one", "claim", "margin")} | {"other": other, "task": task}
    said |= {"unit": measure.unit, "bound": bound(claim["claim"], margin)}
    nothing = dict.fromkeys(("estimate", "low", "high", "of_episodes", "p", "n"))
    figures = asdict(result) if result else nothing
    decided = verdict(claim["claim"], margin, result and (result.low, result.high))
    needed = None
    if decided == UNDERPOWERED:
        needed = to_decide(result.n, result.high - result.low, result.of_episodes, margin)
    return said | figures | {"verdict": decided, "needed": needed, "p_holm": None}


def success(found: Found, claim: dict) -> Difference | None:
    """Of success rates on shared initial states."""
    one, other = _sides(found, claim)
    if not (one and other):
        return None
    return _of_rates(one, other)


def coverage(found: Found, claim: dict) -> Difference | None:
    """Of the largest part of PushT's goal that was covered, averaged over shared initial states."""
    one, other = _sides(found, claim)
    if not (one and other):
        return None
    covered = [[run.coverages for run in side] for side in (one, other)]
    return difference(*covered, same_runs=_same_runs(one, other))


def modes(found: Found, claim: dict) -> Difference | None:
    """Of the entropy, in bits, of the ways that successful episodes took."""
    one, other = _sides(found, claim)
    if not (one and other):
        return None
    taken = [_ways([run.result["episodes"] for run in side]) for side in (one, other)]
    if not all(run.any() for side in taken for run in side):
        return None  # who never succeeds has taken no way
    return difference(*taken, statistic=_entropy, same_runs=_same_runs(one, other))


def recovery(found: Found, claim: dict) -> Difference | None:
    """Of the shares that recovered, of the cases whose disturbance took effect for both."""
    result = found.recovered.get(claim["task"]) or {"policies": ()}
    if not {claim["one"], claim["other"]} <= set(result["policies"]):
        return None
    one, other = (_hit(result["episodes"], claim[side]) for side in ("one", "other"))
    shared = sorted(one.keys() & other.keys())
    return success_difference([[one[s] for s in shared]], [[other[s] for s in shared]]) if shared else None


def foretold(found: Found, claim: dict) -> Difference | None:
    """Of two signals' AUROC for failure, over equally many chunks of the same episodes."""
    monitor = found.monitors.get(claim["run"].format(task=claim["task"]))
    if monitor is None:
        return None
    episodes = monitor["episodes"]
    failed = np.array([not e["success"] for e in episodes])
    if not 2 <= failed.sum() <= len(failed) - 2:
        return None
    signals = per_chunk(episodes)
    shortest = np.isfinite(signals["elapsed"]).sum(1).min()
    sides = [scores(signals[claim[side]][:, :shortest])[:, -1] for side in ("one", "other")]
    return difference(*[[np.stack([side, failed], axis=1)] for side in sides], statistic=_weighted_auroc, draws=4000)


def density(found: Found, claim: dict) -> Difference | None:
    """Of the shares of the data that samples cover, on a density whose truth is known (Newcombe's interval)."""
    rows = [found.densities.get((claim[side], claim["task"])) for side in ("one", "other")]
    if None in rows:
        return None
    n = rows[0]["samples"]
    counts = [round(row["covered"] * n) for row in rows]
    low, high = confint_proportions_2indep(counts[0], n, counts[1], n, method="newcomb", compare="diff")
    return Difference((counts[0] - counts[1]) / n, float(low), float(high), float(high - low), None, n)


@dataclass(frozen=True)
class Measure:
    compare: Callable[[Found, dict], Difference | None]
    unit: str


MEASURES = {
    "success": Measure(success, "points"),
    "coverage": Measure(coverage, "points"),
    "modes": Measure(modes, "bits"),
    "recovery": Measure(recovery, "points"),
    "auroc": Measure(foretold, "AUROC"),
    "density": Measure(density, "points"),
}


def task_table(methods: Mapping[str, Sequence[Run]]) -> list[dict]:
    """Best method first: its rates, their spread, letters that methods share unless they differ, and what it costs."""
    have = sorted((m for m in methods if methods[m]), key=lambda m: -np.mean([r.outcomes for r in methods[m]]))
    pairs = list(combinations(have, 2))
    sides = [shared(*[methods[m] for m in pair]) for pair in pairs]
    p = [_of_rates(*both).p for both in sides]
    different = [pair for pair, value in zip(pairs, holm(p), strict=True) if value < LEVEL]
    shown = letters(have, different)
    return [{"method": m, "letters": shown[m], **_row(methods[m])} for m in have]


def _row(runs: Sequence[Run]) -> dict:
    rates = [run.rate for run in runs]
    spread = Spread.of(rates)
    text = str(spread) if len(runs) > 1 else str(rates[0])
    latencies = [run.result["timing"]["latency_median"] for run in runs]  # None of a policy that does not plan chunks
    flops = runs[0].result["compute"]["flops_per_chunk"]
    covered = [run.coverages for run in runs]
    known = all(run is not None for run in covered)
    extra = {"entropy_bits": _entropy_of(runs), "coverage": float(np.mean(covered)) if known else None}
    return {"spread": asdict(spread), "text": text, "runs": [provenance(run) for run in runs]} | {
        "latency": None if None in latencies else float(np.median(latencies)),
        "flops": flops,
        **{k: v for k, v in extra.items() if v is not None},
    }


def provenance(run: Run) -> dict:
    """What a figure was made of."""
    result, rate = run.result, run.rate
    return {
        "checkpoint": run.checkpoint,
        "training_seed": run.training_seed,
        "successes": rate.successes,
        "episodes": rate.episodes,
        "interval": list(rate.interval),
        "seeds": [result["seeds"][0], result["seeds"][-1]],
        "act": result["config"].get("act"),
        "hashes": result["hashes"],
        "versions": result["versions"],
    }


def pareto_point(family: str, sampling: dict, run: Run, parameters: int) -> dict:
    """One way to sample: success against what a chunk costs."""
    compute = run.result["compute"]
    return provenance(run) | {
        "family": family,
        "sampling": sampling,
        "rate": run.rate.rate,
        "latency": run.result["timing"]["latency_median"],
        "flops": compute["flops_per_chunk"],
        "steps": compute["steps_per_chunk"],
        "parameters": parameters,
    }


def with_steps_taken(points: Sequence[dict]) -> list[dict]:
    """Where descent may stop early, FLOPs are those of the mean number of steps, from a family's fixed numbers."""
    points = [dict(point) for point in points]
    for point in points:
        if point["sampling"].keys() & {"tol", "deadline"}:
            fixed = [p for p in points if p["family"] == point["family"] and p["sampling"].keys() == {"steps"}]
            known = sorted((p["steps"], p["flops"]) for p in fixed)
            point["flops"] = float(np.interp(point["steps"], *zip(*known, strict=True))) if len(known) > 1 else None
    return points


def iso(points: Sequence[dict], family: str, sampling: dict) -> list[dict]:
    """Each other family beside a reference: at its best, nearest in FLOPs and nearest in latency."""
    references = [p for p in points if (p["family"], p["sampling"]) == (family, sampling)]
    if not references:
        return []
    (reference,) = references
    rows = [{"equal": "reference"} | reference]
    for name in dict.fromkeys(p["family"] for p in points if p["family"] != family):
        others = [p for p in points if p["family"] == name]
        rows.append({"equal": "parameters"} | max(others, key=lambda p: (p["rate"], -p["latency"])))
        for cost in ("flops", "latency"):
            known = [p for p in others if p[cost]]
            if known:
                rows.append({"equal": cost} | min(known, key=lambda p: abs(np.log(p[cost] / reference[cost]))))
    return rows


def _sides(found: Found, claim: dict) -> list[Sequence[Run] | None]:
    sides = [found.cells.get(claim["task"], {}).get(claim[side]) for side in ("one", "other")]
    return shared(*sides) if all(sides) else sides


def _of_rates(one: Sequence[Run], other: Sequence[Run]) -> Difference:
    outcomes = [[run.outcomes for run in side] for side in (one, other)]
    return success_difference(*outcomes, same_runs=_same_runs(one, other))


def _same_runs(one: Sequence[Run], other: Sequence[Run]) -> bool:
    """Whether the two are ways to act of the same training runs."""
    return [run.checkpoint for run in one] == [run.checkpoint for run in other]


def _hit(episodes: Sequence[dict], policy: str) -> dict[int, bool]:
    """Seed -> success, of the disturbed episodes whose disturbance took effect."""
    return {e["seed"]: e["success"] for e in episodes if e["policy"] == policy and e["report"]["effect"]}


def _ways(runs: Sequence[Sequence[dict]]) -> list[np.ndarray]:
    """Of several runs' episodes: (n, ways) one-hot, nothing for those that failed."""
    taken = [[e["report"]["way"] if e["success"] else None for e in run] for run in runs]
    names = sorted({way for run in taken for way in run if way is not None})
    return [np.array([[way == name for name in names] for way in run], dtype=float) for run in taken]


def _entropy(weights: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Bits; nan where no episode succeeded."""
    taken = weights @ ways  # (D, ways)
    bits = np.full(len(weights), np.nan)
    some = taken.any(axis=1)
    bits[some] = entropy(taken[some], base=2, axis=1)
    return bits


def _weighted_auroc(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """values (n, 2): score, failed."""
    score, failed = values[:, 0], values[:, 1].astype(bool)
    a, b = score[failed][:, None], score[~failed]
    beats = (a > b) + 0.5 * (a == b)  # (F, S)
    lost, won = weights[:, failed], weights[:, ~failed]
    total = lost.sum(1) * won.sum(1)
    return np.divide(((lost @ beats) * won).sum(1), total, out=np.full(len(weights), np.nan), where=total > 0)


def _entropy_of(runs: Sequence[Run]) -> float | None:
    """None where there are no ways, or a run succeeded on none."""
    if not all("way" in e.get("report", {}) for run in runs for e in run.result["episodes"]):
        return None
    ways = _ways([run.result["episodes"] for run in runs])
    bits = float(np.mean([_entropy(np.ones((1, len(run))), run)[0] for run in ways]))
    return None if np.isnan(bits) else bits
