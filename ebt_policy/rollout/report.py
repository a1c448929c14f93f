"""report.html of a run: what it achieved, how it learned, what its energies did, what made it. One file, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from ebt_policy.rollout import page, plots
from ebt_policy.rollout.result import write_atomic

TALLEST = 64  # pixels of the longest episode in the strip


def write_report(run_dir: str | Path, title: str | None = None, video_note: str = "") -> Path:
    """run_dir/report.html from the files of the run that are there.

    eval.json is needed; train.jsonl, config.yaml, rollout.mp4 and contact.png are not.
    video_note: why there is no video, if there is none.
    """
    run_dir = Path(run_dir)
    result = _read_result(run_dir / "eval.json")
    title = title or f"{run_dir.resolve().name}: {result['run']['env_id'].split(':')[-1]}"
    body = [
        *_heading(title, result),
        _hero(result, run_dir / "rollout.mp4", video_note),
        _episodes(result["episodes"], result["seeds"]),
        _sheet(run_dir / "contact.png"),
        _energies(result["episodes"]),
        _training(_read_log(run_dir / "train.jsonl")),
        _cost(result),
        _control(result.get("control")),
        _provenance(result, _read_config(run_dir / "config.yaml")),
    ]
    return write_atomic(run_dir / "report.html", page.page(title, body))


def _heading(title: str, result: dict) -> list[str]:
    n, steps = len(result["episodes"]), result["compute"]["steps_per_chunk"]
    text = f"{n} episodes of {result['run']['env_id']}, {_figure(steps)} {_method(result)} steps a chunk"
    return [f"<h1>{page.escape(title)}</h1>", page.note(text)]


def _hero(result: dict, video: Path, video_note: str) -> str:
    summary, compute = result["summary"], result["compute"]
    low, high = (100 * x for x in summary["interval"])
    rate = None if summary["success_rate"] is None else 100 * summary["success_rate"]
    mark = "" if rate is None else f'<b style="left:{rate:.1f}%"></b>'
    facts = {
        f"{summary['successes']} of {summary['episodes']}": "episodes succeeded",
        str(summary["success_at_end"]): "still solved at the end",
        _milliseconds(result["timing"]["latency_median"]): "to plan a chunk (median)",
    }
    if summary.get("unknown"):
        facts[f"{summary['unknown']} more"] = "of unknown success, left out"
    if summary["median_steps_to_success"] is not None:
        facts[_figure(summary["median_steps_to_success"])] = "steps to success (median)"
    if compute["flops_per_chunk"]:
        facts[_flops(compute["flops_per_chunk"])] = "a chunk"
    cells = "".join(f'<div><b>{page.escape(k)}</b><span class="faint">{v}</span></div>' for k, v in facts.items())
    score = f"""<div class="big">{"unknown" if rate is None else f"{rate:.0f} %"}</div>
<p>success rate, {100 * summary["confidence"]:.0f} % interval {low:.0f} to {high:.0f} %</p>
<div class="scale"><i style="left:{low:.1f}%;right:{100 - high:.1f}%"></i>{mark}</div>
<div class="ends faint"><span>0 %</span><span>100 %</span></div>
<div class="facts">{cells}</div>"""
    if not video.exists():
        return f"<section>{score}\n{page.note('No video: ' + (video_note or 'none was recorded'))}</section>"
    picture = page.video(page.file_uri(video)) + page.note("A rollout, control step by control step; click to halt.")
    return f"<section>{page.side_by_side(score, picture, extra='hero')}</section>"


def _episodes(episodes: Sequence[dict], seeds: Sequence[int]) -> str:
    longest = max(e["length"] for e in episodes)
    bars = "".join(
        f'<i class="{_outcome(e)[0]}" style="height:{max(TALLEST * e["length"] / longest, 4):.0f}px" '
        f'title="seed {e["seed"]}: {_outcome(e)[1]}, {e["length"]} steps"></i>'
        for e in episodes
    )
    outcomes = sorted({_outcome(e) for e in episodes}, reverse=True)
    key = "".join(f'<span class="key {css}"></span>{words}' for css, words in outcomes)
    failed = [str(e["seed"]) for e in episodes if e["success"] is False]
    return page.section(
        "Every episode",
        f'<div class="strip">{bars}</div>',
        f'<p class="faint" style="margin-top:8px">Seeds {seeds[0]} to {seeds[-1]}, height: steps to the success or to '
        f"the end (longest: {longest}). {key}</p>",
        page.note("Failed seeds: " + ", ".join(failed)) if failed else "",
    )


def _sheet(path: Path) -> str:
    if not path.exists():
        return ""
    text = "Failures first, if there are any; the number in a picture is its control step."
    return page.section("Episodes", page.image(page.file_uri(path), "pictures of several episodes"), page.note(text))


def _energies(episodes: Sequence[dict]) -> str:
    figures = [
        _plot(plots.energy_by_step(episodes), "energy against descent step"),
        _plot(plots.energy_by_chunk(episodes), "energy against chunk of the episode"),
    ]
    return page.section("Energy", page.side_by_side(*figures))


def _training(rows: Sequence[dict]) -> str:
    last = rows[-1] if rows else {}
    parts = [f"{last['update']} updates" if "update" in last else "", _minutes(last.get("seconds"))]
    text = " in ".join(part for part in parts if part)
    return page.section("Training", page.note(text), _plot(plots.training_curves(rows), "training curves"))


def _cost(result: dict) -> str:
    timing, compute = result["timing"], result["compute"]
    rows = {
        "latency of a chunk, median": _milliseconds(timing["latency_median"]),
        "latency of a chunk, 95th percentile": _milliseconds(timing["latency_p95"]),
        f"{_method(result)} steps a chunk": _figure(compute["steps_per_chunk"]),
        "network evaluations a chunk": _figure(compute["network_evaluations_per_chunk"]),
        "of them with a gradient": _figure(compute["gradients_per_chunk"]),
        "matrix operations a chunk": _flops(compute["flops_per_chunk"])
        if compute["flops_per_chunk"]
        else "not counted",
        "evaluation": f"{timing['wall_seconds']:.3g} s, processes: {timing['processes']}",
        "of it planning, all processes": f"{timing['planning_seconds']:.3g} s",
    }
    histogram = _plot(plots.latency_histogram(timing["latency"]), "histogram of the latency")
    return page.section("Cost of acting", page.side_by_side(page.table(rows), histogram))


def _control(said: Mapping[str, Any] | None) -> str:
    """The ticks of a deployment's control loop; nothing for an evaluation, which waits for its plans."""
    if said is None:
        return ""
    rows = {
        "ticks": said["ticks"],
        "left out, because one before took too long": said["missed"],
        "without an action that was due": said["held"],
        "with a command other than asked for": said["changed"],
        "late by, median": _milliseconds(said["late_median"]),
        "late by, 95th percentile": _milliseconds(said["late_p95"]),
        "late by, at most": _milliseconds(said["late_max"]),
    }
    causes = page.table(said["causes"])
    return page.section("Control", page.side_by_side(page.table(rows), "<h2>Why</h2>" + causes if causes else ""))


def _provenance(result: dict, trained: Mapping[str, Any]) -> str:
    run = {k: "the environment's own" if v is None else v for k, v in result["run"].items()}
    left = "<h2>Evaluation</h2>" + page.table(run | {"seeds": _seeds(result["seeds"])} | result["hashes"])
    right = "<h2>Versions</h2>" + page.table(result["versions"])
    settings = page.fold("All settings of the run", page.table(dict(_flat(trained)) | dict(_flat(result["config"]))))
    return page.section("What made this", page.side_by_side(left, right), settings)


def _plot(figure: Figure | None, alt: str) -> str:
    return "" if figure is None else page.image(plots.svg_uri(figure), alt)


def _outcome(episode: dict) -> tuple[str, str]:
    """CSS class and words."""
    if episode["success"] is None:
        return "unknown", "unknown"
    if not episode["success"]:
        return "bad", "failure"
    return ("held", "success") if episode["success_end"] else ("lost", "success, then lost")


def _method(result: dict) -> str:
    return "descent" if result["compute"]["gradients_per_chunk"] else "sampling"


def _read_result(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"expected an evaluation at {path}, found none: evaluate the run first") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON in {path}, got {error}: evaluate the run again") from error


def _read_log(path: Path) -> list[dict]:
    """The lines that are whole: a run that was killed may have left half of one."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _read_config(path: Path) -> dict:
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def _flat(config: Mapping[str, Any], prefix: str = ""):
    """Nested settings as dotted names, as one would override them."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _seeds(seeds: Sequence[int]) -> str:
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _milliseconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{1000 * seconds:.3g} ms"


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.1f} minutes"


def _flops(count: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if count < 1000:
            return f"{count:.3g} {unit}FLOP"
        count /= 1000
    return f"{count:.3g} PFLOP"


def _figure(x: float) -> str:
    return f"{x:.4g}"
