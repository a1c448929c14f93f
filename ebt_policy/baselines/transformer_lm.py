"""Transformer++ (Touvron et al., 2023, in small) on the EBT's trunk: the next token from the past in one pass.

The trunk alone, without candidates: rotary positions, RMSNorm, SwiGLU, and an output matrix that is not the input's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebt_policy.baselines.regression import OnePass
from ebt_policy.core.model import ConditionalModel, Loss, Sample
from ebt_policy.core.objectives import CrossEntropy
from ebt_policy.core.transformer import Prefix, Trunk


class TransformerLM(ConditionalModel):
    """tokenize: only its vocabulary is used, a plain language model has no candidates to embed."""

    def __init__(self, tokenize: nn.Module, trunk: Trunk, act: OnePass):
        super().__init__()
        self.act, self.trunk = act, trunk
        self.readout = nn.Linear(trunk.dim, tokenize.vocabulary, bias=False)

    def loss(self, target: Tensor, ctx: Tensor, y0: Tensor, generator=None, weight: Tensor | float = 1.0) -> Loss:
        """target ids (B, N), ctx (B, N, D); y0 is not looked at."""
        return Loss((weight * CrossEntropy()(self._logits(self.read(ctx)), target)).mean(), {})

    @torch.no_grad()
    def sample(self, ctx: Tensor | Prefix, y0: Tensor, generator=None) -> Sample:
        """Logits (B, N, V) of what follows each token of ctx (B, N, D), or (B, 1, V) after a prefix."""
        logits = self._logits(ctx)[:, -1:] if isinstance(ctx, Prefix) else self._logits(self.read(ctx))
        return Sample(logits, torch.ones(len(logits), dtype=torch.long, device=logits.device))

    def read(self, ctx: Tensor, past: Prefix | None = None) -> Prefix:
        """The context (B, n, D) after `past`, read once."""
        return self.trunk.read(ctx, past)

    def compile_for_acting(self) -> None:
        self.trunk.compile()

    def _logits(self, prefix: Prefix) -> Tensor:
        return self.readout(prefix.features)
