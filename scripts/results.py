"""Evaluate the committed checkpoints and rewrite the result tables of the README from the JSON files.

python scripts/results.py tasks=[lift] episodes=100
"""

from __future__ import annotations

import json
from pathlib import Path

import hydra
from hydra import compose
from omegaconf import DictConfig

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.result import write_atomic
from ebt_policy.train.evaluate import evaluate_run, sha256

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "assets" / "checkpoints"


@hydra.main(config_path="../configs", config_name="results", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    for name, models in cfg.tables.items():
        lines = [f"| task | {' | '.join(cfg.cells)} |", "|---" * (len(cfg.cells) + 1) + "|"]
        for task in cfg.tasks:
            results = [_result(cfg, models[cell.model].format(task=task), cell) for cell in cfg.cells.values()]
            lines.append(f"| {task} | " + " | ".join(_cell(result) for result in results) + " |")
        _rewrite(ROOT / "README.md", name, "\n".join(lines))


def _result(cfg: DictConfig, checkpoint: str, cell: DictConfig) -> dict | None:
    """The evaluation of one cell, from its JSON if that is of these weights and episodes; None without checkpoint."""
    weights = CHECKPOINTS / checkpoint / "weights.safetensors"
    if not weights.exists():
        return None
    sampling = "_".join(str(v) for v in cell.method.values())
    path = ROOT / cfg.folder / f"{checkpoint}_{sampling}.json"
    wanted = list(range(cfg.first_seed, cfg.first_seed + cfg.episodes))
    if path.exists() and not cfg.fresh:
        found = json.loads(path.read_text())
        if found["hashes"]["weights"] == sha256(weights) and found["seeds"] == wanted:
            return found
    print(f"{checkpoint} {sampling}")
    overrides = [f"run={weights.parent}", f"episodes={cfg.episodes}", f"first_seed={cfg.first_seed}", "video=false"]
    overrides += [f"processes={cfg.processes}", f"out=runs/results/{path.stem}"]
    overrides += [f"method.{key}={value}" for key, value in cell.method.items()]
    _, folder = evaluate_run(compose("eval", overrides))
    text = (folder / "eval.json").read_text()
    write_atomic(path, text)
    return json.loads(text)


def _cell(result: dict | None) -> str:
    if result is None:
        return "-"
    summary, flops = result["summary"], result["compute"]["flops_per_chunk"]
    low, high = (round(100 * x) for x in summary["interval"])
    milliseconds = 1e3 * result["timing"]["latency_median"]
    rate = f"{100 * summary['success_rate']:.0f} [{low}, {high}]"
    return f"{rate}<br>{milliseconds:.0f} ms, {flops / 1e6:.0f} MFLOP"


def _rewrite(readme: Path, name: str, table: str) -> None:
    """Replace what stands between the table's two markers."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = readme.read_text()
    if begin not in text or end not in text:
        raise ValueError(f"expected the markers {begin} and {end} in {readme}: put them where the table belongs")
    head, rest = text.split(begin, 1)
    tail = rest.split(end, 1)[1]
    write_atomic(readme, f"{head}{begin}\n{table}\n{end}{tail}")


if __name__ == "__main__":
    explain("results", __doc__)
    main()
