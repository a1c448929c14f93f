"""Evaluate the committed checkpoints and rewrite the README's tables, headline and speeds from the JSON files.

python scripts/results.py tasks=[lift] episodes=100
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import hydra
import numpy as np
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from scipy.stats import t as student_t

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.result import markdown, rewrite
from ebt_policy.train.cells import Cell, result_of

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "assets" / "checkpoints"
RIVAL = "text_transformer"


@hydra.main(config_path="../configs", config_name="results", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    readme = ROOT / "README.md"
    for name, models in cfg.tables.items():
        rows = []
        for task in cfg.tasks:
            results = {
                column: _result(cfg, models[cell.model].format(task=task), cell) for column, cell in cfg.cells.items()
            }
            rows.append([task, *map(_cell, results.values())])
            told = all(results.get(column) for column in cfg.headline.cells)
            if told and (name, task) == (cfg.headline.table, cfg.headline.task):
                rewrite(readme, "headline", _headline(cfg, task, results))
        rewrite(readme, name, markdown(["task", *cfg.cells], rows))
    latency = json.loads((ROOT / cfg.folder / "bench_deploy.json").read_text())
    rewrite(ROOT / "ebt_policy" / "deploy" / "README.md", "deploy", _deployed(latency))
    rewrite(readme, "speed", _speed([ROOT / cfg.folder / f"{bench}.json" for bench in cfg.benches]))
    for name, table in (("language", _language), ("ablation", _ablation), ("thinking", _thinking)):
        rewrite(readme, name, table(json.loads((ROOT / cfg.folder / f"{name}.json").read_text())["rows"]))
    for name, table in (("denoise", _denoised), ("probe", _probed)):
        paths = {run: ROOT / cfg.folder / f"{name}_{run}.json" for run in cfg.images}
        rewrite(
            readme, name, table({run: json.loads(path.read_text()) for run, path in paths.items() if path.exists()})
        )


def _result(cfg: DictConfig, checkpoint: str, cell: DictConfig) -> dict | None:
    """The evaluation of one cell, from its JSON if that is of these weights and episodes; None if there is none."""
    wanted = Cell(CHECKPOINTS / checkpoint, OmegaConf.to_container(cell.method), cfg.first_seed, cfg.episodes)
    return result_of(wanted, ROOT / cfg.folder, _configured, cfg.evaluate, cfg.processes)


def _configured(overrides: list[str]) -> DictConfig:
    print("eval.py", *overrides, flush=True)
    return compose("eval", overrides)


def _headline(cfg: DictConfig, task: str, results: dict[str, dict | None]) -> str:
    shown = [f"{name} {_rate(results[name])} at {_latency(results[name])}" for name in cfg.headline.cells]
    return (
        f"{task.capitalize()}, {cfg.episodes} initial states that no demonstration starts from, each method trained "
        "for the same wall-clock; success in per cent with its 95 % interval, median latency of an action chunk: "
        f"**{shown[0]}**; {'; '.join(shown[1:])}."
    )


def _speed(benches: list[Path]) -> str:
    """What the benches measured: how many times as long one thing takes as another."""
    rows = []
    for path in benches:
        for name, ratio in json.loads(path.read_text())["ratios"].items():
            low, median, high = (f"{ratio['wall'][key]:.3g}" for key in ("low", "median", "high"))
            rows.append([name, f"{median} [{low}, {high}]", ratio["target"], f"`scripts/{path.stem}.py`"])
    return markdown(["one / the other", "median [quartiles]", "goal", "command"], rows)


def _language(rows: list[dict]) -> str:
    """Perplexities of held-out text by training seed, and over those of a plain model: a row for each number of steps.

    The last column is that of the best of most candidates.
    """
    found: dict[tuple[str, int], dict[int, dict[str, float]]] = {}  # by method and steps; then by candidates and seed
    for row in rows:
        method, _, seed = Path(row["run"]).name.rpartition("_")
        by_candidates = found.setdefault((method, row["steps"]), {})
        by_candidates.setdefault(row["candidates"], {})[seed] = row["perplexity"]["value"]
    rival, most = found[RIVAL, 1][1], max(row["candidates"] for row in rows)
    lines = []
    for (method, steps), by_candidates in found.items():
        by_seed = ", ".join(f"{value:.1f}" for value in by_candidates[1].values())
        ways = [by_candidates.get(candidates) for candidates in (1, most)]
        lines.append([method, steps, by_seed, *(_times(way, rival) for way in ways)])
    head = ["model", "steps", "perplexity, by seed", "times Transformer++", f"best of {most} by energy, times"]
    return markdown(head, lines)


def _times(values: dict[str, float] | None, rival: dict[str, float]) -> str:
    return "-" if values is None else _ratio([value / rival[seed] for seed, value in values.items()])


def _ablation(rows: list[dict]) -> str:
    """Perplexities of held-out text by number of steps, and of the best of most candidates in the last column."""
    runs, steps = (list(dict.fromkeys(row[key] for row in rows)) for key in ("run", "steps"))
    most, found = max(row["candidates"] for row in rows), {}
    for row in rows:
        found[row["run"], row["steps"], row["candidates"]] = f"{row['perplexity']['value']:.1f}"
    ways = [(count, 1) for count in sorted(steps)] + [(max(steps), most)]
    lines = [[Path(run).name, *(found.get((run, *way), "-") for way in ways)] for run in runs]
    head = [f"{count} steps" if candidates == 1 else f"best of {candidates}" for count, candidates in ways]
    return markdown(["model", *head], lines)


def _thinking(rows: list[dict]) -> str:
    """Perplexities of texts ever further from home, a row for each: the least and the longest thinking of each run."""
    alone = [row for row in rows if row["candidates"] == 1]
    runs, corpora = (list(dict.fromkeys(row[key] for row in alone)) for key in ("run", "corpus"))
    lines = []
    for corpus in corpora:
        here = [row for row in alone if row["corpus"] == corpus]
        cells = []
        for run in runs:
            walks = sorted((row["steps"], row["perplexity"]["value"]) for row in here if row["run"] == run)
            ends = dict([walks[0], walks[-1]])  # one for models that do not walk
            cells.append(", ".join(f"{value:.4g} in {steps}" for steps, value in ends.items()))
        lines.append([corpus, f"{here[0]['degree']['value']:.3g}", *cells])
    return markdown(["text", "degree", *(Path(run).name for run in runs)], lines)


def _denoised(results: dict[str, dict]) -> str:
    """Mean PSNR of held-out images in dB, a row for each run and number of steps, a column for each noise level."""
    levels = {row["sigma"]: row["inside"] for result in results.values() for row in result["rows"]}
    lines = []
    for run, result in results.items():
        alone = [row for row in result["rows"] if row["candidates"] == 1]
        for steps in sorted({row["steps"] for row in alone} - {0}):
            by_sigma = {row["sigma"]: f"{row['psnr']['mean']:.2f}" for row in alone if row["steps"] == steps}
            lines.append([run, steps, *(by_sigma.get(sigma, "-") for sigma in levels)])
    head = [f"{sigma:g}{'' if inside else ' (outside)'}" for sigma, inside in levels.items()]
    return markdown(["run", "steps", *head], lines)


def _probed(results: dict[str, dict]) -> str:
    """Digits read linearly from pixels and from the features of each block: a row for each, a column for each run."""
    found = {run: {row["features"]: row for row in result["rows"]} for run, result in results.items()}
    names = dict.fromkeys(name for rows in found.values() for name in rows)
    lines = [[name, *(_right(rows.get(name)) for rows in found.values())] for name in names]
    return markdown(["right, %", *found], lines)


def _right(row: dict | None) -> str:
    return "-" if row is None else _per_cent(row["accuracy"], row["interval"])


def _ratio(ratios: list[float]) -> str:
    """Geometric mean over seeds, with its 95 % t interval."""
    logs, n = np.log(ratios), len(ratios)
    if n < 2:
        return f"{ratios[0]:.3f}"
    half = student_t.ppf(0.975, n - 1) * logs.std(ddof=1) / np.sqrt(n)
    return "{:.3f} [{:.3f}, {:.3f}]".format(*np.exp(logs.mean() + half * np.array([0, -1, 1])))


def _deployed(bench: dict) -> str:
    """What latency costs, a row for each latency and a column for each way of meeting it."""
    plain, latencies, ways = bench["plain"], {}, {}
    for name in bench["deployed"]:
        latency, way = name.split(", ")
        latencies[latency], ways[way] = None, None
    rows = [[latency, *(_deployment(bench["deployed"][f"{latency}, {way}"]) for way in ways)] for latency in latencies]
    times = (f"{name} {1e3 * spread['median']:.3g} ms" for name, spread in bench["seconds"].items())
    medians = f"The plain evaluation, without any of this: {_deployment(plain)}. Medians: {', '.join(times)}."
    return f"{markdown(['latency', *ways], rows)}\n\n{medians}"


def _deployment(cell: dict) -> str:
    text = f"{cell['successes']} of {cell['episodes']} in {cell['ticks']:.0f} ticks"
    if "joints" in cell:
        text += f"<br>at joints {cell['joints']['p95']:.1f}, at most {cell['joints']['max']:.1f} m/s²"
    return text


def _cell(result: dict | None) -> str:
    if result is None:
        return "-"
    return f"{_rate(result)}<br>{_latency(result)}, {result['compute']['flops_per_chunk'] / 1e6:.0f} MFLOP"


def _rate(result: dict) -> str:
    return _per_cent(result["summary"]["success_rate"], result["summary"]["interval"])


def _per_cent(share: float, interval: Sequence[float]) -> str:
    return "{:.0f} [{:.0f}, {:.0f}]".format(*(100 * x for x in (share, *interval)))


def _latency(result: dict) -> str:
    return f"{1e3 * result['timing']['latency_median']:.0f} ms"


if __name__ == "__main__":
    explain("results", __doc__)
    main()
