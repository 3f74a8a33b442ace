"""Evidence: from released passages to what the generator may read. Pure.

Near-duplicates go, the rest is chosen by relevance and diversity, and silos whose claimed scores
do not fit the passages themselves are flagged.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from siloquy.text import TOKENIZER, most_bm25, words
from siloquy.types import Passage, Source, Term, Vector

DUPLICATE_OVERLAP = 0.85
SHINGLE = 5
DIVERSITY = 0.3
CLAIM_TOLERANCE = 0.02
# Relative and absolute.
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
) -> Evidence:
    """At most ``most`` sources by maximal marginal relevance, numbered from 1.

    passages   (n) released winners
    vectors    (n, d) the gateway's own embeddings of them
    queries    (q, d) what was asked for; a passage counts by the query that it fits best
    of_query   (n) which query each passage was released for: its silo claimed scores for that
    terms      (q) weighted words of each query; empty: claims of matching words are not checked
    """
    if not passages:
        return Evidence((), {})
    cosines = vectors @ queries.T
    scores = cosines.max(axis=1)
    kept = distinct([passage.text for passage in passages], scores)
    order = _diverse(vectors, scores, kept, most)
    sources = tuple(_source(n, passages[i], float(scores[i])) for n, i in enumerate(order, start=1))
    own = cosines[np.arange(len(passages)), of_query]
    claims = check_claims(passages, own, [terms[query] for query in of_query] if terms else ())
    return Evidence(sources, claims.flagged, claims.verified, claims.false)


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


def check_claims(
    passages: Sequence[Passage],
    scores: NDArray[np.float32],
    terms: Sequence[Sequence[Term]] = (),
) -> Claims:
    """Which claims fit the passages, by silo.

    scores   (n) the gateway's own cosines; a claim may be .02 off
    terms    (n) what each passage was searched by; a claimed BM25 may be what the words that it
             holds can come to. Empty: not checked
    """
    gaps = [abs(p.dense - float(score)) for p, score in zip(passages, scores, strict=True)]
    held = _words_held(passages, terms) if terms else [True] * len(passages)
    checked = list(zip(passages, gaps, held, strict=True))
    false = Counter[str](p.silo for p, gap, words in checked if gap > CLAIM_TOLERANCE or not words)
    verified = Counter[str](passage.silo for passage in passages) - false
    flagged = {
        silo: _told([(gap, words) for p, gap, words in checked if p.silo == silo]) for silo in false
    }
    return Claims(flagged, dict(verified), dict(false))


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
    rows = [(n, passage.title, passage.text) for n, passage in enumerate(passages)]
    with closing(sqlite3.connect(":memory:")) as scratch:
        scratch.execute(
            f"CREATE VIRTUAL TABLE held USING fts5 (title, text, tokenize = '{TOKENIZER}')"
        )
        scratch.executemany("INSERT INTO held (rowid, title, text) VALUES (?, ?, ?)", rows)
        found = {word: _holders(scratch, word) for word in asked_words}
    bounds = [
        most_bm25(term for term in asked if n in found[term.word]) for n, asked in enumerate(terms)
    ]
    return [
        passage.lexical <= bound * (1 + WORD_TOLERANCE) + WORD_TOLERANCE
        for passage, bound in zip(passages, bounds, strict=True)
    ]


def _holders(scratch: sqlite3.Connection, word: str) -> set[int]:
    rows = scratch.execute("SELECT rowid FROM held WHERE held MATCH ?", (f'"{word}"',))
    return {row[0] for row in rows}


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
