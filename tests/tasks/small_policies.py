"""Policies of every method, and demonstrations whose actions follow from what is observed."""

from __future__ import annotations

import torch
from hydra import compose, initialize_config_dir
from tiny_runs import ROOT

from ebt_policy.data.store import open_episodes
from ebt_policy.data.windows import WindowDataset
from ebt_policy.tasks.robot import Policy
from ebt_policy.train import build

METHODS = ("ebt", "diffusion", "diffusion_unet", "flow", "mip", "regression")
HORIZON = "horizon={observe: 2, predict: 6, execute: 3}"


def make_policy(store, method="ebt", *more: str) -> Policy:
    """An untrained policy with spec and limits from the store."""
    torch.manual_seed(0)
    net = "net={dim: 32, depth: 1, heads: 2}"
    if method == "diffusion_unet":
        more = ("method.model.network.widths=[16, 32]", *more)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [f"method={method}", net, HORIZON, *more])
    data = open_episodes(store)
    return build.policy(cfg, data.spec, data)


def windows(store, copies=1, observe=2, predict=6):
    """A batch of 8 windows from all over the store, `copies` times over."""
    examples = WindowDataset(open_episodes(store), observe, predict)
    return examples.batch(torch.linspace(0, len(examples) - 1, 8).long().repeat(copies))


def overfit(policy: Policy, store, updates: int, lr=2e-2) -> Policy:
    """Train on one batch only, each window under 8 noises."""
    batch = windows(store, 8, policy.horizon.observe, policy.horizon.predict)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(policy.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        optimizer.zero_grad()
        policy.loss(batch).total.backward()
        optimizer.step()
        schedule.step()
    return policy.eval().requires_grad_(False)


def error(policy: Policy, batch) -> float:
    """Mean squared error of sampled plans in normalised units; a plan of zeros has 0.59."""
    plan = policy.predict_action(batch.obs, torch.Generator().manual_seed(1)).plan
    return (policy.normalizer.action(plan) - policy.normalizer.action(batch.action)).pow(2).mean().item()
