"""The citation check of version 0.1.0: the baseline that its successor is measured beside."""

from __future__ import annotations

import re
from collections.abc import Sequence

from siloquy.text.words import STOP_WORDS, sentence_spans, words
from siloquy.types import Source

LEAST_SUPPORT = 0.6
_QUANTITY = re.compile(r"(\d+(?:[.,]\d+)*)\s*(%|[^\W\d_]+(?:/[^\W\d_]+)*)?")
_NEGATIONS = frozenset("no not never without cannot neither nor none avoid contraindicated".split())


def flags(sentence: str, sources: Sequence[Source]) -> bool:
    """Whether no source holds the sentence's words, numbers and negations."""
    return all(_support(sentence, source.text) < LEAST_SUPPORT for source in sources)


def _support(sentence: str, source: str) -> float:
    told = [source[start:end] for start, end in sentence_spans(source)]
    if any(" ".join(sentence.split()) == " ".join(piece.split()) for piece in told):
        return 1.0
    parts = [sentence[start:end] for start, end in sentence_spans(sentence)]
    return min((_carried(part, source, told) for part in parts), default=0.0)


def _carried(sentence: str, source: str, told: Sequence[str]) -> float:
    content = [word for word in words(sentence) if word not in STOP_WORDS] or words(sentence)
    near = max(told, key=lambda piece: len(set(content) & set(words(piece))), default="")
    if not content or _numbers(sentence) - _numbers(near) or _denied(sentence) != _denied(near):
        return 0.0
    known = set(words(source))
    return sum(word in known for word in content) / len(content)


def _numbers(text: str) -> set[str]:
    return {f"{number} {unit.lower()}" for number, unit in _QUANTITY.findall(text)}


def _denied(text: str) -> frozenset[str]:
    return _NEGATIONS & set(words(text))
