"""Measures of a choice of silos: (n, S) scores of a router against (n, S) held passages. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siloquy.eval.scene import Floats, Offers

KEPT = (0.90, 0.95, 0.97, 0.98, 0.99)
PARTS = (0.33, 0.48, 0.50, 0.60)


def chosen(scores: Floats, mean: float) -> NDArray[np.bool_]:
    """(n, S) the pairs of highest score, ``mean`` silos a question; each question's best always."""
    first = with_first(scores)
    order = np.argsort(-first, axis=None, kind="stable")
    asked = np.zeros(scores.size, dtype=bool)
    asked[order[: max(round(mean * len(scores)), len(scores))]] = True
    return asked.reshape(scores.shape)


def above(scores: Floats, threshold: float) -> NDArray[np.bool_]:
    """(n, S) the pairs that reach a threshold; each question's best always."""
    return np.asarray(with_first(scores) >= threshold)


def with_first(scores: Floats) -> Floats:
    """Scores with each question's best at infinity: it is always asked."""
    scores = scores.copy()
    scores[np.arange(len(scores)), scores.argmax(axis=1)] = np.inf
    return scores


def kept(asked: NDArray[np.bool_], held: Floats) -> Floats:
    """(n,) share of the central ten best that the asked silos hold."""
    return np.asarray((held * asked).sum(axis=1) / np.maximum(held.sum(axis=1), 1))


def silos_for(scores: Floats, held: Floats, wanted: float) -> float:
    """Mean silos asked when one threshold keeps the wanted share on average."""
    shares = held / np.maximum(held.sum(axis=1, keepdims=True), 1)
    order = np.argsort(-with_first(scores), axis=None, kind="stable")
    reached = np.cumsum(shares.ravel()[order]) / len(scores)
    enough = int(np.searchsorted(reached, wanted * reached[-1] - 1e-9))
    return max(enough + 1, len(scores)) / len(scores)


def ndcg(scores: Floats, held: Floats, k: int = 3) -> Floats:
    """(n,) nDCG@k of the order of silos, gain: the passages held."""
    discounts = 1 / np.log2(np.arange(2, 2 + min(k, held.shape[1])))
    order = np.argsort(-scores, axis=1, kind="stable")[:, : len(discounts)]
    best = -np.sort(-held, axis=1)[:, : len(discounts)] @ discounts
    got = np.take_along_axis(held, order, axis=1) @ discounts
    return np.asarray(got / np.maximum(best, 1e-12))


def recall(
    asked: NDArray[np.bool_], offers: Sequence[Offers], relevant: Sequence[frozenset[int]]
) -> Floats:
    """(n,) recall@10 of relevant documents among the asked silos; NaN where none is judged."""
    values = np.full(len(offers), np.nan)
    for row, (offer, wanted) in enumerate(zip(offers, relevant, strict=True)):
        if wanted:
            found = offer.best_documents(asked[row])
            values[row] = len(wanted & set(found.tolist())) / len(wanted)
    return values


def all_hit(
    asked: NDArray[np.bool_], relevant: Sequence[frozenset[int]], of: NDArray[np.int64]
) -> Floats:
    """(n,) whether every silo with a relevant document is asked; NaN where none is judged."""
    values = np.full(len(asked), np.nan)
    for row, wanted in enumerate(relevant):
        if wanted:
            values[row] = float(asked[row][of[list(wanted)]].all())
    return values
