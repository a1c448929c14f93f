"""Is a token's energy a signal of how hard it is? Energies beside cross-entropies, by place and calibrated.

    place      what the model is about to write, by its own likeliest token: it begins a word, goes on with one, or is
               something else (digits, punctuation, white space); known before the truth is
    raw        Spearman's rho between a signal and the cross-entropy, over all tokens
    by place   the same among the tokens of one place
    calibrated rho between the cross-entropy and what tokens of the same place and the same tenth of the signal had on
               average; learned from every other document and measured on the rest, and the other way round
    place alone  the same without any signal: what tokens of the same place had on average

What this is: a ranking of tokens within the texts at hand. What it is not: a probability, or a doubt that can be held
against a threshold elsewhere. Training supervises the gradient of the energy alone, so energies of different contexts
differ by offsets that nothing has learned; where rho is far from 0 it is a finding, not a property of the method.
The entropy of the predicted distribution, which every language model has, is the rival that the energy has to beat.
"""

from __future__ import annotations

import numpy as np

from ebt_policy.rollout.gain import spearman
from ebt_policy.rollout.stats import percentiles

BINS = 10
DRAWS = 200
PLACES = ("begins a word", "goes on with a word", "something else")


def places(pieces: list[str], seen: np.ndarray, next_token: np.ndarray) -> np.ndarray:
    """Of tokens `next_token` after tokens `seen`, ids of one shape -> numbers of PLACES of that shape.

    pieces (V,): the text of each token; part of a letter is U+FFFD.
    """
    bare = [piece.removeprefix(" ") for piece in pieces]
    word = np.array([_is_letter(piece[:1]) for piece in bare])
    spaced = np.array([piece.startswith(" ") for piece in pieces])
    in_word = np.array([_is_letter(piece[-1:]) for piece in pieces])
    goes_on = in_word[seen] & ~spaced[next_token]
    return np.where(word[next_token], np.where(goes_on, 1, 0), 2)


def difficulty(signal: np.ndarray, loss: np.ndarray, place: np.ndarray, document: np.ndarray) -> dict:
    """signal, cross-entropy and place of tokens (n, T), and the documents of their rows (n,)."""
    of_place = _expected(np.zeros_like(signal), loss, place, document)
    return {
        "raw": _with_interval(signal, loss, document),
        "by_place": {name: _within(signal, loss, place == i) for i, name in enumerate(PLACES)},
        "calibrated": _with_interval(_expected(signal, loss, place, document), loss, document),
        "place_alone": {"value": float(spearman(of_place.ravel(), loss.ravel()))},
    }


def _within(signal: np.ndarray, loss: np.ndarray, chosen: np.ndarray) -> dict:
    return {"value": float(spearman(signal[chosen], loss[chosen])), "share": float(chosen.mean())}


def _with_interval(signal: np.ndarray, loss: np.ndarray, document: np.ndarray) -> dict:
    """Rank correlation of tokens (n, T), and of resamples of their documents."""
    rows, rng = [np.flatnonzero(document == d) for d in np.unique(document)], np.random.default_rng(0)
    samples = (rng.integers(len(rows), size=len(rows)) for _ in range(DRAWS))
    resamples = [np.concatenate([rows[i] for i in sample]) for sample in samples]
    draws = np.array([spearman(signal[taken].ravel(), loss[taken].ravel()) for taken in resamples])
    return {"value": float(spearman(signal.ravel(), loss.ravel())), "interval": list(percentiles(draws))}


def _expected(signal: np.ndarray, loss: np.ndarray, place: np.ndarray, document: np.ndarray) -> np.ndarray:
    """Cross-entropy (n, T) to be expected by the other half of the documents; the same everywhere if there is none."""
    _, number = np.unique(document, return_inverse=True)
    odd = np.broadcast_to((number % 2 == 1)[:, None], loss.shape)
    expected = np.full(loss.shape, loss.mean())
    for half in (odd, ~odd):
        for i in range(len(PLACES)):
            known, asked = ~half & (place == i), half & (place == i)
            if known.any():
                expected[asked] = _means_by_bin(signal[known], loss[known], signal[asked])
    return expected


def _means_by_bin(signal: np.ndarray, loss: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Means of the losses (m,) in bins of equally many signals (m,), looked up for other signals (k,) -> (k,)."""
    edges = np.quantile(signal, np.arange(1, BINS) / BINS)
    bins = np.searchsorted(edges, signal)
    sums, counts = np.bincount(bins, loss, BINS), np.bincount(bins, minlength=BINS)
    means = np.where(counts, sums / np.maximum(counts, 1), loss.mean())
    return means[np.searchsorted(edges, asked)]


def _is_letter(text: str) -> bool:
    return text.isalpha() or text == "\ufffd"
