"""The reasoner that needs no language model: it quotes the sentences that answer, or abstains.

It never writes a word of its own, so every sentence is a quotation with its source, and it says
so by its name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from siloquy.generator.abstention import answerable
from siloquy.generator.checking.facts import facts
from siloquy.generator.quotes import Quote, overlaps, quotes_of
from siloquy.generator.untrusted import plain, without_orders
from siloquy.ports import TextEncoder
from siloquy.text.words import embedded_text
from siloquy.types import CitedSpan, Draft, Sentence, Source, Vector

NAME = "extractive-1 (quotes, writes nothing)"
MOST_ENCODED = 24
MOST_SENTENCES = 4
WORD_WEIGHT = 0.5
NEAR_BEST = 0.16
NEAR_BEST_ELSEWHERE = 0.25
SAME = 0.85
PATIENCE_S = 0.8
_HURRIED = "the encoder was busy: sentences were chosen by shared words alone"
_MARKS = re.compile(r"\s*\[\s*\d+(?:\s*[,;-]\s*\d+)*\s*\]")


class Extractive:
    """Answers by quoting at most four sentences, best first."""

    model = NAME

    def __init__(self, encoder: TextEncoder, floor: float, patience_s: float = PATIENCE_S) -> None:
        self._encoder = encoder
        self._floor = floor
        self._patience_s = patience_s

    async def answer(
        self, questions: Sequence[str], sources: Sequence[Source], told: Callable[[Sentence], None]
    ) -> Draft:
        """Quoted sentences with their sources, or an abstention that says why."""
        asked = answerable(questions, sources, self._floor)
        if asked.reason:
            return Draft((), True, asked.reason, extractive=True)
        quotes = quotable(sources)
        if not quotes:
            nothing = "the passages hold no sentence that answers"
            return Draft((), True, nothing, extractive=True)
        sentences: dict[str, Sentence] = {}
        notes = asked.notes
        until = asyncio.get_running_loop().time() + self._patience_s
        for question in asked.questions:
            near = prefilter(question, quotes, MOST_ENCODED // len(asked.questions))
            vectors = await self._vectors(question, near, until)
            if vectors is None:
                notes = (*asked.notes, _HURRIED)
            for quote in _best(question, near, vectors):
                sentence = _sentence(quote)
                if sentence.text not in sentences:
                    sentences[sentence.text] = sentence
                    told(sentence)
        return Draft(tuple(sentences.values()), False, extractive=True, notes=notes)

    async def _vectors(self, question: str, near: Sequence[Quote], until: float) -> Vector | None:
        """Of the question and each quote; None when the encoder is too busy."""
        said = [embedded_text(quote.source.title, quote.text) for quote in near]
        try:
            async with asyncio.timeout_at(until):
                return await self._encoder.encode([question, *said])
        except TimeoutError:
            return None


def _best(question: str, near: Sequence[Quote], vectors: Vector | None) -> list[Quote]:
    """The quotes that answer best: by cosine and shared words, or by shared words alone."""
    shared = WORD_WEIGHT * overlaps(question, near)
    if vectors is None:
        known = np.array([quote.source.score for quote in near])
        return pick(near, np.eye(len(near), dtype=np.float32), known + shared)
    return pick(near, vectors[1:], vectors[1:] @ vectors[0] + shared)


def quotable(sources: Sequence[Source]) -> list[Quote]:
    """Sentences that may be shown: none that links, embeds or speaks to a language model."""
    tame = [replace(source, text=without_orders(source.text)) for source in sources]
    return [quote for quote in quotes_of(tame) if _showable(shown(quote))]


def shown(quote: Quote) -> str:
    """The quotation, without the reference marks of its own document, which are no citations."""
    return " ".join(_MARKS.sub("", quote.text).split())


def _showable(text: str) -> bool:
    return plain(text) and without_orders(text) == text


def _sentence(quote: Quote) -> Sentence:
    n = quote.source.n
    return Sentence(shown(quote), (n,), 1.0, (CitedSpan(n, quote.start, quote.end),))


def prefilter(question: str, quotes: Sequence[Quote], most: int = MOST_ENCODED) -> list[Quote]:
    """At most ``most`` quotes by shared words and their source's score: encoding is what costs."""
    worth = overlaps(question, quotes) + np.array([quote.source.score for quote in quotes])
    order = np.argsort(-worth, kind="stable")[:most]
    return [quotes[i] for i in order]


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
