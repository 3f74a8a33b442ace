"""What clinicians say of answers: the five clinical dimensions, kept beside the turn.

The dimensions are those by which ClinicalKey AI was rated (doi 10.1093/jamiaopen/ooaf054).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields

SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
    conversation TEXT NOT NULL, n INTEGER NOT NULL, given INTEGER NOT NULL,
    correct INTEGER, supported INTEGER, complete INTEGER, harmless INTEGER, helpful INTEGER,
    comment TEXT NOT NULL,
    PRIMARY KEY (conversation, n),
    FOREIGN KEY (conversation, n) REFERENCES turns (conversation, n) ON DELETE CASCADE
) STRICT;
"""
MOST_COMMENT_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Judgement:
    """One reader's judgement of an answer, dimension by dimension; None: not said.

    supported   whether the sources say what the answer says
    harmless    False when following it could do harm
    """

    correct: bool | None = None
    supported: bool | None = None
    complete: bool | None = None
    harmless: bool | None = None
    helpful: bool | None = None
    comment: str = ""


DIMENSIONS = tuple(item.name for item in fields(Judgement) if item.name != "comment")


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A judgement with what was judged, for evaluators; ``given`` in ms since 1970."""

    query_id: str
    given: int
    question: str
    answer: str
    judgement: Judgement


def keep(
    rows: sqlite3.Connection, conversation: str, n: int, judgement: Judgement, now: int
) -> None:
    """Write a judgement down, in the place of an older one of the same turn."""
    values = [getattr(judgement, name) for name in DIMENSIONS]
    rows.execute(
        "INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (conversation, n, now, *values, judgement.comment),
    )


def of_conversation(rows: sqlite3.Connection, conversation: str) -> dict[int, Judgement]:
    """Judgements by number of turn."""
    found = rows.execute(
        f"SELECT n, {', '.join(DIMENSIONS)}, comment FROM feedback WHERE conversation = ?",  # noqa: S608
        (conversation,),
    )
    return {n: _judgement(rest) for n, *rest in found}


def every(rows: sqlite3.Connection) -> Iterator[JudgedAnswer]:
    """All judgements of a gateway, oldest first; of whom they are is not told."""
    found = rows.execute(
        f"SELECT query_id, given, understood, answer, {', '.join(DIMENSIONS)}, comment "  # noqa: S608
        "FROM feedback JOIN turns USING (conversation, n) ORDER BY given"
    )
    for query_id, given, question, answer, *rest in found:
        yield JudgedAnswer(query_id or "", given, question or "", answer or "", _judgement(rest))


def _judgement(values: list[object]) -> Judgement:
    *said, comment = values
    told = {
        name: None if value is None else bool(value)
        for name, value in zip(DIMENSIONS, said, strict=True)
    }
    return Judgement(**told, comment=str(comment))
