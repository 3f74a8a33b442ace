"""Evidence: from released passages to what the generator may read. Pure.

Near-duplicates go, the rest is chosen by relevance and diversity, and silos whose claimed scores
do not fit the passages themselves are flagged.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from siloquy.text.ranking import bm25_of_word, indexed, most_bm25
from siloquy.text.words import words
from siloquy.types import Passage, Source, Term, Vector

DUPLICATE_OVERLAP = 0.85
SHINGLE = 5
DIVERSITY = 0.3
CLAIM_TOLERANCE = 0.02
# How far a claimed BM25 may be above what its words come to: this share, and this much.
WORD_TOLERANCE = 0.01
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_DENIALS = frozenset("no not never without cannot neither nor none avoid contraindicated".split())


@dataclass(frozen=True, slots=True)
class Claims:
    """What became of the silos' claims.

    flagged           silos with a claim that does not fit, and why
    verified, false   passages of each silo whose claims fit and do not; a silo of none is left out
    """

    flagged: dict[str, str]
    verified: dict[str, int]
    false: dict[str, int]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Chosen sources in citation order, and what became of the silos' claims, see ``Claims``.

    Every passage is checked, also one that is not chosen.
    """

    sources: tuple[Source, ...]
    flagged: dict[str, str]
    verified: dict[str, int] = field(default_factory=dict)
    false: dict[str, int] = field(default_factory=dict)


def select(
    passages: Sequence[Passage],
    vectors: Vector,
    queries: Vector,
    of_query: Sequence[int],
    most: int,
    terms: Sequence[Sequence[Term]] = (),
    kept: Sequence[int] | None = None,
) -> Evidence:
    """At most ``most`` sources by maximal marginal relevance, numbered from 1.

    passages   (n) released winners
    vectors    (n, d) the gateway's own embeddings of them
    queries    (q, d) what was asked for; a passage counts by the query that it fits best
    of_query   (n) which query each passage was released for: its silo claimed scores for that
    terms      (q) weighted words of each query; empty: claims of matching words are not checked
    kept       rows of the passages that may become sources; None: all
    """
    if not passages:
        return Evidence((), {})
    cosines = vectors @ queries.T
    scores = cosines.max(axis=1)
    rows = range(len(passages)) if kept is None else kept
    different = distinct([passages[i].text for i in rows], scores[list(rows)])
    order = _diverse(vectors, scores, [rows[i] for i in different], most)
    sources = tuple(_source(n, passages[i], float(scores[i])) for n, i in enumerate(order, start=1))
    own = cosines[np.arange(len(passages)), of_query]
    asked = [terms[query] for query in of_query] if terms else ()
    claims = check_claims(passages, own, asked, of_query)
    return Evidence(sources, claims.flagged, claims.verified, claims.false)


def unscored(passages: Sequence[Passage]) -> tuple[Source, ...]:
    """Sources by the similarity that their silos claim, for when there is no time to check it.

    Passages of sealed questions, which claim none, keep their order and score 0.
    """
    told = [0.0 if passage.dense is None else passage.dense for passage in passages]
    claims = np.array(told, dtype=np.float32).clip(-1, 1)
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


def check_claims(
    passages: Sequence[Passage],
    scores: NDArray[np.float32],
    terms: Sequence[Sequence[Term]] = (),
    of_query: Sequence[int] = (),
) -> Claims:
    """Which claims fit the passages, by silo.

    Passages of sealed questions claim no score: theirs is the rank that they won with, and one
    that stands above others which fit better claimed too much.

    passages   of each query in the order in which they won
    scores     (n) the gateway's own cosines; a claim may be .02 off
    terms      (n) what each passage was searched by; a claimed BM25 may be what the words that it
               holds can come to. Empty: not checked
    of_query   (n) which query each passage won for: ranks of two say nothing of each other.
               Empty: one for all
    """
    gaps = _gaps(passages, scores, of_query or [0] * len(passages))
    held = _words_held(passages, terms) if terms else [True] * len(passages)
    checked = list(zip(passages, gaps, held, strict=True))
    false = Counter[str](p.silo for p, gap, words in checked if gap > CLAIM_TOLERANCE or not words)
    verified = Counter[str](passage.silo for passage in passages) - false
    flagged = {
        silo: _told([(gap, words) for p, gap, words in checked if p.silo == silo]) for silo in false
    }
    return Claims(flagged, dict(verified), dict(false))


def _gaps(
    passages: Sequence[Passage], scores: NDArray[np.float32], of_query: Sequence[int]
) -> list[float]:
    """How far each claim is from the passage's own score."""
    own = [float(score) for score in scores]
    gaps = [
        abs(p.dense - s) if p.dense is not None else 0.0 for p, s in zip(passages, own, strict=True)
    ]
    ranked = defaultdict[int, list[int]](list)
    for i, (passage, query) in enumerate(zip(passages, of_query, strict=True)):
        if passage.dense is None:
            ranked[query].append(i)
    for rows in ranked.values():
        for i, gap in zip(rows, overrated([own[i] for i in rows]), strict=True):
            gaps[i] = gap
    return gaps


def overrated(scores: Sequence[float]) -> list[float]:
    """How much better a later one is, for each that was ranked too high; 0 for the others.

    The longest run of ranks that fit, each within the tolerance of those before it, is believed:
    one passage that was ranked too low makes no liar of all above it.
    """
    believed = _consistent(scores)
    best_below = [
        max((scores[j] for j in believed if j > i), default=-1.0) for i in range(len(scores))
    ]
    return [
        max(below - score, 0.0) if i not in believed and below - score > CLAIM_TOLERANCE else 0.0
        for i, (score, below) in enumerate(zip(scores, best_below, strict=True))
    ]


def _consistent(scores: Sequence[float]) -> set[int]:
    """Places of the longest subsequence in which none is better than one before it allows."""
    length, before = [1] * len(scores), [-1] * len(scores)
    for i, score in enumerate(scores):
        for j in range(i):
            if scores[j] + CLAIM_TOLERANCE >= score and length[j] + 1 > length[i]:
                length[i], before[i] = length[j] + 1, j
    at = int(np.argmax(length)) if length else -1
    found = set[int]()
    while at >= 0:
        found.add(at)
        at = before[at]
    return found


def _told(checked: Sequence[tuple[float, bool]]) -> str:
    """What is wrong with the claims of one silo's passages: gap of the cosine, words held."""
    worst = max(gap for gap, _ in checked)
    near, held = worst <= CLAIM_TOLERANCE, all(words for _, words in checked)
    reasons = {
        f"claimed a similarity {worst:.2f} away from its passage's": near,
        "claimed matching words that its passage does not hold": held,
    }
    return "; ".join(reason for reason, fits in reasons.items() if not fits)


def _words_held(passages: Sequence[Passage], terms: Sequence[Sequence[Term]]) -> list[bool]:
    """Whether each passage holds words enough for the BM25 that it won with.

    Words are matched as silos match them, by FTS5: a rule of prefixes would take "used" and
    "using", or "cafe" and "café", for different words and call an honest silo a liar.
    """
    asked_words = {term.word for asked in terms for term in asked}
    with closing(indexed((p.title, p.text) for p in passages)) as scratch:
        found = {
            word: set(bm25_of_word(scratch, word, len(passages))[0].tolist())
            for word in asked_words
        }
    bounds = [
        most_bm25(term for term in asked if n in found[term.word]) for n, asked in enumerate(terms)
    ]
    return [
        (passage.lexical or 0.0) <= bound * (1 + WORD_TOLERANCE) + WORD_TOLERANCE
        for passage, bound in zip(passages, bounds, strict=True)
    ]


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
        section=passage.section,
        dated=passage.dated,
    )
