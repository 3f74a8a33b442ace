"""The reasoner that needs no language model: it quotes the sentences that answer, or abstains.

It never writes a word of its own, so every sentence is a quotation with its source, and it says
so by its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siloquy.generator.cite import facts, support
from siloquy.ports import Embedder
from siloquy.text import embedded_text, sentence_spans, terms, words
from siloquy.types import Draft, Sentence, Source

NAME = "extractive-1 (quotes, writes nothing)"
MOST_ENCODED = 24
MOST_SENTENCES = 4
LEAST_SUPPORT = 0.6
# Best cosine plus coverage; set on the 30 questions of the demo hospitals, nothing larger yet.
LEAST_EVIDENCE = 1.15
WORD_WEIGHT = 0.5
NEAR_BEST = 0.12
NEAR_BEST_ELSEWHERE = 0.25
SAME = 0.85
_SHORTEST, _LONGEST = 20, 600
_STEM = 5
_HEADING = re.compile(r"#|valid from|owner:|patient:|\W*$", re.IGNORECASE)
_ASKING = frozenset(
    "soon must many much often long fast need needed given give used use happened started start "
    "recommended allowed first any every within before after during also".split()
)


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of a source."""

    source: Source
    text: str


class Extractive:
    """Answers by quoting at most four sentences, best first."""

    model = NAME

    def __init__(self, embedder: Embedder, floor: float) -> None:
        self._embedder = embedder
        self._floor = floor

    def answer(self, question: str, sources: Sequence[Source]) -> Draft:
        """Quoted sentences with their sources, or an abstention that says why."""
        reason = self._too_thin(question, sources)
        if reason:
            return Draft((), True, reason)
        quotes = prefilter(question, quotes_of(sources))
        if not quotes:
            return Draft((), True, "the passages hold no sentence that answers")
        said = [embedded_text(quote.source.title, quote.text) for quote in quotes]
        vectors = self._embedder.encode([question, *said])
        scores = vectors[1:] @ vectors[0] + WORD_WEIGHT * overlaps(question, quotes)
        chosen = pick(quotes, vectors[1:], scores)
        checked = [(quote, support(quote.text, quote.source.text)) for quote in chosen]
        sentences = tuple(
            Sentence(quote.text, (quote.source.n,), value)
            for quote, value in checked
            if value >= LEAST_SUPPORT
        )
        return Draft(sentences, not sentences, "" if sentences else "no sentence could be checked")

    def _too_thin(self, question: str, sources: Sequence[Source]) -> str:
        best = max((source.score for source in sources), default=0.0)
        if best < self._floor:
            return "no released passage is close enough to the question"
        if best + coverage(question, sources) < LEAST_EVIDENCE:
            return "the passages do not speak of what the question names"
        return ""


def coverage(question: str, sources: Sequence[Source]) -> float:
    """How much of what the question names stands in the sources, in [0, 1].

    Words are weighed by how rare they are among the sources' sentences, so that the one word that
    none of them holds weighs most.
    """
    texts = [_stems(f"{quote.source.title} {quote.text}") for quote in quotes_of(sources)]
    named = " ".join(word for word in terms(question) if word not in _ASKING) or question
    weights = rarity(named, texts)
    found = sum(weight for stem, weight in weights.items() if any(stem in text for text in texts))
    total = sum(weights.values())
    return found / total if total else 0.0


def rarity(question: str, texts: Sequence[frozenset[str]]) -> dict[str, float]:
    """Inverse document frequency of the question's words among ``texts``."""
    return {
        stem: float(np.log((len(texts) + 1) / (sum(stem in text for text in texts) + 0.5)))
        for stem in _stems(" ".join(terms(question)))
    }


def quotes_of(sources: Sequence[Source]) -> list[Quote]:
    """Every sentence of the sources that is neither a scrap nor a wall of text."""
    return [
        Quote(source, source.text[start:end])
        for source in sources
        for start, end in sentence_spans(source.text)
        if _SHORTEST <= end - start <= _LONGEST and _states(source.text[start:end])
    ]


def _states(sentence: str) -> bool:
    """Whether a sentence says something: no heading, no letterhead, no question."""
    return not sentence.endswith("?") and not _HEADING.match(sentence)


def prefilter(question: str, quotes: Sequence[Quote]) -> list[Quote]:
    """At most 24 quotes by shared words and their source's score: encoding is what costs."""
    worth = overlaps(question, quotes) + np.array([quote.source.score for quote in quotes])
    order = np.argsort(-worth, kind="stable")[:MOST_ENCODED]
    return [quotes[i] for i in order]


def overlaps(question: str, quotes: Sequence[Quote]) -> NDArray[np.float64]:
    """Share of the question's words that each quote holds, by rarity; its title's count half."""
    said = [_stems(quote.text) for quote in quotes]
    titles = [_stems(quote.source.title) for quote in quotes]
    weights = rarity(question, said)
    total = sum(weights.values())
    if not total:
        return np.zeros(len(quotes))
    return np.array(
        [
            sum(w * (1.0 if stem in text else 0.5 * (stem in title)) for stem, w in weights.items())
            / total
            for text, title in zip(said, titles, strict=True)
        ]
    )


def pick(
    quotes: Sequence[Quote], vectors: NDArray[np.float32], scores: NDArray[np.float64]
) -> list[Quote]:
    """At most four quotes near the best score, none saying the same twice, best first.

    A silo that is not quoted yet may be further from the best, and alike wording with another
    number or negation is not the same: where hospitals differ, the reader should see both.
    """
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        heard = any(quotes[i].source.silo == quotes[j].source.silo for j in chosen)
        reach = NEAR_BEST if heard or not chosen else NEAR_BEST_ELSEWHERE
        said = any(_same(quotes[i], quotes[j], vectors[i] @ vectors[j]) for j in chosen)
        if not said and scores[i] >= scores.max() - reach and len(chosen) < MOST_SENTENCES:
            chosen.append(i)
    return [quotes[i] for i in chosen]


def _same(a: Quote, b: Quote, similarity: np.float32) -> bool:
    return bool(similarity >= SAME) and facts(a.text) == facts(b.text)


def _stems(text: str) -> frozenset[str]:
    return frozenset(word[:_STEM] for word in words(text))
