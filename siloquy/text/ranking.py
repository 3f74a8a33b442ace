"""How passages are ranked (and reranked): cosine and BM25 made one score, the same for everybody.

Change the score here and nowhere else; ``surely_ahead`` is proved for it and changes with it.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from siloquy.types import Term

F = TypeVar("F", bound=np.floating)

# How FTS5 cuts text into words and stems them, wherever a question's words are matched.
TOKENIZER = "porter unicode61"

# A word of the title counts twice: +.005 nDCG@10 on mediqa_sites and medquad9.
TITLE_WEIGHT = 2.0
LEXICAL_WEIGHT = 0.25
"""What the best BM25 of a question is worth beside a cosine of 1.

.774 nDCG@10 on mediqa_sites, where equal weights give .730.
"""


# -- the score ------------------------------------------------------------------------------------


def hybrid(dense: NDArray[F], lexical: NDArray[F], best: float) -> NDArray[F]:
    """(n,) scores: cosine + LEXICAL_WEIGHT * BM25 / best; the cosine alone where no word matches.

    dense, lexical   (n,) cosines and BM25
    best             the best BM25 of the question over all silos, at least that of ``lexical``
    """
    return dense + LEXICAL_WEIGHT * lexical / best if best > 0 else dense


def hybrid_scores(dense: NDArray[F], lexical: NDArray[F]) -> NDArray[F]:
    """(n,) scores of all candidates of one question."""
    return hybrid(dense, lexical, float(lexical.max(initial=0.0)))


def surely_ahead(dense: NDArray[F], lexical: NDArray[F]) -> NDArray[np.bool_]:
    """(n, n) whether column j is ahead of row i by any best BM25 that other silos may still tell.

    The best of all silos is at least the best here, and a score falls steadily from ``hybrid`` with
    the best from here to the cosine alone as it grows: who is ahead at both ends is ahead between.
    """
    merged = hybrid_scores(dense, lexical)
    return (dense > dense[:, None]) & (merged > merged[:, None])


# -- BM25 -----------------------------------------------------------------------------------------


def most_bm25(terms: Iterable[Term]) -> float:
    """What BM25 of a passage that holds all of ``terms`` stays below, or at when it is 0.

    A match is worth its weight times f (k1 + 1) / (f + k1 (1 - b + b d)), with f the word's count,
    each multiplied by its column's weight, d the relative length, k1 = 1.2 and b = .75 in FTS5:
    below k1 + 1 however often the word stands there.

    >>> most_bm25([Term("dose", 2.0), Term("apixaban", 3.0)])
    11.0
    """
    return 2.2 * sum(term.weight for term in terms)


def bm25_of_word(
    connection: sqlite3.Connection, word: str, total: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of the FTS5 table ``words`` (title, text) that hold ``word``, and their BM25, by row.

    FTS5 gives each match idf * saturation in the table's own statistics; the idf of ``total`` rows
    is divided out, so that a question's own weight can take its place.
    """
    rows = connection.execute(
        f"SELECT rowid, bm25(words, {TITLE_WEIGHT}, 1.0) FROM words WHERE words MATCH ?",  # noqa: S608
        (f'"{word}"',),
    )
    table = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.float64).reshape(-1, 2)
    # The idf of SQLite's bm25(), its floor for very common words included.
    n = len(table)
    idf = max(np.log((total - n + 0.5) / (n + 0.5)), 1e-6)
    return table[:, 0].astype(np.int64), -table[:, 1] / idf


def indexed(passages: Iterable[tuple[str, str]]) -> sqlite3.Connection:
    """A word index in memory of titles and texts, numbered from 0: for ``bm25_of_word``."""
    made = sqlite3.connect(":memory:")
    made.execute(f"CREATE VIRTUAL TABLE words USING fts5 (title, text, tokenize = '{TOKENIZER}')")
    rows = [(n, title, text) for n, (title, text) in enumerate(passages)]
    made.executemany("INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)", rows)
    return made
