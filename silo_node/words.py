"""Which passages hold the words of a question, and what each match is worth: FTS5 behind a cache.

FTS5 walks every match of a word at each query; words come back from question to question, the
common and costly ones most of all. So the matches of a word are kept, packed, until the store
changes.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siloquy.silo_node.index import Ids
from siloquy.types import Term

# A word of the title counts twice: +.005 nDCG@10 on mediqa_sites and medquad9.
TITLE_WEIGHT = 2.0
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

        FTS5 gives each match idf * saturation in this silo's own statistics; the idf is divided
        out and the question's weight, the same at every silo, put in its place. With silo-local
        idf the federated nDCG@10 on mediqa_sites fell .017 below the central one, so it does not.
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
        rows = self._connection.execute(
            f"SELECT rowid, bm25(words, {TITLE_WEIGHT}, 1.0) FROM words WHERE words MATCH ?",  # noqa: S608
            (f'"{word}"',),
        )
        table = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.float64).reshape(-1, 2)
        # The idf of SQLite's bm25(), its floor for very common words included.
        total, n = len(numbers), len(table)
        idf = max(np.log((total - n + 0.5) / (n + 0.5)), 1e-6)
        places = np.searchsorted(numbers, table[:, 0].astype(np.int64))
        return places.astype(np.int32), (-table[:, 1] / idf).astype(np.float32)


def _size(matches: Matches) -> int:
    # An entry of no matches takes room too.
    return 200 + matches[0].nbytes + matches[1].nbytes
