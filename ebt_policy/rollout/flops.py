"""Floating-point operations of acting and of training. Counts matrix products, not elementwise work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def flops_per_chunk(policy, obs: dict[str, torch.Tensor] | None = None) -> int:
    """Of one `predict_action` at batch 1: forward passes and the gradients of descent.

    obs[k] (1, To, *shape); zeros of the spec's shapes if left out.
    """
    if obs is None:
        obs = {k: torch.zeros(1, policy.horizon.observe, *shape) for k, shape in policy.spec.obs.items()}
        obs = {k: v.to(policy.device) for k, v in obs.items()}
    with torch.compiler.set_stance("force_eager"), _FlopCounter() as counter:  # it sees no operation of a compiled one
        policy.predict_action(obs, generator=torch.Generator(device=policy.device).manual_seed(0))
    return counter.total


def flops_per_update(module: torch.nn.Module, batch) -> float:
    """Of one update of a task module: loss(batch), second order included, and its backward.

    The mean over the numbers of steps that a training walk may draw.
    """
    walk = getattr(module.model, "train_walk", None)
    if walk is None:
        return float(_loss_flops(module, batch))
    totals = []
    for steps in range(walk.steps, walk.steps + walk.extra_steps + 1):
        module.model.train_walk = replace(walk, steps=steps, extra_steps=0)
        totals.append(_loss_flops(module, batch))
    module.model.train_walk = walk
    return float(np.mean(totals))


def _loss_flops(module: torch.nn.Module, batch) -> int:
    # plain attention, because torch has no count of the fused one on a CPU
    with torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH), _FlopCounter() as counter:
        module.loss(batch).total.backward()
    module.zero_grad()
    return counter.total


class _FlopCounter(TorchDispatchMode):
    """FlopCounterMode without its tally per module, whose hooks do not survive the autograd.grad of a descent."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if (flops := flop_registry.get(func.overloadpacket)) is not None:
            self.total += flops(*args, **(kwargs or {}), out_val=out)
        return out
