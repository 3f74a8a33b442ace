"""Words and sentences, the same way wherever text is read: terms, stop words, sentence spans."""

from __future__ import annotations

import itertools
import re
import sqlite3
import unicodedata
from collections.abc import Iterable

import numpy as np
import sentencex
from numpy.typing import NDArray

from siloquy.types import Term

# How FTS5 cuts text into words and stems them, wherever a question's words are matched.
TOKENIZER = "porter unicode61"

# A word of the title counts twice: +.005 nDCG@10 on mediqa_sites and medquad9.
TITLE_WEIGHT = 2.0
LEXICAL_WEIGHT = 0.25
"""What the best BM25 of a question is worth beside a cosine of 1."""
STOP_WORDS = frozenset(
    "a about am an and any are as at be been but by can could did do does for from had has have he "
    "her his how i if in into is it its me my no not of on or our she should so such than that the "
    "their them then there these they this those to was we were what when where which who why will "
    "with would you your".split()
)

_PATIENT = re.compile(
    r"\d{3,}[- ]\d{3,}|\S@\S|\b[Bb]orn\b|\b[Dd]ate of birth\b|\bDOB\b|\bMRN\b"
    r"|\b(?:[Pp]atient|[Nn]ame|NHS|[Hh]ospital (?:[Nn]o|[Nn]umber))[ \t]*[:#]"
    r"|\b(?:Mr|Mrs|Ms|Miss)\b\.? [A-Z]"
)
_WORD = re.compile(r"\w+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def words(text: str) -> list[str]:
    """Lower-case words and numbers in order of appearance.

    >>> words("Apixaban 2.5 mg b.d.")
    ['apixaban', '2', '5', 'mg', 'b', 'd']
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def terms(text: str) -> tuple[str, ...]:
    """What a lexical index is asked for: each word once, without stop words unless all are.

    A repeated word would count twice in BM25 and a long question would drown in its own filler:
    nDCG@10 .54 instead of .84 on clinic_notes.

    >>> terms("What is the dose, the maximum dose?")
    ('dose', 'maximum')
    """
    unique = tuple(dict.fromkeys(words(text)))
    return tuple(word for word in unique if word not in STOP_WORDS) or unique


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


def clean(text: str) -> str:
    """Text in composed Unicode without control characters and surrogates; all line ends alike."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _CONTROL.sub(" ", text)


def names_patient(text: str) -> bool:
    """Whether a text looks as if it named a patient; a bare name goes unnoticed.

    >>> names_patient("Mrs Nullington"), names_patient("HN-0000-6301"), names_patient("Fever")
    (True, True, False)
    """
    return _PATIENT.search(text) is not None


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence in ``text``, without surrounding space.

    >>> sentence_spans("Give 5 mg/kg. Wait.")
    [(0, 13), (14, 19)]
    """
    spans = []
    for boundary in sentencex.get_sentence_boundaries("en", text):
        start, end = boundary["start_index"], boundary["end_index"]
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end -= len(piece) - len(piece.rstrip())
        if start < end:
            spans.append((start, end))
    return spans


def embedded_text(title: str, text: str) -> str:
    """What is embedded for a passage: its document's title tells what it is about."""
    return f"{title}. {text}" if title else text
