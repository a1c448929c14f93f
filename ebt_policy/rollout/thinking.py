"""What thinking gains one language model on one text, as the rows of a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebt_policy.rollout.difficulty import difficulty, places
from ebt_policy.rollout.gain import Estimate, bits, degree, gain, perplexity, relation
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

    def bits(self, steps: int, candidates: int = 1) -> Estimate:
        """A byte."""
        excerpt, losses = self.corpus.excerpt, self._losses(steps, candidates)
        return bits(losses * (excerpt.ids.shape[1] - 1), excerpt.bytes, excerpt.document, self.corpus.seed)

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

    def rows(self, candidates: Sequence[int]) -> list[dict]:
        """A row for every number of steps and of candidates that there is, and for one candidate; rising."""
        return [self._row(k, n) for k in self.answers for n in sorted({1, *candidates}) if n <= self.most]

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

    def _row(self, steps: int, candidates: int) -> dict:
        way = {"steps": steps, "candidates": candidates}
        least = way == {"steps": self.fewest, "candidates": 1}
        figures = {"perplexity": self.perplexity(**way), "bits_per_byte": self.bits(**way)}
        figures |= {"gain": None if least else self.gain(**way)}
        return way | {name: figure and figure.told() for name, figure in figures.items()}


def think(model: LanguageModel, corpus: Corpus, steps: Sequence[int] = (), candidates: int = 1) -> Thinking:
    """steps: numbers of them besides the model's own; one without energies has neither steps nor candidates."""
    ids, trained = corpus.excerpt.ids, trained_steps(model)
    if trained is None:
        return Thinking(corpus, {1: answer(model, ids, None)}, trained=1)
    return Thinking(corpus, {k: answer(model, ids, k, candidates) for k in sorted({*steps, trained})}, trained)


def distances(thinkings: Sequence[Thinking]) -> list[Estimate]:
    """Degrees of the corpora of one model, by its fewest steps; home comes first."""
    found = [thinking.bits(thinking.fewest) for thinking in thinkings]
    return [degree(here, found[0]) for here in found]


def relations(thinkings: Sequence[Thinking], away: Sequence[Estimate]) -> list[dict]:
    """Of degree and gain over the corpora of one model: of thinking longest, and of that with the most candidates."""
    first = thinkings[0]
    if first.longest == first.fewest:  # nothing to gain
        return []
    ways = [{"steps": first.longest, "candidates": n} for n in sorted({1, first.most})]
    return [way | relation(away, [thinking.gain(**way) for thinking in thinkings]) for way in ways]
