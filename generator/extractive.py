"""The reasoner that needs no language model: it quotes the sentences that answer, or abstains.

It never writes a word of its own, so every sentence is a quotation with its source, and it says
so by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siloquy.generator.cite import support
from siloquy.ports import Embedder
from siloquy.text import sentence_spans, terms, words
from siloquy.types import Draft, Sentence, Source

NAME = "extractive-1 (quotes, writes nothing)"
MOST_ENCODED = 24
MOST_SENTENCES = 4
LEAST_SUPPORT = 0.6
LEAST_TERMS = 0.5
WORD_WEIGHT = 0.25
NEAR_BEST = 0.25
SAME = 0.9
_SHORTEST, _LONGEST = 20, 600
_STEM = 5


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
        vectors = self._embedder.encode([question, *(quote.text for quote in quotes)])
        scores = vectors[1:] @ vectors[0] + WORD_WEIGHT * overlaps(question, quotes)
        chosen = [quotes[i] for i in pick(vectors[1:], scores)]
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
        found = _stems(" ".join(f"{source.title} {source.text}" for source in sources))
        wanted = _stems(" ".join(terms(question)))
        if len(wanted & found) < LEAST_TERMS * len(wanted):
            return "the passages do not speak of what the question names"
        return ""


def quotes_of(sources: Sequence[Source]) -> list[Quote]:
    """Every sentence of the sources that is neither a scrap nor a wall of text."""
    return [
        Quote(source, source.text[start:end])
        for source in sources
        for start, end in sentence_spans(source.text)
        if _SHORTEST <= end - start <= _LONGEST and not source.text[start:end].endswith("?")
    ]


def prefilter(question: str, quotes: Sequence[Quote]) -> list[Quote]:
    """At most 24 quotes by shared words and their source's score: encoding is what costs."""
    worth = overlaps(question, quotes) + np.array([quote.source.score for quote in quotes])
    order = np.argsort(-worth, kind="stable")[:MOST_ENCODED]
    return [quotes[i] for i in order]


def overlaps(question: str, quotes: Sequence[Quote]) -> NDArray[np.float64]:
    """Share of the question's words that each quote holds, its title's counting half."""
    wanted = _stems(" ".join(terms(question)))
    if not wanted:
        return np.zeros(len(quotes))
    return np.array([_overlap(wanted, quote) for quote in quotes])


def _overlap(wanted: frozenset[str], quote: Quote) -> float:
    said = wanted & _stems(quote.text)
    titled = (wanted & _stems(quote.source.title)) - said
    return (len(said) + 0.5 * len(titled)) / len(wanted)


def pick(vectors: NDArray[np.float32], scores: NDArray[np.float64]) -> list[int]:
    """At most four rows near the best score, none saying the same twice, best first."""
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if scores[i] < scores.max() - NEAR_BEST or len(chosen) == MOST_SENTENCES:
            break
        if all(float(vectors[i] @ vectors[j]) < SAME for j in chosen):
            chosen.append(i)
    return chosen


def _stems(text: str) -> frozenset[str]:
    return frozenset(word[:_STEM] for word in words(text))
