"""Learn an energy landscape with two valleys and walk down it: an Energy-Based Transformer on one page.

The context is an angle; a good answer y is either of the two points at that angle, on opposite sides of the unit
circle. A network that is asked for y itself answers with their mean, the origin, which is never right. An energy
E(y | context) can be low at both; to answer, start anywhere and go downhill.

    python scripts/tutorial.py                    # ten seconds of training on one core, then runs/tutorial.png
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn

from ebt_policy.core import (
    EBT,
    ActConfig,
    DescentConfig,
    LinearTokens,
    NoisedStates,
    Quadratic,
    Step,
    Transformer,
    descend,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

WIDTH = 32


def main(arguments: list[str] | None = None) -> dict[str, Tensor]:
    args = _parser().parse_args(arguments)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    task = TwoGoals()
    train(task, args.updates)
    shares = landings(task)
    print("\nsteps   " + "   ".join(shares))
    for steps in (1, 2, 5, 20):
        print(f"{steps:5d}   " + "   ".join(f"{share[steps - 1]:{len(name)}.1%}" for name, share in shares.items()))
    draw(task, shares, args.out)
    print(f"picture: {args.out}")
    return shares


class TwoGoals(nn.Module):
    """Angle in, one of the two points at this angle out.   angle (B,)   goals (B, 2, 2)   y (B, 1, 2), one token"""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(2, WIDTH)
        self.model = EBT.on_trunk(
            LinearTokens(2, WIDTH),  # y becomes one token ...
            Transformer(WIDTH, depth=2, heads=4),  # ... which attends to the context's ...
            Quadratic,  # ... and is read out as E = 1/2 |y|^2 + w.h
            # from an answer plus noise of any strength, one step downhill should land on that answer; never from noise
            # alone (pure=0), from where the best single step is to the mean of both answers
            objective=NoisedStates(pure=0.0),
            train_walk=DescentConfig(steps=1, backprop="last"),
            act=ActConfig(steps=20),
        )

    def goals(self, angle: Tensor) -> Tensor:
        one = torch.stack([angle.cos(), angle.sin()], dim=-1)
        return torch.stack([one, -one], dim=1)

    def context(self, angle: Tensor) -> Tensor:
        return self.embed(self.goals(angle)[:, :1])  # (B, 1, D): one token that tells the angle

    def loss(self, angle: Tensor) -> Tensor:
        """Somebody demonstrated one of the two answers, a fair coin says which."""
        chosen = torch.randint(2, (len(angle),))
        demonstrated = self.goals(angle)[torch.arange(len(angle)), chosen][:, None]  # (B, 1, 2)
        return self.model.loss(demonstrated, self.context(angle), torch.randn_like(demonstrated)).total

    def walk(self, angle: Tensor, start: Tensor, steps: int) -> list[Step]:
        """Descend from start (B, 1, 2); each Step has y after it and the energy that it began with."""
        with torch.no_grad():
            energy = self.model.net.bind(self.context(angle))  # the context is encoded here, once
            return descend(energy, start, self.model.log_step.exp(), DescentConfig(steps))


def train(task: TwoGoals, updates: int, batch: int = 128) -> None:
    """The loss holds dE/dy, so its gradient is a second derivative; nothing here has to know."""
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for update in range(updates):
        loss = task.loss(2 * torch.pi * torch.rand(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if update % 250 == 0 or update == updates - 1:
            print(f"update {update:5d}   loss {loss.item():.3f}")


def landings(task: TwoGoals, samples: int = 2000, steps: int = 20) -> dict[str, Tensor]:
    """After each step of descents from noise, the share within 0.25 of a goal and the share nearer to the mean."""
    angle, start = 2 * torch.pi * torch.rand(samples), torch.randn(samples, 1, 2)
    y = torch.stack([step.y for step in task.walk(angle, start, steps)])  # (steps, B, 1, 2)
    from_goal = (y - task.goals(angle)).norm(dim=-1).min(dim=-1).values  # (steps, B)
    from_mean = y[:, :, 0].norm(dim=-1)
    shares = {"on a goal": from_goal < 0.25, "between them": from_mean < from_goal}
    return {name: share.float().mean(dim=1) for name, share in shares.items()}


def draw(task: TwoGoals, shares: dict[str, Tensor], out: Path, reach: float = 2.0) -> None:
    """The landscape at three angles with descents from noise, and where descents are after each step."""
    figure, axes = plt.subplots(1, 4, figsize=(17, 4.4), width_ratios=(1, 1, 1, 1.15), layout="constrained")
    for axis, degrees in zip(axes, (20, 90, 150), strict=False):
        angle = torch.tensor(math.radians(degrees))
        _contours(axis, task, angle, reach)
        start = torch.randn(14, 1, 2, generator=torch.Generator().manual_seed(degrees)).clamp(-reach, reach)
        path = torch.stack([start] + [step.y for step in task.walk(angle.expand(14), start, steps=20)])[:, :, 0]
        axis.plot(*path.unbind(-1), color="white", lw=1, marker=".", ms=4)
        axis.plot(*path[0].T, "o", color="white", mec="black", ms=6, label="starts")
        axis.plot(*task.goals(angle[None])[0].T, "*", color="gold", mec="black", ms=18, zorder=3, label="the two goals")
        axis.plot(0, 0, "X", color="tomato", mec="black", ms=10, zorder=3, label="their mean")
        axis.set(title=f"E(y | {degrees}°)", xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes[0].legend(loc="lower right", fontsize=8)
    for (name, share), color in zip(shares.items(), ("goldenrod", "tomato"), strict=True):
        axes[-1].plot(range(1, len(share) + 1), 100 * share, marker="o", ms=4, color=color, label=name)
    axes[-1].set(title="where descents from noise are", xlabel="descent steps", ylabel="% of samples", ylim=(-3, 103))
    axes[-1].set_xticks([1, 2, 5, 10, 15, 20])
    axes[-1].legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def _contours(axis: plt.Axes, task: TwoGoals, angle: Tensor, reach: float, n: int = 100) -> None:
    side = torch.linspace(-reach, reach, n)
    y = torch.cartesian_prod(side, side)[:, None]  # (n * n, 1, 2)
    energy = task.walk(angle.expand(len(y)), y, steps=1)[0].energy.view(n, n).T
    height = (energy - energy.min()).sqrt()  # closer contours where the valleys are
    axis.contourf(side, side, height, levels=30, cmap="viridis")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=800, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/tutorial.png"), help="where the picture goes")
    return parser


if __name__ == "__main__":
    main()
