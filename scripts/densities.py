"""What each objective makes of the same energy net, on densities in a square whose truth is known.

    python scripts/densities.py                     # assets/results/densities.json and runs/densities.png
    python scripts/densities.py --objectives "noised states" "score matching" --updates 4000 --out FILE

Every objective is a method's YAML, and trains the same net for the same number of updates on the same 4096 points of
each density. All are tuned alike: the learning rate, out of --rates, by the energy distance on moons with another seed.

    KL            KL(data || exp(-E / T) / Z) in nats, Z by quadrature over the square, where exp(-E / T) is a density
    on data       share of samples within 3 standard deviations of the points or curves that the density lies around
    covered       share of the data with a sample within 1 standard deviation
    modes         parts of the density that have at least half of their fair share of the samples
    distance      energy distance to the data (Szekely and Rizzo, 2013): 0 for the same distribution
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from ebt_policy.bench import table
from ebt_policy.cli import fail_cleanly
from ebt_policy.core import Loss, Transformer
from ebt_policy.core.tokens import LinearTokens
from ebt_policy.data.densities import DENSITIES, Density, Square
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.train import build
from ebt_policy.train.fit import FitConfig, fit
from ebt_policy.train.log import Silent

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SQUARE = Square(100)
STEP = 0.001  # of Langevin dynamics: the narrowest valleys here are 0.06 wide, and it must be well below 0.06^2
NOISE = math.sqrt(2 * STEP)  # temperature 1
STEADY = [
    f"method.model.step_size={STEP}",
    f"method.model.act.noise=[{NOISE},{NOISE}]",
    "method.model.act.steps=200",
    "method.model.act.restarts=1",  # the best of several is no sample of a density
    "method.model.objective.blur=0.0",  # these densities have a width of their own
]
WALKED = [*STEADY, f"method.model.train_walk.noise=[{NOISE},{NOISE}]"]  # also while it trains
SUMMED = ["method.model.head._target_=ebt_policy.core.Scalar", "method.model.step_size=1.0"]  # of one token
TUNED_ON, TUNING_SEED = "moons", 1000


@dataclass(frozen=True)
class Objective:
    method: str  # configs/method/<name>.yaml
    temperature: float | None  # T at which exp(-E / T) is a density; None: only gradients or ratios are trained
    overrides: Sequence[str] = ()


OBJECTIVES = {
    "own iterates": Objective("ebt_published", None, SUMMED),
    "noised states": Objective("ebt", None, ["method.model.act.steps=20"]),
    "InfoNCE, search": Objective("ibc", 1.0, ["method.model.act.candidates=64"]),
    "InfoNCE, walked": Objective("ibc_langevin", None, WALKED),
    "NCE": Objective("ebt_nce", 1.0, STEADY),
    "CD-5": Objective("ebt_cd", 1.0, WALKED),
    "persistent CD": Objective("ebt_pcd", 1.0, WALKED),
    "score matching": Objective("ebt_dsm", 0.02**2, ["method.model.act.steps=100"]),
}


@fail_cleanly
def main(arguments: list[str] | None = None) -> dict:
    args = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    result = {"rows": [_truth(name, args) for name in args.densities], "distance_by_rate": {}}
    result |= {"settings": _settings(args), "versions": versions()}
    pictures = {}
    for name in args.objectives:
        objective = OBJECTIVES[name]
        result["distance_by_rate"][name] = distances = tune(objective, args)
        for density in args.densities:
            best = min(distances, key=distances.get)
            row, pictures[name, density] = run(objective, DENSITIES[density](), args, best, args.seed)
            result["rows"].append({"objective": name, "density": density} | row)
            print(_table(result["rows"][-1:]), flush=True)
        write_result(args.out, result)  # a run that is stopped leaves what it has
    print("\n" + _table(result["rows"]))
    draw(pictures, args.densities, args.picture)
    print(f"{args.out}, picture: {args.picture}")
    return result


class Unconditional(nn.Module):
    """A model of points in the square, without context.   y (B, 1, 2), one token"""

    def __init__(self, cfg: DictConfig, points: int):
        super().__init__()
        dim = cfg.net.dim
        tokenize, trunk = LinearTokens(2, dim), Transformer(dim, cfg.net.depth, cfg.net.heads)
        self.model = build.make(cfg.method.model, tokenize=tokenize, trunk=trunk)
        kept = cfg.method.get("replay")
        self.replay = build.make(kept, size=points, shape=(1, 2)) if kept else None
        self.register_buffer("nothing", torch.zeros(1, 1, dim))

    def loss(self, batch: Points) -> Loss:
        ctx, y0 = self._context(len(batch.y)), torch.randn_like(batch.y)
        if self.replay is None:
            return self.model.loss(batch.y, ctx, y0)
        loss = self.model.loss(batch.y, ctx, y0, go_on=partial(self.replay.mix, batch.index))
        self.replay.store(batch.index, loss.final)
        return loss

    def sample(self, count: int, seed: int) -> np.ndarray:
        """(count, 2)."""
        generator = torch.Generator().manual_seed(seed)
        y0 = torch.randn(count, 1, 2, generator=generator)
        return self.model.sample(self._context(count), y0, generator).y[:, 0].numpy()

    def energy(self, y: np.ndarray) -> np.ndarray:
        """Of points y (n, 2), as acting ends with it: (n,)."""
        points = torch.as_tensor(y, dtype=torch.float32)[:, None]
        return self.model.energy(self._context(len(y)), points).double().numpy()

    def _context(self, count: int) -> Tensor:
        return self.nothing.expand(count, -1, -1)


@dataclass(frozen=True)
class Points:
    """Examples for `fit`, and batches of them."""

    y: Tensor  # (n, 1, 2)
    index: Tensor  # (n,)

    @classmethod
    def of(cls, density: Density, count: int, seed: int) -> Points:
        y = torch.as_tensor(density.sample(count, np.random.default_rng(seed)), dtype=torch.float32)
        return cls(y[:, None], torch.arange(count))

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, index: Tensor) -> Points:
        return Points(self.y[index], self.index[index])

    def to(self, device) -> Points:
        return Points(self.y.to(device), self.index.to(device))


def tune(objective: Objective, args: argparse.Namespace) -> dict[float, float]:
    """Learning rate -> energy distance on one density, with another seed than what is reported."""
    if len(args.rates) == 1:
        return {args.rates[0]: math.nan}
    density = DENSITIES[TUNED_ON]()
    return {rate: run(objective, density, args, rate, TUNING_SEED)[0]["distance"] for rate in args.rates}


def run(objective: Objective, density: Density, args, rate: float, seed: int) -> tuple[dict, tuple]:
    """Train, sample and measure: what is reported, and what is drawn (energies (n * n,), samples (count, 2))."""
    torch.manual_seed(seed)
    module, points = Unconditional(_config(objective, args), args.points), Points.of(density, args.points, seed)
    settings = FitConfig(updates=args.updates, batch=args.batch, lr=rate, seed=seed, save_every=math.inf)
    start = time.process_time()
    module = fit(module, points, settings, Silent()).cpu().eval().requires_grad_(False)
    seconds = time.process_time() - start
    energy, samples = module.energy(SQUARE.points), module.sample(args.samples, seed)
    row = {"kl": None, "rate": rate, "temperature": objective.temperature, "train_seconds": round(seconds, 1)}
    if objective.temperature is not None:
        row["kl"] = SQUARE.kl(density.log_prob(SQUARE.points), -energy / objective.temperature)
    row["act"] = str(module.model.act)
    return measure(density, samples, seed) | row, (energy, samples)


def measure(density: Density, samples: np.ndarray, seed: int) -> dict:
    """How samples (n, 2) compare with as many points of the density."""
    data = density.sample(len(samples), np.random.default_rng([seed, 1]))  # not those of training
    to_parts = density.distances(samples).min(2)  # (n, parts)
    on = to_parts.min(1) < 3 * density.std
    shares = np.bincount(to_parts.argmin(1)[on], minlength=to_parts.shape[1]) / len(samples)
    across = cdist(data, samples)
    distance = 2 * across.mean() - cdist(data, data).mean() - cdist(samples, samples).mean()
    return {
        "on_data": float(on.mean()),
        "covered": float((across.min(1) < density.std).mean()),
        "modes": int((shares >= 0.5 / len(shares)).sum()),
        "of_modes": len(shares),
        "distance": float(distance),
    }


def draw(pictures: dict, densities: Sequence[str], out: Path) -> None:
    """One row for each objective: contours of the energy, and samples."""
    names = list(dict.fromkeys(name for name, _ in pictures))
    shape = (len(names), len(densities))
    figure, axes = plt.subplots(*shape, figsize=(2.6 * shape[1], 2.6 * shape[0]), squeeze=False, layout="constrained")
    side = SQUARE.points[:: SQUARE.n, 0]
    for i, name in enumerate(names):
        axes[i, 0].set_ylabel(name)
        for axis, density in zip(axes[i], densities, strict=True):
            energy, samples = pictures[name, density]
            height = np.sqrt(energy - energy.min()).reshape(SQUARE.n, SQUARE.n).T  # closer contours in the valleys
            axis.contourf(side, side, height, levels=20, cmap="viridis")
            axis.plot(*samples.T, ".", color="white", ms=1.5, alpha=0.6)
            axis.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xticks=[], yticks=[])
    for axis, density in zip(axes[0], densities, strict=True):
        axis.set_title(density.replace("_", " "))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)
    plt.close(figure)


def _truth(name: str, args: argparse.Namespace) -> dict:
    """What another draw of the data would get."""
    density = DENSITIES[name]()
    samples = density.sample(args.samples, np.random.default_rng([args.seed, 2]))
    return {"objective": "data", "density": name, "kl": 0.0} | measure(density, samples, args.seed)


def _table(rows: Sequence[dict]) -> str:
    def cells(row: dict) -> list[str]:
        kl = "-" if row["kl"] is None else f"{row['kl']:.2f}"
        modes = f"{row['modes']} of {row['of_modes']}"
        return [
            f"{row['objective']}, {row['density']}",
            kl,
            f"{row['on_data']:.0%}",
            f"{row['covered']:.0%}",
            modes,
            f"{row['distance']:.4f}",
        ]

    return table(["objective, density", "KL", "on data", "covered", "modes", "distance"], [cells(row) for row in rows])


def _config(objective: Objective, args: argparse.Namespace) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [f"method={objective.method}", f"net={args.net}", *objective.overrides])


def _settings(args: argparse.Namespace) -> dict:
    """What was asked for, and each method as composed."""
    composed = {name: _config(OBJECTIVES[name], args) for name in args.objectives}
    methods = {name: OmegaConf.to_container(cfg, resolve=True)["method"] for name, cfg in composed.items()}
    return {k: str(v) for k, v in vars(args).items()} | {"methods": methods, "tuned_on": TUNED_ON}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES), metavar="NAME")
    parser.add_argument("--densities", nargs="+", choices=DENSITIES, default=list(DENSITIES), metavar="NAME")
    parser.add_argument("--net", default="{dim: 32, depth: 2, heads: 4}", help="configs/net/<name>.yaml, or sizes")
    parser.add_argument("--updates", type=int, default=400, help="of training")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--points", type=int, default=4096, help="of training data")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3], help="learning rates to choose from")
    parser.add_argument("--samples", type=int, default=1000, help="to measure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("assets/results/densities.json"))
    parser.add_argument("--picture", type=Path, default=Path("runs/densities.png"))
    return parser


if __name__ == "__main__":
    main()
