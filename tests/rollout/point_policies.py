"""Real policies for the point of toy_rollout: with a bowl as energy, whose answers are known, and untrained nets."""

from __future__ import annotations

import torch
from torch import nn

from ebt_policy.baselines.diffusion import DenoiseConfig, Diffusion
from ebt_policy.baselines.flow import EulerConfig, Flow
from ebt_policy.core import EBT, ActConfig, DescentConfig, OwnIterates, Quadratic, Transformer
from ebt_policy.core.objectives import squared_error
from ebt_policy.core.tokens import LinearTokens
from ebt_policy.data.normalizer import Normalizer
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.encoders.lowdim import LowdimEncoder
from ebt_policy.encoders.rotations import Rotations
from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.rollout.monitor import Monitor, MonitoredAgent, Watch
from ebt_policy.tasks.robot import Horizon, Policy

SPEC = Spec({"position": (2,), "target": (2,)}, ActionSpec(2))
HORIZON = Horizon(observe=2, predict=6, execute=3)


class Bowl(nn.Module):
    """E = |y - path|^2 / 2, where the path sets out from the observed position and moves by `speed` a step."""

    def __init__(self, speed: float):
        super().__init__()
        self.speed = speed

    def bind(self, ctx):
        way = self.speed * torch.arange(1 - HORIZON.observe, 1 - HORIZON.observe + HORIZON.predict)
        path = ctx[:, -1:, :2] + way[:, None]
        return lambda y, k: 0.5 * (y - path).pow(2).flatten(1).sum(1)


class AsItIs(nn.Module):
    """obs[k] (B, To, 2) -> (B, To, 4)."""

    def forward(self, obs):
        return torch.cat([obs["position"], obs["target"]], dim=-1)


def bowl_policy(speed: float = 0.0, step_size: float = 1.0, **act) -> Policy:
    """One step lands on the path; its normaliser is the identity."""
    walk = DescentConfig(steps=1, backprop="last")
    model = EBT(Bowl(speed), OwnIterates(squared_error), walk, ActConfig(**act), step_size)
    return _policy(AsItIs(), model)


def net_policy(method: str) -> Policy:
    """Untrained: ebt, diffusion or flow."""
    torch.manual_seed(0)
    tokens, trunk = LinearTokens(2, 16), Transformer(16, 1, 2)
    if method == "ebt":
        settings = dict(objective=OwnIterates(squared_error), act=ActConfig(steps=2), step_size=0.1)
        model = EBT.on_trunk(tokens, trunk, Quadratic, train_walk=DescentConfig(backprop="last"), **settings)
    else:
        rivals = {"diffusion": (Diffusion, DenoiseConfig(4, "ddim")), "flow": (Flow, EulerConfig(4))}
        kind, act = rivals[method]
        model = kind(tokens, trunk, act)
    return _policy(LowdimEncoder(SPEC.obs, 16), model)


def net_agent(method: str, monitored: bool) -> ChunkedAgent | MonitoredAgent:
    agent = ChunkedAgent(net_policy(method))
    return MonitoredAgent(agent, Monitor(agent.policy, Watch(samples=3))) if monitored else agent


def _policy(encoder: nn.Module, model: nn.Module) -> Policy:
    return Policy(SPEC, HORIZON, Rotations(SPEC.obs), Normalizer(SPEC), encoder, model).eval().requires_grad_(False)
