"""What thinking gains one language model on one text, as the rows of a result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebt_policy.rollout.difficulty import difficulty, places
from ebt_policy.rollout.gain import Estimate, degree, gain, perplexity, relation
from ebt_policy.tasks.text import LanguageModel
from ebt_policy.tasks.think import Answer, Excerpt, answer, trained_steps


@dataclass(frozen=True)
class Corpus:
    name: str
    excerpt: Excerpt
    seed: int = 0  # of the resamples of its documents


@dataclass(frozen=True)
class Thinking:
    """What one model answers about one corpus, by number of steps; one that takes none answers once, under 1."""

    corpus: Corpus
    answers: dict[int, Answer]
    trained: int  # steps that it takes unless told otherwise

    def perplexity(self, steps: int, candidates: int = 1) -> Estimate:
        return perplexity(self._losses(steps, candidates), self.corpus.excerpt.document, self.corpus.seed)

    def gain(self, steps: int, candidates: int = 1) -> Estimate:
        """Per cent of perplexity, over the fewest steps and one candidate."""
        base, thought = self._losses(self.fewest), self._losses(steps, candidates)
        return gain(base, thought, self.corpus.excerpt.document, self.corpus.seed)

    @property
    def fewest(self) -> int:
        return min(self.answers)

    @property
    def longest(self) -> int:
        return max(self.answers)

    @property
    def most(self) -> int:
        """Candidates."""
        return len(self.answers[self.fewest].loss)

    def rows(self, candidates: Sequence[int], lengths: np.ndarray) -> list[dict]:
        """A row for every number of steps and of candidates that there is; lengths (V,): bytes of each token."""
        size = int(lengths[self.corpus.excerpt.ids[:, 1:]].sum())
        return [self._row(k, n, size) for k in self.answers for n in candidates if n <= self.most]

    def signals(self, pieces: Sequence[str]) -> list[dict]:
        """How well energy and entropy foretell cross-entropy after the trained steps; pieces (V,): texts of tokens."""
        found, excerpt = self.answers[self.trained], self.corpus.excerpt
        place = places(pieces, excerpt.ids[:, :-1].numpy(), found.likeliest)
        known = {"energy": None if found.energy is None else found.energy[0], "entropy": found.entropy}
        return [
            {"signal": name} | difficulty(signal, found.best(), place, excerpt.document)
            for name, signal in known.items()
            if signal is not None
        ]

    def _losses(self, steps: int, candidates: int = 1) -> np.ndarray:
        return self.answers[steps].best(candidates).mean(1)  # (n,)

    def _row(self, steps: int, candidates: int, size: int) -> dict:
        bits = self.answers[steps].best(candidates).sum(dtype=float) / math.log(2) / size
        row = {"steps": steps, "candidates": candidates}
        row |= {"perplexity": self.perplexity(steps, candidates).told(), "bits_per_byte": bits}
        thinks = (steps, candidates) != (self.fewest, 1)
        return row | {"gain": self.gain(steps, candidates).told() if thinks else None}


def think(model: LanguageModel, corpus: Corpus, steps: Sequence[int] = (), candidates: int = 1) -> Thinking:
    """steps: numbers of them besides the model's own; one without energies has neither steps nor candidates."""
    ids, trained = corpus.excerpt.ids, trained_steps(model)
    if trained is None:
        return Thinking(corpus, {1: answer(model, ids, None)}, trained=1)
    return Thinking(corpus, {k: answer(model, ids, k, candidates) for k in sorted({*steps, trained})}, trained)


def distances(thinkings: Sequence[Thinking]) -> list[Estimate]:
    """Degrees of the corpora of one model, by its fewest steps; home comes first."""
    found = [thinking.perplexity(thinking.fewest) for thinking in thinkings]
    return [degree(here, found[0]) for here in found]


def relations(thinkings: Sequence[Thinking], away: Sequence[Estimate]) -> list[dict]:
    """Of degree and gain over the corpora of one model: of thinking longest, and of that with the most candidates."""
    first = thinkings[0]
    if first.longest == first.fewest:  # nothing to gain
        return []
    ways = [{"steps": first.longest, "candidates": n} for n in sorted({1, first.most})]
    return [way | relation(away, [thinking.gain(**way) for thinking in thinkings]) for way in ways]
