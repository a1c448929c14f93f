"""A cell of a table: one checkpoint, sampled in one way, on numbered initial states; from its JSON file or anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebt_policy.rollout.result import first, write_atomic
from ebt_policy.train.build import load_policy
from ebt_policy.train.evaluate import evaluate_run, sha256

if TYPE_CHECKING:
    from omegaconf import DictConfig

WEIGHTS = "weights.safetensors"
AGENT = ("execute", "replan", "redraw", "warm")  # settings of configs/acting.yaml, not of how a chunk is sampled
BARE = ("steps", "sampler")  # settings whose value alone tells in a name what is set
RUNS = Path("runs/results")  # where evaluations leave their report


@dataclass(frozen=True)
class Cell:
    checkpoint: Path  # folder
    sampling: Mapping[str, Any]  # of configs/sampling.yaml, and `AGENT`
    first_seed: int
    episodes: int

    @property
    def name(self) -> str:
        parts = (("" if k in BARE else k) + _plain(v) for k, v in self.sampling.items())
        return "_".join([self.checkpoint.name, *parts])

    @property
    def seeds(self) -> list[int]:
        return list(range(self.first_seed, self.first_seed + self.episodes))

    def overrides(self, processes: int) -> list[str]:
        """Of configs/eval.yaml."""
        settings = {"run": self.checkpoint, "episodes": self.episodes, "first_seed": self.first_seed}
        settings |= {"video": "false", "processes": processes, "out": RUNS / self.name}
        settings |= {key if key in AGENT else f"method.{key}": value for key, value in self.sampling.items()}
        return [f"{key}={value}" for key, value in settings.items()]


def result_of(
    cell: Cell,
    folder: Path,
    configure: Callable[[list[str]], DictConfig],
    evaluate: str = "missing",
    processes: int = 1,
) -> dict | None:
    """The evaluation of a cell; None if the checkpoint, or an evaluation that must not be made, is not there.

    folder: holds <cell>.json, which counts if it is of these weights and begins with these initial states.
    configure: from overrides to the composed configs/eval.yaml.    evaluate: missing | all | none
    """
    if evaluate not in ("missing", "all", "none"):
        raise ValueError(f"evaluate is missing, all or none, got {evaluate!r}")
    weights, path = cell.checkpoint / WEIGHTS, folder / f"{cell.name}.json"
    if not weights.exists():
        return None
    if path.exists() and evaluate != "all":
        found = _read(path)
        if found["hashes"]["weights"] == sha256(weights) and found["seeds"][: cell.episodes] == cell.seeds:
            return first(found, cell.episodes)
    if evaluate == "none":
        return None
    _, run = evaluate_run(configure(cell.overrides(processes)))
    text = (run / "eval.json").read_text()
    write_atomic(path, text)
    return json.loads(text)


def _read(path: Path) -> dict:
    """What an evaluation wrote; ValueError for a file that is something else, or not whole."""
    try:
        found = json.loads(path.read_text())
        if not isinstance(found["hashes"]["weights"], str) or not isinstance(found["seeds"], list):
            raise TypeError("no hash of weights, no seeds")
        return found
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no result of an evaluation ({error}): remove it, and it is made again") from error


def _plain(value: object) -> str:
    """A setting as part of a file's name."""
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def training_runs(folder: Path, name: str) -> list[Path]:
    """The checkpoints of one method that differ in their training seed alone: name, name_seed1, name_seed2, ..."""
    more = [path for path in folder.glob(f"{name}_seed*") if path.name.removeprefix(f"{name}_seed").isdigit()]
    more.sort(key=lambda path: int(path.name.rpartition("seed")[2]))
    return [path for path in (folder / name, *more) if (path / WEIGHTS).exists()]


def parameters(checkpoint: Path) -> int:
    """Numbers that were learnt."""
    return sum(p.numel() for p in load_policy(checkpoint).parameters())
