"""Passages of a document: sentence-aware, token-bounded, with stable ids and offsets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from siloquy.silo_node.reading.document import Document
from siloquy.text.words import sentence_spans
from siloquy.types import DocumentId, PassageId

Tokens = Callable[[Sequence[str]], list[NDArray[np.int64]]]
"""For each text the sorted character offsets at which its word pieces start."""

TITLE_PIECES = 64

_LAST_WORD = re.compile(r"\s(\S+)\Z")


@dataclass(frozen=True, slots=True)
class Span:
    """Character offsets of a passage in its document's text, ``end`` exclusive."""

    start: int
    end: int


def passage_id(document: DocumentId, span: Span) -> PassageId:
    """Where the passage lies, as a name.

    >>> passage_id(DocumentId("sepsis.md"), Span(0, 12))
    'sepsis.md:0-12'
    """
    return PassageId(f"{document}:{span.start}-{span.end}")


def load_tokens(tokenizer_json: Path) -> Tokens:
    """The encoder's own tokenizer, without special tokens."""
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def tokens(texts: Sequence[str]) -> list[NDArray[np.int64]]:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array([start for start, _ in e.offsets], dtype=np.int64) for e in encodings]

    return tokens


def passages(documents: Sequence[Document], tokens: Tokens, limit: int) -> list[list[Span]]:
    """Spans of each document, so that title and passage together keep to ``limit`` word pieces.

    A title counts for at most 64 word pieces and half of ``limit``; a longer one makes the
    embedded text exceed it, and the encoder cuts the passage's end off.
    """
    texts = tokens([document.text for document in documents])
    titles = tokens([document.title for document in documents])
    return [
        chunk(document.text, starts, limit - _title_pieces(document.title, title, limit))
        for document, starts, title in zip(documents, texts, titles, strict=True)
    ]


def _title_pieces(title: str, starts: NDArray[np.int64], limit: int) -> int:
    # One token more for the full stop of embedded_text.
    return min(len(starts) + 1, TITLE_PIECES, limit // 2) if title else 0


def chunk(text: str, starts: NDArray[np.int64], limit: int) -> list[Span]:
    """Whole sentences packed from the front into spans of at most ``limit`` word pieces.

    A longer sentence is cut; a single character of more word pieces stands alone. Spans are in
    order and disjoint, begin and end with a non-space character, and leave out only white space.

    starts   (n,) offsets in ``text`` at which its word pieces start, sorted
    limit    at least 1
    """
    spans: list[Span] = []
    for start, end in sentence_spans(text):
        for piece in _pieces(text, starts, Span(start, end), limit):
            if spans and _count(starts, spans[-1].start, piece.end) <= limit:
                spans[-1] = Span(spans[-1].start, piece.end)
            else:
                spans.append(piece)
    return spans


def _pieces(text: str, starts: NDArray[np.int64], sentence: Span, limit: int) -> Iterator[Span]:
    """``sentence`` in pieces of at most ``limit`` word pieces."""
    start = sentence.start
    while start < sentence.end:
        end = _cut(text, starts, Span(start, sentence.end), limit)
        yield Span(start, start + len(text[start:end].rstrip()))
        while end < sentence.end and text[end].isspace():
            end += 1
        start = end


def _cut(text: str, starts: NDArray[np.int64], rest: Span, limit: int) -> int:
    """Where the first piece of ``rest`` ends: between words if that costs at most 15 % of it."""
    if _count(starts, rest.start, rest.end) <= limit:
        return rest.end
    first = int(np.searchsorted(starts, rest.start))
    cut = max(int(starts[first + limit]), rest.start + 1)
    earliest = cut - (cut - rest.start) * 15 // 100
    word = None if text[cut - 1].isspace() else _LAST_WORD.search(text, earliest, cut)
    return word.start(1) if word else cut


def _count(starts: NDArray[np.int64], start: int, end: int) -> int:
    """Word pieces that start in [start, end)."""
    first, last = np.searchsorted(starts, (start, end))
    return int(last - first)
