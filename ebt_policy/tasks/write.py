"""Writing text token by token: the past is read once and kept, only the candidates for the next token walk.

A token costs one pass over itself and, for each descent step, one over all its candidates together; what came before
is only attended to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebt_policy.core.model import Sample
from ebt_policy.tasks.text import LanguageModel


@dataclass(frozen=True)
class Token:
    id: int
    probability: float  # that the model gave it, before temperature and top-p
    energy: float | None  # of the candidate it was drawn from; None for models without one


@dataclass(frozen=True)
class Draw:
    """How the next token is chosen."""

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    top_p: float = 1.0  # draw from the fewest likeliest tokens that have this probability together
    candidates: int = 1  # best of N: walk from N noises, keep the candidate of the lowest energy

    def __post_init__(self):
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")

    def __call__(self, logits: Tensor, generator: torch.Generator | None = None) -> int:
        """The id of a token: logits (V,)."""
        if self.temperature == 0:
            return int(logits.argmax())
        share, ids = (logits / self.temperature).softmax(-1).sort(descending=True)
        share = share.where(share.cumsum(-1) - share < self.top_p, 0.0)  # the likeliest always stays
        return int(ids[torch.multinomial(share, 1, generator=generator)])


def write(
    model: LanguageModel,
    prompt: Sequence[int],
    count: int,
    draw: Draw,
    end: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Token]:
    """Up to `count` tokens after a prompt of at least one, one at a time; the last is `end` if that came.

    ValueError if the model's context cannot hold them.
    """
    if not prompt:
        raise ValueError("expected a prompt of at least one token: give it the token that begins a document")
    if count < 1:
        raise ValueError(f"expected at least one token to write, got {count}")
    most = max(model.context + 1 - len(prompt), 0)  # the last token written is not read
    if count > most:
        raise ValueError(
            f"a prompt of {len(prompt)} tokens and {count} to write do not fit in the context of {model.context} that "
            f"the model was trained with: shorten the prompt, or write at most {most}"
        )
    return _written(model, list(prompt), count, draw, end, generator)


def _written(model, ids: list[int], count: int, draw: Draw, end, generator) -> Iterator[Token]:
    prefix = None
    for _ in range(count):
        prefix = model.read(torch.tensor([ids], device=model.device), prefix)
        logits, energy = _best(model.follow(prefix, draw.candidates, generator))
        token = draw(logits, generator)
        yield Token(token, logits.softmax(-1)[token].item(), energy)
        if token == end:
            return
        ids = [token]


def _best(sample: Sample) -> tuple[Tensor, float | None]:
    """Logits (V,) and energy of the candidate with the lowest energy, of the N in a sample (1, N, V)."""
    if sample.score is None:
        return sample.y[0, 0], None
    energy = sample.score()[0]  # (N,)
    best = int(energy.nan_to_num(nan=torch.inf).argmin())
    return sample.y[0, best], energy[best].item()
