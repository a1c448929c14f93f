"""Judge every hypothesis by the committed checkpoints: evidence.json, a page, and the README's table of verdicts.

python scripts/evidence.py evaluate=none      # only what has been evaluated
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from ebt_policy.cli import explain, fail_cleanly
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
from ebt_policy.rollout.evidence_page import readme_table, write_page
from ebt_policy.rollout.result import rewrite, versions, write_result
from ebt_policy.train.cells import WEIGHTS, Cell, parameters, result_of, training_runs
from ebt_policy.train.evaluate import sha256

ROOT = Path(__file__).resolve().parent.parent
Measure = Callable[[Path, dict, int], Run | None]  # (checkpoint, sampling, episodes) -> its evaluation
EPISODE = ("seed", "success", "length", "report", "signals")  # what is kept of an episode


@hydra.main(config_path="../configs", config_name="evidence", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    cfg = OmegaConf.to_container(cfg, resolve=True)
    folder, measure = ROOT / cfg["folder"], measuring(cfg)
    densities = _read(ROOT / cfg["results"] / "densities.json") or {"rows": []}
    found = Found(cells(cfg, measure), recovered(cfg, folder), monitored(cfg, folder), by_density(densities))
    hypotheses = {name: judge(hypothesis, found) for name, hypothesis in cfg["hypotheses"].items()}
    evidence = {
        "hypotheses": hypotheses,
        "tasks": {task: task_table(methods) for task, methods in found.cells.items()},
        "dynamic": dynamic(cfg, measure),
        "recovery": {name: recovery_section(cfg, name, result) for name, result in found.recovered.items()},
        "monitors": {
            name: {"signals": (found.monitors[name] or {}).get("signals"), "command": command}
            for name, command in monitor_runs(cfg).items()
        },
        "densities": densities["rows"],
        "settings": cfg,
        "versions": versions(),
    }
    write_result(folder / "evidence.json", evidence)
    evidence = json.loads((folder / "evidence.json").read_text())  # the page says what the file does
    print(f"-> {write_page(folder, evidence)}")
    rewrite(ROOT / cfg["readme"], "evidence", readme_table(evidence["hypotheses"]))
    for name, hypothesis in hypotheses.items():
        print(f"{name}: {hypothesis['verdict']}")


def measuring(cfg: dict) -> Measure:
    def configure(overrides: list[str]) -> DictConfig:
        print("eval.py", *overrides, flush=True)
        return compose("eval", overrides)

    def measure(checkpoint: Path, sampling: dict, episodes: int) -> Run | None:
        cell = Cell(checkpoint, sampling, cfg["first_seed"], episodes)
        result = result_of(cell, ROOT / cfg["results"], configure, cfg["evaluate"], cfg["processes"])
        return None if result is None else Run(checkpoint.name, result)

    return measure


def cells(cfg: dict, measure: Measure) -> dict[str, dict[str, list[Run]]]:
    """Task -> method -> training runs; ValueError if those of a task were not evaluated alike."""
    found = {}
    for task in cfg["tasks"]:
        methods = {name: how for name, how in cfg["methods"].items() if task in how.get("tasks", cfg["tasks"])}
        found[task] = {name: training(cfg, how, task, measure) for name, how in methods.items()}
        check_alike([run for runs in found[task].values() for run in runs])
    return found


def training(cfg: dict, how: dict, task: str, measure: Measure) -> list[Run]:
    """The evaluated training runs of a method."""
    episodes = how.get("episodes", {}).get(task, cfg["tasks"][task])
    if "result" in how:
        path = ROOT / cfg["results"] / f"{how['result'].format(task=task)}.json"
        return [Run(path.stem, json.loads(path.read_text())).first(episodes)] if path.exists() else []
    checkpoints = training_runs(ROOT / cfg["checkpoints"], how["run"].format(task=task))[: how.get("most")]
    runs = [run for checkpoint in checkpoints if (run := measure(checkpoint, how["sampling"], episodes))]
    check_seeds(runs)
    return runs


def dynamic(cfg: dict, measure: Measure) -> dict:
    """Every way to sample one checkpoint of each family; points and rows of equal cost."""
    settings, found = cfg["dynamic"], []
    for family, how in settings["families"].items():
        for checkpoint in training_runs(ROOT / cfg["checkpoints"], how["run"].format(task=settings["task"]))[:1]:
            runs = [(s, measure(checkpoint, s, settings["episodes"])) for s in how["samplings"]]
            size = parameters(checkpoint)
            found += [(family, sampling, run, size) for sampling, run in runs if run]
    check_alike([run for _, _, run, _ in found])
    points = with_steps_taken([pareto_point(*row) for row in found])
    reference = settings["reference"]
    rows = iso(points, reference["family"], reference["sampling"])
    return {"task": settings["task"], "episodes": settings["episodes"], "points": points, "iso": rows}


def recovered(cfg: dict, folder: Path) -> dict[str, dict | None]:
    """Benchmark -> what scripts/recover.py found; None if it is not there, or was of other weights."""
    found = {}
    for name, benchmark in cfg["recovery"].items():
        result = _read(folder / f"recover_{name}.json")
        known = [m for m in (result or {"policies": ()})["policies"] if m in cfg["methods"]]
        current = all(_is_of(result["policies"][m], _checkpoint(cfg, m, benchmark["task"])) for m in known)
        found[name] = result if current else None
    return found


def recovery_section(cfg: dict, name: str, result: dict | None) -> dict:
    shown = {key: result[key] for key in ("policies", "tests", "versions")} if result else {"policies": {}}
    file, benchmark = f"{cfg['folder']}/recover_{name}.json", cfg["recovery"][name]
    settings = " ".join(filter(None, (f"compare={benchmark['task']}", benchmark["settings"], f"json={file}")))
    return shown | {"command": f"python scripts/recover.py {settings}"}


def monitored(cfg: dict, folder: Path) -> dict[str, dict | None]:
    """Checkpoint -> what scripts/monitor.py found, of these weights; new ones are kept in monitor_<checkpoint>.json."""
    found = {}
    for name in monitor_runs(cfg):
        checkpoint, path = ROOT / cfg["checkpoints"] / name, folder / f"monitor_{name}.json"
        new = _read(ROOT / "runs" / "monitor" / name / "monitor.json")
        if new and "signals" in new and _is_of(new, checkpoint):
            write_result(path, _slim(new, compared_signals(cfg, name)))
        kept = _read(path)
        found[name] = kept if kept and _is_of(kept, checkpoint) else None
    return found


def monitor_runs(cfg: dict) -> dict[str, str]:
    """Checkpoint -> the command that monitors it."""
    command = "python scripts/monitor.py run={}/{} out=runs/monitor/{} {}"
    return {name: command.format(cfg["checkpoints"], name, name, own) for name, own in cfg["monitors"].items()}


def compared_signals(cfg: dict, checkpoint: str) -> set[str]:
    """Those that a hypothesis compares in this checkpoint's episodes, and `elapsed`."""
    claims = [c for hypothesis in cfg["hypotheses"].values() for c in hypothesis["claims"] if c["measure"] == "auroc"]
    about = [c for c in claims if checkpoint in (c["run"].format(task=task) for task in c["tasks"])]
    return {"elapsed"}.union(*({c["one"], *c["others"]} for c in about))


def by_density(densities: dict) -> dict[tuple[str, str], dict]:
    samples = int(densities["settings"]["samples"]) if densities["rows"] else 0
    return {(row["objective"], row["density"]): row | {"samples": samples} for row in densities["rows"]}


def _checkpoint(cfg: dict, method: str, task: str) -> Path:
    return ROOT / cfg["checkpoints"] / cfg["methods"][method]["run"].format(task=task)


def _is_of(result: dict, checkpoint: Path) -> bool:
    weights = checkpoint / WEIGHTS
    return weights.exists() and result["hashes"]["weights"] == sha256(weights)


def _slim(result: dict, signals: set[str]) -> dict:
    """Without what nothing here reads: plans' logs, other signals than these, and chunks after the first as many as
    the shortest episode has. Tens of megabytes become one or two.
    """
    episodes = [{key: episode[key] for key in EPISODE if key in episode} for episode in result["episodes"]]
    shortest = min(len(episode["signals"]) for episode in episodes)
    for episode in episodes:
        chunks = episode["signals"][:shortest]
        episode["signals"] = [{k: v for k, v in chunk.items() if k in signals} for chunk in chunks]
    return {k: v for k, v in result.items() if k != "timing"} | {"episodes": episodes}


def _read(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    explain("evidence", __doc__)
    main()
