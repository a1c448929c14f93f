"""The energy network: how well does a candidate y fit its context? Tokeniser, trunk and head make one scalar."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebt_policy.core.descent import EnergyFn
from ebt_policy.core.transformer import Transformer


class EnergyTransformer(nn.Module):
    """E(y | ctx): (B,) when the trunk looks at "all", (B, N), one per token, when it looks at the "past"."""

    def __init__(self, tokenize: nn.Module, trunk: Transformer, head: nn.Module):
        super().__init__()
        self.tokenize, self.trunk, self.head = tokenize, trunk, head

    def bind(self, ctx: Tensor) -> EnergyFn:
        """Fix the context (B, L, D), encoded here and only here; returns energy(y, k)."""
        features = self.trunk.bind(ctx)

        def energy(y: Tensor, k: int) -> Tensor:
            h = features(self.tokenize(y))  # (B, N, D)
            with torch.autocast(y.device.type, enabled=False):
                per_token = self.head(self.tokenize.split(y), h.float())  # (B, N)
            return per_token if self.trunk.look == "past" else per_token.sum(-1)

        return energy
