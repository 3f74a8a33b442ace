"""Released passages reranked at the gateway, by its own cosines and their words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from siloquy.text import ranking
from siloquy.text.ranking import bm25_of_word, indexed
from siloquy.types import Passage, Term, Vector


def rerank(passages: Sequence[Passage], cosines: Vector, terms: Sequence[Term]) -> list[int]:
    """Rows of the passages by the hybrid score of open mode, best first.

    What a sealed question released was found by the vector alone. BM25 is weighed here as silos
    weigh it, but with the average length of these passages.

    cosines   (n,) to the question
    """
    if not passages:
        return []
    with closing(indexed((p.title, p.text) for p in passages)) as scratch:
        lexical = np.zeros(len(passages))
        for term in terms:
            rows, values = bm25_of_word(scratch, term.word, len(passages))
            lexical[rows] += term.weight * values
    scores = ranking.hybrid_scores(cosines.astype(np.float64), lexical)
    return [int(i) for i in np.argsort(-scores, kind="stable")]


def ranked_between(n: int, anchors: Sequence[int], cosines: Vector) -> Vector:
    """(n,) cosines of passages in falling order, of which those at ``anchors`` are known.

    anchors   ranks, rising, the first and the last among them
    """
    falling = np.minimum.accumulate(np.asarray(cosines, dtype=np.float64))
    return np.asarray(np.interp(np.arange(n), anchors, falling), dtype=np.float32)
