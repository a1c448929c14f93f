"""How the held-out loss of EBTs and of Transformer++ scales with data, batch, depth, width or parameters.

python scripts/scaling.py axis=width                        # trains every cell, then fits; start it again to go on
python scripts/scaling.py axis=width worker=3 workers=8     # one cell in eight, for machines that share a folder
python scripts/scaling.py --multirun hydra/launcher=submitit_slurm axis=width workers=8 'worker=range(8)'

The last line is for a cluster, after pip install hydra-submitit-launcher. Whoever finishes the last cell fits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from pathlib import Path

import hydra
import torch
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.flops import flops_per_update
from ebt_policy.rollout.plots import power_laws
from ebt_policy.rollout.powerlaw import Difference, Floor, PowerLaw
from ebt_policy.rollout.result import versions, write_atomic, write_result
from ebt_policy.train.build import load_config
from ebt_policy.train.log import read_log
from ebt_policy.train.run import prepare, train_run
from ebt_policy.train.work import Work

RESULTS = Path(__file__).resolve().parent.parent / "assets" / "results"
OF_THE_PLACE = ("run", "resume", "wandb")  # settings that may differ when a cell is found again


@dataclass(frozen=True)
class Cell:
    """One training run of the grid."""

    method: str  # experiment
    value: str  # overrides of the axis
    seed: int
    cfg: DictConfig

    @property
    def folder(self) -> Path:
        return Path(self.cfg.run)

    @property
    def outcome(self) -> Path:
        return self.folder / "cell.json"


@hydra.main(config_path="../configs", config_name="scaling", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    if cfg.axis not in cfg.axes:
        raise ValueError(f"axis must be one of {', '.join(cfg.axes)}, got {cfg.axis!r}")
    if not 0 <= cfg.worker < cfg.workers:
        raise ValueError(f"expected worker of 0 to workers - 1, got worker={cfg.worker} and workers={cfg.workers}")
    cells = grid(cfg)
    for cell in cells[cfg.worker :: cfg.workers]:
        run(cell)
    missing = [cell for cell in cells if not cell.outcome.exists()]
    if missing:
        print(f"{len(missing)} of {len(cells)} cells are still to be trained by other workers, so nothing is fitted")
        return
    rows = [json.loads(cell.outcome.read_text()) for cell in cells]
    laws = {quantity: _laws(rows, quantity) for quantity in (cfg.axis, "flops")}
    laws = {quantity: by_method for quantity, by_method in laws.items() if by_method}
    out = Path(cfg.out or RESULTS / f"scaling_{cfg.axis}.json")
    write_result(out, _result(cfg, cells, rows, laws))
    power_laws(rows, laws).savefig(out.with_suffix(".png"), dpi=110)
    print(f"{_told(laws)}\n-> {out}, picture: {out.with_suffix('.png')}")


def grid(cfg: DictConfig) -> list[Cell]:
    """All cells of the axis; a whole grid of one seed first."""
    cells = []
    for seed, value, method in product(cfg.seeds, cfg.axes[cfg.axis], cfg.methods):
        folder = Path(cfg.folder) / cfg.axis / method / value.replace(" ", ",") / f"seed{seed}"
        train = compose("train", [f"experiment={method}", *cfg.settings, *value.split(), f"fit.seed={seed}"])
        train.run = str(folder)
        cells.append(Cell(method, value, seed, train))
    return cells


def run(cell: Cell) -> None:
    """Train a cell, or go on with it, unless it is finished."""
    begun = (cell.folder / "config.yaml").exists()
    if begun:
        _check_alike(cell)
    if cell.outcome.exists():
        return
    print(f"{cell.folder}", flush=True)
    cell.cfg.resume = begun
    train_run(cell.cfg)
    write_atomic(cell.outcome, json.dumps(measure(cell)))
    shutil.rmtree(cell.folder / "resume")  # nobody goes on with it, and kept rows are large


def measure(cell: Cell) -> dict:
    """What a trained cell cost and reached."""
    last, work, cfg = read_log(cell.folder / "train.jsonl")[-1], prepare(cell.cfg), cell.cfg
    module = work.build()
    cost = _flops(module, work, cfg.fit.batch)
    return {
        "method": cell.method,
        "value": cell.value,
        "seed": cell.seed,
        "data": len(work.examples) * cfg.task.context,  # tokens
        "batch": cfg.fit.batch,  # rows
        "depth": cfg.net.depth,
        "width": cfg.net.dim,
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "updates": last["update"],
        "flops_per_update": cost,
        "flops": cost * last["update"],
        "val_loss": last["val_loss"],  # nats a token
        "seconds": last["seconds"],  # of training
        "data_hash": work.facts["data"]["hash"],
        "commit": versions().get("commit"),
    }


def _flops(module: torch.nn.Module, work: Work, size: int) -> float:
    """Of an update once the kept rows are there, which takes a few updates."""
    batch = work.examples.batch(torch.arange(min(size, len(work.examples))))
    for _ in range(0 if module.replay is None else -(-len(module.replay.rows) // len(batch.ids))):
        module.replay.join(batch.ids)
    return flops_per_update(module, batch)


def _check_alike(cell: Cell) -> None:
    composed, before = (OmegaConf.to_container(c, resolve=True) for c in (cell.cfg, load_config(cell.folder)))
    changed = [k for k in composed if k not in OF_THE_PLACE and composed[k] != before.get(k)]
    if changed:
        raise ValueError(f"{cell.folder} was trained with another {', '.join(changed)}: set folder=<another folder>")


def _laws(rows: Sequence[dict], quantity: str) -> dict[str, PowerLaw]:
    """By method; nothing where the quantity is the same all along the axis."""
    laws = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        x, loss = zip(*[(row[quantity], row["val_loss"]) for row in rows if row["method"] == method], strict=True)
        if len(set(x)) > 1:
            laws[method] = PowerLaw.of(x, loss)
    return laws


def _differences(laws: dict[str, PowerLaw]) -> dict[str, Difference]:
    return {f"{a} - {b}": Difference.of(laws[a], laws[b]) for a, b in combinations(laws, 2)}


def _result(cfg: DictConfig, cells: Sequence[Cell], rows: Sequence[dict], laws: dict) -> dict:
    hashes = {row["data_hash"] for row in rows}
    if len(hashes) > 1:
        raise ValueError(f"cells of {cfg.folder} were trained on different texts: set folder=<another folder>")
    return {
        "run": {"axis": cfg.axis, "settings": list(cfg.settings), "values": list(cfg.axes[cfg.axis])},
        "fits": {quantity: {m: _fit(law) for m, law in by_method.items()} for quantity, by_method in laws.items()},
        "differences": {
            quantity: {pair: asdict(found) | {"text": str(found)} for pair, found in _differences(by_method).items()}
            for quantity, by_method in laws.items()
        },
        "seeds": list(cfg.seeds),
        "versions": versions(),
        "hashes": {"data": hashes.pop()},
        "config": {cell.method: OmegaConf.to_container(cell.cfg, resolve=True) for cell in cells},
        "cells": list(rows),
    }


def _fit(law: PowerLaw) -> dict:
    floor = Floor.of(law)
    fitted = {"exponent": law.exponent, "interval": law.interval, "scale": law.scale, "sizes": law.x.tolist()}
    return fitted | {"floor": asdict(floor) | {"text": str(floor)}}


def _told(laws: dict[str, dict[str, PowerLaw]]) -> str:
    lines = []
    for quantity, by_method in laws.items():
        for method, law in by_method.items():
            interval = "no interval" if law.interval is None else "[{:.3g}, {:.3g}]".format(*law.interval)
            lines.append(f"{quantity}, {method}: exponent {law.exponent:.3g} {interval}; {Floor.of(law)}")
        lines += [f"{quantity}, {pair}: {found}" for pair, found in _differences(by_method).items()]
    return "\n".join(lines)


if __name__ == "__main__":
    explain("scaling", __doc__)
    main()
