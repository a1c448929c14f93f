"""One language model for every method: embed the tokens, and ask for the next one at every position at once.

    B rows of a batch   N tokens that are seen   V vocabulary   D width

    ids (B, N+1) -> ctx = embed(ids[:, :-1]) (B, N, D);  target = ids[:, 1:] (B, N);  y0 (B, N, V) -> logits (B, N, V)

Position i of y is the candidate for token i+1: a distribution over the vocabulary that sees tokens 0 .. i and itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.core.model import ConditionalModel, Loss, Sample
from ebt_policy.core.objectives import CrossEntropy
from ebt_policy.core.replay import ReplayBuffer
from ebt_policy.core.transformer import Prefix
from ebt_policy.data.split import evenly


@dataclass(frozen=True)
class TextBatch:
    ids: Tensor  # (B, N+1) int64

    def to(self, device: torch.device | str) -> TextBatch:
        """The same batch on `device`."""
        return TextBatch(self.ids.to(device))


class TextRows:
    """Rows of N+1 tokens from one long array; the last of a row is the first of the next, so each is predicted once."""

    def __init__(self, tokens: np.ndarray, context: int):
        if len(tokens) <= context:
            raise ValueError(f"a row needs {context + 1} tokens, the text has {len(tokens)}: set task.context lower")
        self.tokens, self.context = tokens, context

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.context

    def batch(self, indices: Tensor | np.ndarray) -> TextBatch:
        """Rows (B,) int64, in this order and with repetition as given."""
        starts = np.asarray(indices)[:, None] * self.context
        return TextBatch(torch.from_numpy(self.tokens[starts + np.arange(self.context + 1)].astype(np.int64)))


class KeptRows(nn.Module):
    """The last `size` rows that were trained on, with where their walks ended: some of them join each batch and go on.

    A row has no number here that would come back before the next epoch, so tokens are kept along with candidates.
    """

    def __init__(self, size: int, context: int, vocabulary: int, share: float = 0.5, longest: int = 2):
        """share: rows that join, for each fresh one; longest: walks after which a row's candidate starts afresh."""
        super().__init__()
        bounds.number("share", share, "[0, inf)")
        self.share = share
        self.walks = ReplayBuffer(size, (context, vocabulary), share=1.0, longest=longest)
        self.register_buffer("rows", torch.zeros(size, context + 1, dtype=torch.long))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))  # of fresh rows so far

    def join(self, fresh: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """fresh (B, N+1) -> (rows (B+k, N+1), slots (B+k,)): fresh rows in the oldest slots, then k older rows."""
        size, new = len(self.rows), len(fresh)
        if size < 2 * new:
            raise ValueError(f"expected room for two batches, got method.replay.size={size} for batches of {new} rows")
        slots = (self.count + torch.arange(size, device=fresh.device)) % size  # oldest first
        others = slots[new:][torch.randperm(size - new, generator=generator, device=fresh.device)]
        full = self.count.item() >= size
        self.rows[slots[:new]], self.walks.age[slots[:new]] = fresh, 0
        self.count += new
        slots = torch.cat([slots[:new], others[: int(self.share * new) if full else 0]])
        return self.rows[slots], slots


class LanguageModel(nn.Module):
    """Knows tokens and positions, and nothing of the method behind `model`."""

    def __init__(
        self,
        vocabulary: int,
        context: int,
        dim: int,
        model: ConditionalModel,
        start: float = 1.0,
        replay: KeptRows | None = None,
    ):
        """start: standard deviation of the logits that a walk starts from; 0 for what starts nowhere."""
        super().__init__()
        bounds.number("start", start, "[0, inf)")
        self.vocabulary, self.context, self.start = vocabulary, context, start
        self.embed, self.model, self.replay = nn.Embedding(vocabulary, dim), model, replay
        nn.init.normal_(self.embed.weight, std=0.02)

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    def loss(self, batch: TextBatch, generator: torch.Generator | None = None) -> Loss:
        """batch.ids (B, N+1)."""
        if self.replay is None:
            return self._loss(batch.ids, generator)
        ids, slots = self.replay.join(batch.ids, generator)
        loss = self._loss(ids, generator, go_on=partial(self.replay.walks.mix, slots, generator=generator))
        self.replay.walks.store(slots, loss.final)
        return loss

    @torch.no_grad()
    def predict(self, ids: Tensor, generator: torch.Generator | None = None) -> Sample:
        """ids (B, N) -> Sample with logits y (B, N, V) of each next token and, of an EBT, their energies (B, N)."""
        return self.model.sample(self.embed(ids), self._noise(*ids.shape, generator), generator)

    @torch.no_grad()
    def read(self, ids: Tensor, past: Prefix | None = None) -> Prefix:
        """Read tokens (B, n) after `past`."""
        return self.model.read(self.embed(ids), past)

    @torch.no_grad()
    def follow(self, prefix: Prefix, candidates: int = 1, generator: torch.Generator | None = None) -> Sample:
        """Sample with logits y (1, candidates, V) of the token after the prefix, each from noise of its own."""
        return self.model.sample(prefix, self._noise(1, candidates, generator), generator)

    def _loss(self, ids: Tensor, generator: torch.Generator | None, **more) -> Loss:
        ctx, target = self.embed(ids[:, :-1]), ids[:, 1:]
        return self.model.loss(target, ctx, self._noise(*target.shape, generator), generator, **more)

    def _noise(self, rows: int, tokens: int, generator: torch.Generator | None) -> Tensor:
        shape = (rows, tokens, self.vocabulary)
        if self.start == 0:
            return torch.zeros((), device=self.device).expand(shape)
        return self.start * torch.randn(shape, generator=generator, device=self.device)


class Perplexity:
    """Of the next token over held-out rows, evenly spread and seen once each, with the noise of one seed."""

    def __init__(self, rows: TextRows, count: int = 64, batch: int = 16, bytes_per_token: float = math.nan):
        self.rows, self.batch, self.bytes_per_token = rows, batch, bytes_per_token
        self.index = evenly(len(rows), count)

    @torch.no_grad()
    def __call__(self, module: LanguageModel) -> dict[str, float]:
        module.eval()
        generator = torch.Generator(module.device).manual_seed(0)
        losses, energies = [], []
        for start in range(0, len(self.index), self.batch):
            ids = self.rows.batch(self.index[start : start + self.batch]).to(module.device).ids
            sample = module.predict(ids[:, :-1], generator)
            losses.append(CrossEntropy()(sample.y, ids[:, 1:]).flatten())
            if sample.score is not None:
                energies.append(sample.energies[0] / self.rows.context - sample.score().mean(1))  # (B,) a token
        loss = torch.cat(losses).mean().item()
        metrics = {"val_loss": loss, "val_perplexity": math.exp(min(loss, 700.0))}
        metrics["val_bits_per_byte"] = loss / math.log(2) / self.bytes_per_token
        return metrics | ({"val_energy_drop": torch.cat(energies).mean().item()} if energies else {})
