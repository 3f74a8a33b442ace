"""Which sentences of a source a sentence rests on. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

from siloquy.generator.checking.facts import Mark, Negation, marks, negations
from siloquy.generator.checking.quantities import Quantity, quantities
from siloquy.generator.words.stems import Token, content, tokens_of
from siloquy.text.words import sentence_spans

_NEAR_BEST = 0.8
_MOST_WINDOWS = 6
MOST_FACTS = 40
"""Quantities, marks and denials that are read of one sentence; no more of each."""
_MOST_TOKENS = 300
_MOST_DENYING = 4000
_REACH = 8
_APART = 0.5
_CLAIM = 4
_LETTERS = re.compile(r"[^\W_]+")
_BREAK = re.compile(r"[,;:()]|\b(?:and|but|which|who|because|while|whereas|although)\b")
_KEPT = 512


@dataclass(frozen=True, slots=True)
class Read:
    """A sentence with what it states; ``start`` and ``end`` are its place in the source.

    tokens   its words with their places in ``text``
    stems    those that say something
    breaks   where a part of it ends
    """

    text: str
    start: int
    end: int
    tokens: tuple[Token, ...]
    stems: frozenset[str]
    quantities: tuple[Quantity, ...]
    marks: tuple[Mark, ...]
    negations: tuple[Negation, ...]
    breaks: tuple[int, ...]

    @property
    def crowded(self) -> bool:
        """Whether it may state more than was read."""
        facts = (self.quantities, self.marks, self.negations)
        return len(self.tokens) == _MOST_TOKENS or max(map(len, facts)) == MOST_FACTS


@dataclass(frozen=True, slots=True)
class SourceText:
    """A passage read once: its sentences, and what it and its title speak of.

    weights   how much a word tells which of the sentences is meant
    letters   its letters and digits alone, for names that are spelt in several ways
    """

    sentences: tuple[Read, ...]
    stems: frozenset[str]
    marks: frozenset[Mark]
    weights: dict[str, float]
    letters: str


@dataclass(frozen=True, slots=True)
class Window:
    """Neighbouring sentences, and the share of a sentence's words that they hold."""

    sentences: tuple[Read, ...]
    share: float

    @property
    def span(self) -> tuple[int, int]:
        """From the first sentence's start to the last one's end."""
        return min(s.start for s in self.sentences), max(s.end for s in self.sentences)


def read(text: str, start: int = 0) -> Read:
    """A sentence with what it states; of a wall of text no more than can be compared in time."""
    tokens = tokens_of(text)[:_MOST_TOKENS]
    return Read(
        text,
        start,
        start + len(text),
        tuple(tokens),
        frozenset(t.stem for t in tokens if content(t.stem)),
        tuple(quantities(text)[:MOST_FACTS]),
        tuple(marks(text)[:MOST_FACTS]),
        tuple(negations(text[:_MOST_DENYING], tokens)[:MOST_FACTS]),
        tuple(match.start() for match in _BREAK.finditer(text))[:_MOST_TOKENS],
    )


@lru_cache(maxsize=_KEPT)
def read_draft(sentence: str) -> tuple[Read, ...]:
    """The sentences of a draft sentence that say something, for the most part itself."""
    parts = (read(sentence[start:end], start) for start, end in sentence_spans(sentence))
    return tuple(part for part in parts if part.stems)


@lru_cache(maxsize=_KEPT)
def read_source(text: str, title: str) -> SourceText:
    """A passage read sentence by sentence, kept for the next sentence of the same answer."""
    sentences = tuple(read(text[start:end], start) for start, end in sentence_spans(text))
    counts = Counter(word for sentence in sentences for word in sentence.stems)
    n = len(sentences)
    spoken = frozenset(token.stem for token in tokens_of(title))
    return SourceText(
        sentences,
        frozenset(counts) | spoken,
        frozenset(mark for s in sentences for mark in s.marks) | frozenset(marks(title)),
        {word: log(1 + n / count) for word, count in counts.items()},
        letters(f"{title} {text}"),
    )


def windows(said: Read, source: SourceText) -> list[Window]:
    """Single sentences and pairs of neighbours that hold most of ``said``'s words, best first.

    ``said`` has at least one word that says something.
    """
    wanted = {word: source.weights.get(word, 1.0) for word in said.stems}
    total = sum(wanted.values())
    held = [frozenset(wanted) & sentence.stems for sentence in source.sentences]
    shares = [_share(words, wanted, total) for words in held]
    found = [Window((s,), share) for s, share in zip(source.sentences, shares, strict=True)]
    for i in range(len(held) - 1):
        share = _share(held[i] | held[i + 1], wanted, total)
        if share > max(shares[i], shares[i + 1]) + 0.05:
            found.append(Window(source.sentences[i : i + 2], share))
    found.sort(key=lambda window: -window.share)
    return [w for w in found[:_MOST_WINDOWS] if w.share and w.share >= _NEAR_BEST * found[0].share]


def _share(words: Iterable[str], wanted: dict[str, float], total: float) -> float:
    return sum(wanted[word] for word in words) / total


def joined(parts: Sequence[Window], said: Read) -> Window:
    """Windows of several sources as one; its share counts every word once."""
    sentences = tuple(sentence for part in parts for sentence in part.sentences)
    held = frozenset(word for sentence in sentences for word in sentence.stems)
    return Window(sentences, len(said.stems & held) / len(said.stems))


def clauses(said: Read) -> list[frozenset[str]]:
    """Words of each part of a sentence that is long enough to claim something of its own."""
    parts: list[list[str]] = [[]]
    stops = list(said.breaks)
    for token in said.tokens:
        while stops and stops[0] <= token.start:
            stops.pop(0)
            parts.append([])
        parts[-1].append(token.stem)
    found = [frozenset(filter(content, part)) for part in parts]
    return [clause for clause in found if len(clause) >= _CLAIM]


def merged(a: SourceText, b: SourceText) -> SourceText:
    """Two passages as one, for a sentence that draws on both."""
    weights = {**b.weights, **a.weights}
    return SourceText(
        a.sentences + b.sentences,
        a.stems | b.stems,
        a.marks | b.marks,
        weights,
        f"{a.letters} {b.letters}",
    )


def letters(text: str) -> str:
    """Lower-case letters and digits without what stands between them: 'GDF-15' is 'gdf15'."""
    return "".join(_LETTERS.findall(text.lower()))


def context(sentence: Read, start: int, end: int) -> dict[str, float]:
    """What stands around a stretch of a sentence: words, nearer ones worth more.

    Those of another part of the sentence are worth less.
    """
    tokens = [t for t in sentence.tokens if content(t.stem)]
    before = [t for t in tokens if t.end <= start][: -_REACH - 1 : -1]
    after = [t for t in tokens if t.start >= end][:_REACH]
    worth: dict[str, float] = {}
    for row in (before, after):
        for i, token in enumerate(row):
            low, high = min(token.start, start), max(token.end, end)
            apart = any(low < stop < high for stop in sentence.breaks)
            value = (_APART if apart else 1.0) / (2 + i)
            worth[token.stem] = max(worth.get(token.stem, 0.0), value)
    return worth


def likeness(a: dict[str, float], b: dict[str, float]) -> float:
    """How much of two contexts agrees, nearer words more."""
    return sum(min(value, b[word]) for word, value in a.items() if word in b)
