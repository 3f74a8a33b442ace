"""The sentences of the sources, and how much of a question's words they hold. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siloquy.text import sentence_spans, terms, words
from siloquy.types import Source

_SHORTEST, _LONGEST = 20, 600
_STEM = 5
_HEADING = re.compile(r"#|valid from|owner:|patient:|\W*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of a source: ``start`` and ``end`` are its place in the source's text."""

    source: Source
    start: int
    end: int
    text: str


def quotes_of(sources: Sequence[Source]) -> list[Quote]:
    """Every sentence of the sources that is neither a scrap nor a wall of text."""
    return [
        Quote(source, start, end, source.text[start:end])
        for source in sources
        for start, end in sentence_spans(source.text)
        if _SHORTEST <= end - start <= _LONGEST and _states(source.text[start:end])
    ]


def _states(sentence: str) -> bool:
    """Whether a sentence says something: no heading, no letterhead, no question."""
    return not sentence.endswith("?") and not _HEADING.match(sentence)


def rarity(question: str, texts: Sequence[frozenset[str]]) -> dict[str, float]:
    """Inverse document frequency of the question's words among ``texts``."""
    return {
        stem: float(np.log((len(texts) + 1) / (sum(stem in text for text in texts) + 0.5)))
        for stem in stems(" ".join(terms(question)))
    }


def overlaps(question: str, quotes: Sequence[Quote]) -> NDArray[np.float64]:
    """Share of the question's words that each quote holds, by rarity; its title's count half."""
    said = [stems(quote.text) for quote in quotes]
    titles = [stems(quote.source.title) for quote in quotes]
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


def stems(text: str) -> frozenset[str]:
    """The words of a text cut to five letters: endings tell little."""
    return frozenset(word[:_STEM] for word in words(text))
