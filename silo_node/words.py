"""Which passages hold the words of a question, and what each match is worth: FTS5 behind a cache.

FTS5 walks every match of a word at each query; words come back from question to question, the
common and costly ones most of all. So the matches of a word are kept, packed, until the store
changes.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siloquy.silo_node.index import Ids
from siloquy.text.ranking import bm25_of_word
from siloquy.types import Term

# 8 bytes a match: all words of 20,000 passages of 100 different words.
MOST_BYTES = 16 * 2**20

Matches = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Places among the store's passages, ascending, and BM25 there without the idf."""


class Words:
    """BM25 over one connection's FTS5 table ``words``; as current as the connection is."""

    def __init__(self, connection: sqlite3.Connection, most_bytes: int = MOST_BYTES) -> None:
        self._connection = connection
        self._most_bytes = most_bytes
        self._version = -1
        self.forget()

    def forget(self) -> None:
        """Drop what is kept: this connection has changed the passages."""
        self._kept: OrderedDict[str, Matches] = OrderedDict()
        self._kept_bytes = 0
        self._numbers: Ids | None = None

    def search(self, terms: Sequence[Term]) -> tuple[Ids, NDArray[np.float64]]:
        """Numbers of passages with any of the words, and their weighted BM25, by number.

        The question's weight, the same at every silo, stands in the place of the idf: with
        silo-local idf the federated nDCG@10 on mediqa_sites fell .017 below the central one.
        """
        numbers = self._follow()
        if not len(numbers) or not terms:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        parts = [self._matches(term.word, numbers) for term in terms]
        places = np.concatenate([part[0] for part in parts])
        values = np.concatenate(
            [term.weight * part[1] for term, part in zip(terms, parts, strict=True)]
        )
        summed = np.bincount(places, weights=values, minlength=len(numbers))
        found = np.flatnonzero(np.bincount(places, minlength=len(numbers)))
        return numbers[found], summed[found].astype(np.float64)

    def _follow(self) -> Ids:
        """Numbers of all passages, ascending; what is kept is dropped after another's commit."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self.forget()
            self._version = version
        if self._numbers is None:
            rows = self._connection.execute("SELECT number FROM passages ORDER BY number")
            self._numbers = np.fromiter((row[0] for row in rows), dtype=np.int64)
        return self._numbers

    def _matches(self, word: str, numbers: Ids) -> Matches:
        kept = self._kept.get(word)
        if kept is None:
            kept = self._read(word, numbers)
            self._keep(word, kept)
        else:
            self._kept.move_to_end(word)
        return kept

    def _keep(self, word: str, matches: Matches) -> None:
        self._kept[word] = matches
        self._kept_bytes += _size(matches)
        while self._kept_bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= _size(oldest)

    def _read(self, word: str, numbers: Ids) -> Matches:
        rows, values = bm25_of_word(self._connection, word, len(numbers))
        return np.searchsorted(numbers, rows).astype(np.int32), values.astype(np.float32)


def _size(matches: Matches) -> int:
    # An entry takes memory even when no passage matches.
    return 200 + matches[0].nbytes + matches[1].nbytes
