"""Energy heads: (raw token vectors y (B, N, P), trunk features h (B, N, D)) -> energy per token (B, N).

With step size 1 the three quadratic heads turn one descent step into a denoiser that starts from zero, so the
network need not learn to cancel its own starting noise; `Scalar` and `Mean` are published forms. No head has a bias
that the candidate cannot change: a constant has no gradient. Heads compute in fp32, also under autocast.
"""

from __future__ import annotations

from torch import Tensor, nn


class Scalar(nn.Module):
    """E = w.h, the published EBT head of text."""

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.readout = nn.Linear(dim, 1, bias=False)

    def forward(self, y: Tensor, h: Tensor) -> Tensor:
        return self.readout(h).squeeze(-1)


class Mean(nn.Module):
    """E = mean of W h over the numbers of all tokens, the published EBT-Policy head: summed over tokens it is a mean.

    Steps scaled by exp(E) are made for it: exp of a sum over 16 steps of actions is nothing, or everything.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.readout = nn.Linear(dim, size, bias=False)

    def forward(self, y: Tensor, h: Tensor) -> Tensor:
        return self.readout(h).mean(-1) / h.shape[-2]


class Quadratic(Scalar):
    """E = 1/2 |y|^2 + w.h: a unit step lands on -dE_h/dy."""

    def __init__(self, size: int, dim: int):
        super().__init__(size, dim)
        nn.init.zeros_(self.readout.weight)

    def forward(self, y: Tensor, h: Tensor) -> Tensor:
        return 0.5 * y.pow(2).sum(-1) + super().forward(y, h)


class DotProduct(nn.Module):
    """E = 1/2 |y|^2 - <y, g(h)>: a unit step lands on g plus a Jacobian term."""

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.readout = nn.Linear(dim, size)
        nn.init.zeros_(self.readout.weight)

    def forward(self, y: Tensor, h: Tensor) -> Tensor:
        return 0.5 * y.pow(2).sum(-1) - (y * self.readout(h)).sum(-1)


class Residual(nn.Module):
    """E = 1/2 |y - g(h)|^2: zero where the network reproduces its input."""

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.readout = nn.Linear(dim, size)
        nn.init.zeros_(self.readout.weight)

    def forward(self, y: Tensor, h: Tensor) -> Tensor:
        return 0.5 * (y - self.readout(h)).pow(2).sum(-1)
