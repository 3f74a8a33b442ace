"""Evidence: from released passages to what the generator may read. Pure.

Near-duplicates go, the rest is chosen by relevance and diversity, and silos whose claimed scores
do not fit the gateway's own are flagged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siloquy.text import words
from siloquy.types import NodeId, Passage, Source, Vector

DUPLICATE_OVERLAP = 0.85
SHINGLE = 5
DIVERSITY = 0.3
CLAIM_TOLERANCE = 0.02
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_DENIALS = frozenset("no not never without cannot neither nor none avoid contraindicated".split())


@dataclass(frozen=True, slots=True)
class Evidence:
    """Chosen sources in citation order and silos whose claims do not fit, with the reason."""

    sources: tuple[Source, ...]
    flagged: dict[str, str]


def select(
    passages: Sequence[Passage],
    vectors: Vector,
    queries: Vector,
    of_query: Sequence[int],
    most: int,
) -> Evidence:
    """At most ``most`` sources by maximal marginal relevance, numbered from 1.

    passages   (n) released winners
    vectors    (n, d) the gateway's own embeddings of them
    queries    (q, d) what was asked for; a passage counts by the query that it fits best
    of_query   (n) which query each passage was released for: its silo claimed a cosine to that
    """
    if not passages:
        return Evidence((), {})
    cosines = vectors @ queries.T
    scores = cosines.max(axis=1)
    kept = distinct([passage.text for passage in passages], scores)
    order = _diverse(vectors, scores, kept, most)
    sources = tuple(_source(n, passages[i], float(scores[i])) for n, i in enumerate(order, start=1))
    return Evidence(sources, check_claims(passages, cosines[np.arange(len(passages)), of_query]))


def unscored(passages: Sequence[Passage]) -> tuple[Source, ...]:
    """Sources by the similarity that their silos claim, for when there is no time to check it."""
    claims = np.array([passage.dense for passage in passages], dtype=np.float32).clip(-1, 1)
    order = distinct([passage.text for passage in passages], claims)
    return tuple(_source(n, passages[i], float(claims[i])) for n, i in enumerate(order, start=1))


def distinct(texts: Sequence[str], scores: NDArray[np.float32]) -> list[int]:
    """Rows of texts that repeat no better scored one; best first.

    A near-copy with a number or a denial of its own is no repetition: two hospitals' versions of
    one guideline may differ in the dose alone.
    """
    shingles = [_shingles(text) for text in texts]
    values = [_values(text) for text in texts]
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        repeated = any(
            values[i] <= values[j] and overlap(shingles[i], shingles[j]) >= DUPLICATE_OVERLAP
            for j in kept
        )
        if not repeated:
            kept.append(i)
    return kept


def _values(text: str) -> frozenset[str]:
    """Numbers and denials of a text."""
    return frozenset(_NUMBER.findall(text)) | (_DENIALS & frozenset(words(text)))


def overlap(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    """Share of the smaller set that is in the other, in [0, 1]; 0 when one is empty."""
    smaller = min(len(a), len(b))
    return len(a & b) / smaller if smaller else 0.0


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    found = words(text)
    width = min(SHINGLE, len(found))
    return frozenset(zip(*(found[i:] for i in range(width)), strict=False))


def _diverse(
    vectors: Vector, scores: NDArray[np.float32], candidates: Sequence[int], most: int
) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998)."""
    left, chosen = list(candidates), list[int]()
    while left and len(chosen) < most:
        repeats = (vectors[left] @ vectors[chosen].T).max(axis=1) if chosen else 0.0
        values = (1 - DIVERSITY) * scores[left] - DIVERSITY * repeats
        chosen.append(left.pop(int(np.argmax(values))))
    return chosen


def check_claims(passages: Sequence[Passage], scores: NDArray[np.float32]) -> dict[str, str]:
    """Silos that claimed a cosine which differs from the gateway's own by more than .02."""
    worst: dict[NodeId, float] = {}
    for passage, score in zip(passages, scores, strict=True):
        gap = abs(passage.dense - float(score))
        worst[passage.silo] = max(worst.get(passage.silo, 0.0), gap)
    return {
        silo: f"claimed a similarity {gap:.2f} away from its passage's"
        for silo, gap in worst.items()
        if gap > CLAIM_TOLERANCE
    }


def _source(n: int, passage: Passage, score: float) -> Source:
    return Source(
        n=n,
        silo=passage.silo,
        document=passage.document,
        title=passage.title,
        text=passage.text,
        start=passage.start,
        end=passage.end,
        score=round(score, 4),
    )
