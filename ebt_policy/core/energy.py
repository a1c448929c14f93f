"""The energy network: how well does a candidate y fit its context? Tokeniser, trunk and head make one scalar."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.core.descent import EnergyFn
from ebt_policy.core.transformer import Prefix, Trunk


class EnergyTransformer(nn.Module):
    """E(y | ctx): (B,) when the trunk looks at "all", (B, N), one per token, when it looks at the "past"."""

    def __init__(self, tokenize: nn.Module, trunk: Trunk, head: nn.Module, landscapes: int = 0):
        """landscapes: steps that each have an energy of their own, through an embedding; 0 is one energy for all."""
        super().__init__()
        bounds.whole("landscapes", landscapes, "[0, inf)")
        self.tokenize, self.trunk, self.head = tokenize, trunk, head
        self.landscape = nn.Parameter(torch.zeros(landscapes, trunk.dim)) if landscapes else None

    def bind(self, ctx: Tensor | Prefix) -> EnergyFn:
        """Fix the context (B, L, D), encoded here and only here; returns energy(y, k).

        Of a prefix that was read already, every candidate token is one for the place after it.
        """
        features = self.trunk.after(ctx) if isinstance(ctx, Prefix) else self.trunk.bind(ctx)

        def energy(y: Tensor, k: int) -> Tensor:
            vectors = self.tokenize.split(y)
            h = features(self._tokens(vectors, k))  # (B, N, D)
            with torch.autocast(y.device.type, enabled=False):
                per_token = self.head(vectors.float(), h.float())  # (B, N)
            return per_token if self.trunk.look == "past" else per_token.sum(-1)

        return energy

    def _tokens(self, vectors: Tensor, k: int | Tensor) -> Tensor:
        """k: one landscape for all samples, or (B,), one for each."""
        tokens = self.tokenize.widen(vectors)
        if self.landscape is None:
            return tokens
        last = len(self.landscape) - 1
        own = self.landscape[k.clamp(max=last)][:, None] if isinstance(k, Tensor) else self.landscape[min(k, last)]
        return tokens + own
