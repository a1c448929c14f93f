"""Evaluate the committed checkpoints and rewrite the README's tables, headline and speeds from the JSON files.

python scripts/results.py tasks=[lift] episodes=100
"""

from __future__ import annotations

import json
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
    for name, table in (("language", _language), ("thinking", _thinking)):
        rewrite(readme, name, table(json.loads((ROOT / cfg.folder / f"{name}.json").read_text())["rows"]))


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
    """Perplexities of held-out text, a row for each method and way of thinking, over its training seeds."""
    found: dict[tuple[str, int, int], dict[str, float]] = {}  # by method, steps and candidates; then by seed
    for row in rows:
        method, _, seed = Path(row["run"]).name.rpartition("_")
        found.setdefault((method, row["steps"], row["candidates"]), {})[seed] = row["perplexity"]["value"]
    rival = found[RIVAL, 1, 1]
    lines = []
    for (method, steps, candidates), values in found.items():
        by_seed = ", ".join(f"{seed}: {value:.1f}" for seed, value in values.items())
        ratio = _ratio([values[seed] / rival[seed] for seed in values])
        lines.append([method, steps, candidates, by_seed, ratio])
    return markdown(["model", "steps", "candidates", "perplexity, by seed", "times Transformer++"], lines)


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
    low, high = (round(100 * x) for x in result["summary"]["interval"])
    return f"{100 * result['summary']['success_rate']:.0f} [{low}, {high}]"


def _latency(result: dict) -> str:
    return f"{1e3 * result['timing']['latency_median']:.0f} ms"


if __name__ == "__main__":
    explain("results", __doc__)
    main()
