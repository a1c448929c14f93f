"""index.html of the evidence, and the README's table: hypotheses, verdicts, figures, and what would change them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ebt_policy.rollout import page, plots
from ebt_policy.rollout.result import markdown, write_atomic
from ebt_policy.rollout.stats import SuccessRate
from ebt_policy.rollout.verdicts import NOT_RUN, NOT_SUPPORTED, ORDER, SUPPORTED, UNDERPOWERED

RULE = (
    "d: difference of one to the other, with its 95 % interval; m: margin, the least difference that matters. "
    "Better: supported if the interval lies above 0, not supported if it lies below m. Not worse: supported if it "
    "lies above -m, not supported if it lies below 0. What is neither is underpowered. Intervals are bootstraps that "
    "draw initial states and training runs anew (2-D densities: Newcombe's). A hypothesis is all of its claims."
)
SUMMARY = ("hypothesis", "verdict", "figures, with 95 % intervals", "what would change it")


def write_page(folder: Path, evidence: dict) -> Path:
    """folder/index.html from what scripts/evidence.py found."""
    hypotheses = evidence["hypotheses"]
    body = [
        "<h1>Evidence</h1>",
        page.note(f"Margins, tasks and numbers of initial states: configs/evidence.yaml. {RULE}"),
        page.section("Verdicts", page.grid(SUMMARY, map(summary, hypotheses, hypotheses.values()))),
        *(_hypothesis(name, hypothesis) for name, hypothesis in hypotheses.items()),
        *(_task(name, rows) for name, rows in evidence["tasks"].items()),
        _dynamic(evidence["dynamic"]),
        *(_recovery(task, found) for task, found in evidence["recovery"].items()),
        *(_monitor(name, found) for name, found in evidence["monitors"].items()),
        _densities(evidence["densities"]),
        page.section("Versions of this page", page.table(evidence["versions"])),
    ]
    return write_atomic(folder / "index.html", page.page("Evidence", body))


def readme_table(hypotheses: Mapping[str, dict]) -> str:
    rows = [[cell.replace("\n", "<br>") for cell in row] for row in map(summary, hypotheses, hypotheses.values())]
    return markdown(SUMMARY, rows)


def summary(name: str, hypothesis: dict) -> list[str]:
    """One row: hypothesis, verdict with how many claims have each, figures task by task, what would change it."""
    claims = hypothesis["claims"]
    counts = [(word, sum(c["verdict"] == word for c in claims)) for word in reversed(ORDER)]
    shares = ", ".join(f"{count} {word}" for word, count in counts if count)
    return [
        f"{name}: {hypothesis['says']}",
        f"{hypothesis['verdict']}\n({shares})",
        "\n".join(_figures(claims)) or "-",
        "\n".join(filter(None, (_change(word, claims) for word in ORDER))),
    ]


def _figures(claims: Sequence[dict]) -> Iterator[str]:
    """A line for each task and method that is compared with others; it names the claims that are not supported."""
    run = [c for c in claims if c["verdict"] != NOT_RUN]
    for task, one in dict.fromkeys((c["task"], c["one"]) for c in run):
        found = [c for c in run if (c["task"], c["one"]) == (task, one)]
        yield f"{task}, {one} less " + "; ".join(f"{c['other']}: {_interval(c)}{_unless_supported(c)}" for c in found)


def _interval(claim: dict) -> str:
    if claim["estimate"] is None:
        return "-"
    estimate, low, high = (_number(claim, claim[key]) for key in ("estimate", "low", "high"))
    return f"{estimate} [{low}, {high}] {claim['unit']}"


def _unless_supported(claim: dict) -> str:
    return "" if claim["verdict"] == SUPPORTED else f", {claim['verdict']}"


def _number(claim: dict, value: float) -> str:
    return f"{100 * value:+.1f}" if claim["unit"] == "points" else f"{value:+.2f}"


def _change(word: str, claims: Sequence[dict]) -> str:
    """What would change the claims of one verdict; empty if there are none."""
    found = [c for c in claims if c["verdict"] == word]
    if not found:
        return ""
    if word == NOT_RUN:
        tasks = dict.fromkeys(c["task"] for c in found)
        missing = (f"{task}: {', '.join(c['other'] for c in found if c['task'] == task)}" for task in tasks)
        return "to be run: " + "; ".join(missing)
    if word == UNDERPOWERED:
        return "underpowered: " + "; ".join(f"{c['other']} on {c['task']} needs {_needed(c)}" for c in found)
    end, past = ("lower", "below") if word == SUPPORTED else ("upper", "above")
    closest = min(found, key=lambda c: abs(_end(c, word) - _limit(c, word)) / c["margin"])
    limit, now = (_number(closest, value(closest, word)) for value in (_limit, _end))
    where = f"{closest['other']} on {closest['task']}"
    return f"{word}: {end} end {past} {limit} {closest['unit']}; closest {now}, {where}"


def _end(claim: dict, word: str) -> float:
    """Of the interval: the one that decided."""
    return claim["low" if word == SUPPORTED else "high"]


def _limit(claim: dict, word: str) -> float:
    return claim["bound"] + (claim["margin"] if word == NOT_SUPPORTED else 0.0)


def _needed(claim: dict) -> str:
    if claim["needed"] is None:
        return "more training runs, no number of episodes will do"
    return f"n = {claim['needed']} (now {claim['n']})"


def _hypothesis(name: str, hypothesis: dict) -> str:
    head = ["task", "claim", "difference, 95 % interval", "n", "p", "p, Holm", "verdict", "n needed"]
    rows = [
        [
            c["task"],
            f"{c['one']} {c['claim']} than {c['other']}, "
            f"{c['measure']}, margin {_number(c, c['margin'])[1:]} {c['unit']}",
            _interval(c),
            c["n"],
            _p(c["p"]),
            _p(c["p_holm"]),
            c["verdict"],
            _needed(c) if c["verdict"] == UNDERPOWERED else None,
        ]
        for c in hypothesis["claims"]
    ]
    return page.section(f"{name}: {hypothesis['says']} - {hypothesis['verdict']}", page.grid(head, rows))


def _task(task: str, rows: Sequence[dict]) -> str:
    """Violins, and the table with its letters."""
    if not rows:
        return page.section(task, page.note("not run"))
    runs = {_label(row["method"], run, len(row["runs"])): run for row in rows for run in row["runs"]}
    rates = {label: SuccessRate(run["successes"], run["episodes"]) for label, run in runs.items()}
    figure = page.image(plots.svg_uri(plots.success_violins(rates)), f"posteriors of the success rates on {task}")
    head = ["method", "success", "same letter: no difference seen", "chunk, ms", "chunk, MFLOP"]
    further = [key for key in ("entropy_bits", "coverage") if any(key in row for row in rows)]
    lines = [
        [row["method"], row["text"], row["letters"], _ms(row["latency"]), _mflop(row["flops"])]
        + [None if key not in row else f"{row[key]:.2f}" for key in further]
        for row in rows
    ]
    made = [
        [r["checkpoint"], r["training_seed"], "{} to {}".format(*r["seeds"]), f"{r['successes']} of {r['episodes']}"]
        for r in runs.values()
    ]
    return page.section(
        task,
        figure,
        page.grid(head + [key.replace("_", ", ") for key in further], lines),
        page.fold("What made this", page.grid(["checkpoint", "training seed", "initial states", "success"], made)),
    )


def _label(method: str, run: dict, runs: int) -> str:
    return f"{method}, seed {run['training_seed']}" if runs > 1 else method


def _dynamic(dynamic: dict) -> str:
    points = dynamic["points"]
    title = f"Dynamic compute: success against cost, {dynamic['task']}, {dynamic['episodes']} initial states"
    if not points:
        return page.section(title, page.note("not run"))
    seen = [dict(point, milliseconds=1e3 * point["latency"]) for point in points]
    seen = [dict(point, mflop=point["flops"] and point["flops"] / 1e6) for point in seen]
    figures = [
        page.image(plots.svg_uri(plots.pareto(seen, cost, label)), f"success against {label}")
        for cost, label in (("milliseconds", "median ms a chunk"), ("mflop", "MFLOP a chunk"))
    ]
    head = ["method", "sampled with", "success", "steps a chunk", "ms", "MFLOP", "parameters"]
    return page.section(
        title,
        page.side_by_side(*figures),
        page.note("A line joins the Pareto front: nothing cheaper succeeds as often."),
        page.grid(["equal in", *head], [[row["equal"], *_cost(row)] for row in dynamic["iso"]]),
        page.fold("All", page.grid(head, map(_cost, points))),
    )


def _cost(point: dict) -> list:
    rate = str(SuccessRate(point["successes"], point["episodes"]))
    sampling = ", ".join(f"{key} {value}" for key, value in point["sampling"].items())
    numbers = [f"{point['steps']:.3g}", _ms(point["latency"]), _mflop(point["flops"]), point["parameters"]]
    return [point["family"], sampling, rate, *numbers]


def _recovery(task: str, found: dict) -> str:
    """Rates of every policy by kind and strength, and the tests of every two."""
    policies, title = found["policies"], f"Recovery: {task}"
    if not policies:
        return page.section(title, page.note("not run"), page.note(found["command"]))
    rows = {name: {"all": about["all"]} | about["kinds"] | about["cells"] for name, about in policies.items()}
    scopes = dict.fromkeys(scope for cells in rows.values() for scope in cells)
    rates = [
        [scope, *(rows[name][scope]["text"] if scope in rows[name] else None for name in rows)] for scope in scopes
    ]
    tests = [
        [t["scope"], f"{t['one']} less {t['other']}", _points(t), t["shared"], _p(t["p"]), _p(t["p_holm"])]
        for t in found["tests"]
    ]
    return page.section(
        title,
        page.note("Of the cases in which the disturbance took effect, the share that succeeded."),
        page.grid(["disturbance", *rows], rates),
        page.fold("Tests", page.grid(["disturbance", "difference", "points", "cases", "p", "p, Holm"], tests)),
        page.note(found["command"]),
    )


def _points(test: dict) -> str:
    low, high = (100 * end for end in test["interval"])
    return f"{100 * test['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"


def _monitor(checkpoint: str, found: dict) -> str:
    head = ["signal", "AUROC, equal time", "by phase", "AUPRC", "false alarms", "caught", "lead, steps"]
    rows = [
        [
            name,
            _ends(row["equal_time"]["auroc"]),
            _ends(row["equal_time_phase"]["auroc"]),
            _ends(row["equal_time"]["auprc"]),
            f"{row['alarm']['false_alarms']['rate']:.2f}, promised {row['alarm']['promised']:.2f}",
            f"{row['alarm']['caught']['rate']:.2f}",
            row["alarm"]["lead_steps"],
        ]
        for name, row in (found["signals"] or {}).items()
    ]
    table = page.grid(head, rows) or page.note("not run")
    return page.section(f"Signals of failure: {checkpoint}", table, page.note(found["command"]))


def _densities(rows: Sequence[dict]) -> str:
    keys = ["objective", "density", "on_data", "covered", "modes", "of_modes", "distance"]
    lines = [[f"{row[k]:.3g}" if isinstance(row[k], float) else row[k] for k in keys] for row in rows]
    return page.section("2-D densities: one training run each", page.grid([k.replace("_", " ") for k in keys], lines))


def _ends(found: Sequence[float]) -> str:
    value, low, high = found
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _p(value: float | None) -> str | None:
    return None if value is None else f"{value:.2g}"


def _ms(seconds: float | None) -> str | None:
    return None if seconds is None else f"{1e3 * seconds:.3g}"


def _mflop(flops: float | None) -> str | None:
    return None if flops is None else f"{flops / 1e6:.0f}"
