"""The sentences of the sources, and how much of a question's words they hold. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siloquy.generator.words.rare_words import share, stands, weigh
from siloquy.text.words import sentence_spans, terms, words
from siloquy.types import Source

_SHORTEST, _LONGEST = 20, 600
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


def overlaps(question: str, quotes: Sequence[Quote]) -> NDArray[np.float64]:
    """How much of the question's words each quote holds, rare ones more; its title's count half.

    Rare in medicine tells what the question is about, rare among these quotes tells them apart:
    the mean of both quotes gold documents in 96 % of 74 sentences, the latter alone in 91 % of 66
    (31 questions of BioASQ and PubMedQA), and finds more of what must be named.
    """
    weights = weigh(question), _rarity(question, quotes)
    return np.array(
        [np.mean([_overlap(one, quote) for one in weights]) for quote in quotes], dtype=np.float64
    )


def _overlap(weights: Mapping[str, float], quote: Quote) -> float:
    own = share(weights, quote.text)
    return (own + share(weights, f"{quote.source.title} {quote.text}")) / 2


def _rarity(question: str, quotes: Sequence[Quote]) -> dict[str, float]:
    """Inverse document frequency of the question's words among the quotes."""
    said = [frozenset(words(quote.text)) for quote in quotes]
    return {
        word: float(np.log((len(said) + 1) / (sum(stands(word, one) for one in said) + 0.5)))
        for word in terms(question)
    }
