"""What a language model answers when it thinks for some steps, and of some candidates takes the best by its energy.

    n rows of T tokens   N candidates of each token

    rows -> walk N candidates of every token, each from noise of its own -> cross-entropy and energy of each
    best of m (self-verification): of the first m candidates of a token the one with the lowest energy

Tokens choose for themselves, as a candidate sees the past and itself alone. Walks of every length start from the same
noise, and the best of few candidates is among the best of more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ebt_policy.core.model import set_act
from ebt_policy.core.objectives import CrossEntropy
from ebt_policy.data.split import evenly
from ebt_policy.tasks.text import LanguageModel, TextRows


@dataclass(frozen=True)
class Excerpt:
    """Rows of a text, evenly spread, and which of its documents each begins in."""

    ids: Tensor  # (n, T+1)
    document: np.ndarray  # (n,)
    bytes: np.ndarray  # (n,) of the last T tokens

    @classmethod
    def of(cls, tokens: np.ndarray, context: int, count: int, end: int, lengths: np.ndarray) -> Excerpt:
        """At most `count` rows; `end` is the token before every document, lengths (V,) the bytes of each token."""
        rows = TextRows(tokens, context)
        index = evenly(len(rows), count)
        ids = rows.batch(index).ids
        return cls(ids, np.cumsum(tokens == end)[index * context], lengths[ids[:, 1:]].sum(1))


@dataclass(frozen=True)
class Answer:
    """What a model predicts of every token of an excerpt."""

    loss: np.ndarray  # (N, n, T) cross-entropy in nats
    energy: np.ndarray | None  # (N, n, T) of the candidates; None for models without one
    entropy: np.ndarray  # (n, T) nats, of the first candidate
    likeliest: np.ndarray  # (n, T) token ids, by the first candidate

    def best(self, candidates: int = 1) -> np.ndarray:
        """Cross-entropy (n, T) of the candidates of the lowest energy among the first so many."""
        if candidates == 1:
            return self.loss[0]
        chosen = np.nan_to_num(self.energy[:candidates], nan=np.inf).argmin(0)
        return np.take_along_axis(self.loss, chosen[None], axis=0)[0]


def trained_steps(model: LanguageModel) -> int | None:
    """The descent steps that a model takes unless it is told otherwise; None of one that takes none."""
    return getattr(model.model.act, "steps", None)


def answer(model: LanguageModel, ids: Tensor, steps: int | None, candidates: int = 1, batch: int = 32) -> Answer:
    """ids (n, T+1) -> what the model predicts of the last T. steps: None for a model that takes none.

    batch: rows times candidates that walk at once.
    """
    usual = model.model.act
    if steps is not None:
        set_act(model.model, steps=steps)
    parts = ids.split(max(1, batch // candidates))
    answers = [_answer(model, part.to(model.device), candidates, seed) for seed, part in enumerate(parts)]
    model.model.act = usual
    loss, energy, entropy, likeliest = zip(*answers, strict=True)
    known = None if energy[0] is None else torch.cat(energy, 1).numpy()
    return Answer(torch.cat(loss, 1).numpy(), known, torch.cat(entropy).numpy(), torch.cat(likeliest).numpy())


def _answer(model: LanguageModel, ids: Tensor, candidates: int, seed: int) -> tuple[Tensor | None, ...]:
    """The fields of an Answer on ids (b, T+1)."""
    many = ids.repeat(candidates, 1)
    sample = model.predict(many[:, :-1], torch.Generator(model.device).manual_seed(seed))
    loss = CrossEntropy()(sample.y, many[:, 1:]).unflatten(0, (candidates, -1))
    energy = None if sample.score is None else sample.score().unflatten(0, (candidates, -1)).cpu()
    share = sample.y[: len(ids)].float().log_softmax(-1)
    return loss.cpu(), energy, -(share.exp() * share).sum(-1).cpu(), share.argmax(-1).cpu()
