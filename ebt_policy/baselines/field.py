"""What the rivals share: a network that answers a candidate with a vector per token, given a level and a context.

Diffusion reads the vector as noise, flow matching as velocity, regression and MIP as the action itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ebt_policy.core.model import ConditionalModel
from ebt_policy.core.objectives import Criterion, squared_error
from ebt_policy.core.transformer import Transformer

FieldFn = Callable[[Tensor, Tensor], Tensor]  # (y (B, ...), level t (B,)) -> (B, ...)
Network = Callable[[nn.Module, Transformer], nn.Module]  # (tokenise, trunk) -> module with bind(ctx) -> FieldFn
LEVELS = 100  # scale of t: a method whose own time runs from 0 to 1 multiplies it by this


class Field(nn.Module):
    """The EBT's trunk with the level added to every candidate token, and a linear readout."""

    def __init__(self, tokenize: nn.Module, trunk: Transformer):
        super().__init__()
        self.tokenize, self.trunk = tokenize, trunk
        self.level = LevelEmbedding(trunk.dim)
        self.readout = nn.Linear(trunk.dim, tokenize.size)

    def bind(self, ctx: Tensor) -> FieldFn:
        """Fix the context (B, L, D), encoded here and only here."""
        features = self.trunk.bind(ctx)

        def field(y: Tensor, t: Tensor) -> Tensor:
            vectors = self.readout(features(self.tokenize(y) + self.level(t)[:, None]))  # (B, N, P)
            return self.tokenize.join(vectors, y.shape)

        return field


class LevelEmbedding(nn.Sequential):
    """Level t (B,) -> (B, D): sinusoids, then a perceptron."""

    def __init__(self, dim: int):
        super().__init__(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))
        frequency = torch.exp(-torch.arange(0, dim, 2) / dim * torch.tensor(1e4).log())
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequency
        return super().forward(torch.cat([angle.sin(), angle.cos()], dim=1))


class FieldModel(ConditionalModel):
    """A conditional model that evaluates one field, once or several times.

    criterion compares, element by element, what the field answers with what the method asks of it.
    """

    def __init__(
        self,
        tokenize: nn.Module,
        trunk: Transformer,
        act: object,
        network: Network = Field,
        criterion: Criterion = squared_error,
    ):
        super().__init__()
        self.act, self.net, self.criterion = act, network(tokenize, trunk), criterion

    def compile_for_acting(self) -> None:
        self._bind, self._evaluate = torch.compile(self._bind), torch.compile(self._evaluate)

    def _bind(self, ctx: Tensor) -> FieldFn:
        return self.net.bind(ctx)

    @staticmethod
    def _evaluate(field: FieldFn, y: Tensor, t: Tensor) -> Tensor:
        return field(y, t)


def for_each(y: Tensor, value: float) -> Tensor:
    """(B,) the same value for each sample of y (B, ...)."""
    return torch.full((len(y),), value, device=y.device)
