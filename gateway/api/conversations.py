"""Conversations of a gateway, kept on its disk: questions, how they were understood, answers.

Passages are not kept, only where they stand: what a silo released for one question is not stored
at the gateway beyond it. A question is written down before it is asked, so that a gateway that is
killed leaves a question without an answer, never an answer without its question.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from siloquy import database
from siloquy.codec import to_json
from siloquy.errors import UsageError
from siloquy.gateway.api import feedback
from siloquy.gateway.api.feedback import JudgedAnswer, Judgement
from siloquy.types import Answer, Missing, NodeId, Turn
from siloquy.web.refusals import NotFound, Occupied

P = ParamSpec("P")
T = TypeVar("T")
FILE_NAME = "conversations.sqlite"
MOST_CONVERSATIONS = 1000
MOST_TURNS = 500
# A follow-up refers to what was said just before; older turns only make it longer to read.
TURNS_GIVEN = 6
MOST_TITLE_CHARACTERS = 120
MOST_SOUGHT_CHARACTERS = 200
DAY_MS = 86_400_000
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, requester TEXT NOT NULL, title TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_requester ON conversations (requester, updated);
CREATE TABLE IF NOT EXISTS turns (
    conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    n INTEGER NOT NULL, asked INTEGER NOT NULL, question TEXT NOT NULL,
    understood TEXT, answer TEXT, abstained INTEGER, sources TEXT, missing TEXT, query_id TEXT,
    PRIMARY KEY (conversation, n)
) STRICT;
CREATE TABLE IF NOT EXISTS preferences (
    requester TEXT PRIMARY KEY, keep_days INTEGER NOT NULL
) STRICT;
{feedback.SCHEMA}
"""

TurnState = Literal["asking", "answered", "unanswered"]


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a cited passage stands, without its text; older ones tell no section and no date."""

    n: int
    silo: NodeId
    document: str
    title: str
    start: int
    end: int
    section: str = ""
    dated: str = ""


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """One question as it was typed, and what came of it.

    understood   the question as it was asked: a follow-up is written out
    state        unanswered: it failed, was cancelled, or the gateway stopped before the answer
    asked        ms since 1970
    query_id     as receipts and the silos' ledgers name the question; empty without an answer
    """

    n: int
    asked: int
    question: str
    state: TurnState
    understood: str
    answer: str
    abstained: bool
    sources: tuple[Reference, ...]
    missing: tuple[Missing, ...]
    query_id: str
    feedback: Judgement | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation without its turns; times in ms since 1970."""

    id: str
    title: str
    created: int
    updated: int
    turns: int


@dataclass(frozen=True, slots=True)
class PendingTurn:
    """A question that was written down, with the answered turns before it."""

    conversation: str
    n: int
    before: tuple[Turn, ...]


class Conversations:
    """The conversations in a gateway's folder; each is its requester's alone."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._connection = database.connect(path, _SCHEMA)
        # What is deleted is overwritten, not only unlinked.
        self._connection.execute("PRAGMA secure_delete = ON")
        self._connection.create_function("holds", 2, _holds, deterministic=True)
        self._clock = clock
        self._lock = threading.Lock()
        # Number of the turn that each conversation waits for, and a lock for these numbers alone:
        # the other one is held while the disk writes, and the event loop must not wait for that.
        self._asking: dict[str, int] = {}
        self._asking_lock = threading.Lock()
        # A thread of its own: the common ones may all be busy embedding.
        self._thread = ThreadPoolExecutor(1, "conversations")

    async def aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` gives, done in the thread that waits for the disk."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(work, *args, **kwargs))

    def close(self) -> None:
        """Close the file."""
        self._thread.shutdown()
        self._connection.close()

    # -- conversations ----------------------------------------------------------------------------

    def create(self, requester: str, title: str = "") -> Conversation:
        """A new, empty conversation; UsageError when the requester has too many."""
        now, made = self._clock(), secrets.token_urlsafe(16)
        with self._writing() as rows:
            (count,) = rows.execute(
                "SELECT count(*) FROM conversations WHERE requester = ?", (requester,)
            ).fetchone()
            if count >= MOST_CONVERSATIONS:
                raise UsageError(
                    f"there are {count} conversations, at most {MOST_CONVERSATIONS}",
                    "delete those that are not needed any more",
                )
            values = (made, requester, title, now, now)
            rows.execute("INSERT INTO conversations VALUES (?, ?, ?, ?, ?)", values)
        return Conversation(made, title, now, now, 0)

    def all(self, requester: str, sought: str = "") -> tuple[Conversation, ...]:
        """The requester's conversations, the newest first.

        sought   words that title, a question or an answer must hold as they stand, in any case
        """
        found = "holds(title, ?2) OR EXISTS (SELECT 1 FROM turns WHERE conversation = id AND "
        found += "(holds(question, ?2) OR holds(answer, ?2)))"
        with self._lock:
            rows = self._connection.execute(
                f"{_LISTED} WHERE requester = ?1 AND ({found}) ORDER BY updated DESC, id",
                (requester, sought.casefold()),
            ).fetchall()
        return tuple(Conversation(*row) for row in rows)

    def one(self, requester: str, conversation: str) -> Conversation:
        """A conversation; NotFound when the requester has none of that id."""
        with self._lock:
            return self._found(requester, conversation)

    def turns(self, requester: str, conversation: str) -> tuple[KeptTurn, ...]:
        """A conversation's turns in order; NotFound as ``one``."""
        with self._lock:
            self._found(requester, conversation)
            rows = self._connection.execute(
                "SELECT * FROM turns WHERE conversation = ? ORDER BY n", (conversation,)
            ).fetchall()
            asking = self._asking.get(conversation)
            judged = feedback.of_conversation(self._connection, conversation)
        return tuple(
            dataclasses.replace(_kept(row, asking == row[1]), feedback=judged.get(row[1]))
            for row in rows
        )

    def rename(self, requester: str, conversation: str, title: str) -> Conversation:
        """The conversation under a new title; NotFound as ``one``."""
        with self._writing() as rows:
            self._found(requester, conversation)
            rows.execute("UPDATE conversations SET title = ? WHERE id = ?", (title, conversation))
            return self._found(requester, conversation)

    def delete(self, requester: str, conversation: str) -> None:
        """Delete a conversation from file and log; NotFound as ``one``, Occupied while it asks."""
        with self._writing() as rows:
            self._found(requester, conversation)
            self._check_free(conversation)
            rows.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
        self._forget_pages()

    def expire(self, keep_days: int) -> int:
        """Delete what nothing was asked in for so many days, all requesters'; how many there were.

        0 keeps everything, unless a requester wants less kept. One that is being answered stays.
        """
        with self._writing() as rows:
            old = rows.execute(_EXPIRED, {"now": self._clock(), "keep_days": keep_days})
            gone = [row for row in old.fetchall() if row[0] not in self._asking]
            rows.executemany("DELETE FROM conversations WHERE id = ?", gone)
        if gone:
            self._forget_pages()
        return len(gone)

    def forget(self, requester: str) -> int:
        """Delete all that is kept of a requester who will not come back; how many there were."""
        with self._writing() as rows:
            done = rows.execute("DELETE FROM conversations WHERE requester = ?", (requester,))
            rows.execute("DELETE FROM preferences WHERE requester = ?", (requester,))
        self._forget_pages()
        return done.rowcount

    def keep_days(self, requester: str) -> int:
        """How long the requester wants conversations kept; 0: no wish."""
        with self._lock:
            row = self._connection.execute(
                "SELECT keep_days FROM preferences WHERE requester = ?", (requester,)
            ).fetchone()
        return int(row[0]) if row else 0

    def prefer(self, requester: str, keep_days: int) -> None:
        """Keep the requester's conversations so many days; 0: as long as the site does."""
        with self._writing() as rows:
            rows.execute("INSERT OR REPLACE INTO preferences VALUES (?, ?)", (requester, keep_days))

    def _forget_pages(self) -> None:
        with self._lock:
            # The write-ahead log still holds the pages as they were.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # -- feedback ---------------------------------------------------------------------------------

    def judge(self, requester: str, conversation: str, n: int, judgement: Judgement) -> None:
        """Keep what the requester says of an answer; NotFound as ``one``, and without an answer."""
        with self._writing() as rows:
            self._found(requester, conversation)
            answered = rows.execute(
                "SELECT 1 FROM turns WHERE conversation = ? AND n = ? AND answer IS NOT NULL",
                (conversation, n),
            ).fetchone()
            if answered is None:
                raise NotFound(f"turn {n} has no answer to judge", "judge one that was answered")
            feedback.keep(rows, conversation, n, judgement, self._clock())

    def judged(self) -> tuple[JudgedAnswer, ...]:
        """All judgements of all requesters, for evaluators; oldest first."""
        with self._lock:
            return tuple(feedback.every(self._connection))

    # -- turns ------------------------------------------------------------------------------------

    def begin(self, requester: str, conversation: str, question: str) -> PendingTurn:
        """Write a question down before it is asked; who begins must ``finish`` or ``fail``.

        Occupied while another question of the conversation is asked, UsageError when it has too
        many turns, NotFound as ``one``.
        """
        with self._lock:
            with database.transaction(self._connection) as rows:
                begun = self._write_down(rows, requester, conversation, question)
            # If the write fails, nobody else would set the conversation free.
            with self._asking_lock:
                self._asking[conversation] = begun.n
        return begun

    def _write_down(
        self, rows: sqlite3.Connection, requester: str, conversation: str, question: str
    ) -> PendingTurn:
        found = self._found(requester, conversation)
        self._check_free(conversation)
        if found.turns >= MOST_TURNS:
            raise UsageError(
                f"the conversation has {found.turns} turns, at most {MOST_TURNS}",
                "start another one",
            )
        n, now = found.turns + 1, self._clock()
        rows.execute(
            "INSERT INTO turns (conversation, n, asked, question) VALUES (?, ?, ?, ?)",
            (conversation, n, now, question),
        )
        rows.execute(
            "UPDATE conversations SET updated = ?, title = ? WHERE id = ?",
            (now, found.title or title_of(question), conversation),
        )
        return PendingTurn(conversation, n, _answered(rows, conversation))

    def finish(self, begun: PendingTurn, answer: Answer) -> None:
        """Write the answer to a question down."""
        cited = {n for sentence in answer.sentences for n in sentence.citations}
        references = [
            Reference(s.n, s.silo, s.document, s.title, s.start, s.end, s.section, s.dated)
            for s in answer.sources
            if s.n in cited
        ]
        values = (
            answer.question,
            answer.answer,
            int(answer.abstained),
            json.dumps(to_json(references)),
            json.dumps(to_json(answer.missing)),
            query_id(answer),
        )
        with self._writing() as rows:
            self._let_go(begun)
            rows.execute(
                "UPDATE turns SET understood = ?, answer = ?, abstained = ?, sources = ?,"
                " missing = ?, query_id = ? WHERE conversation = ? AND n = ?",
                (*values, begun.conversation, begun.n),
            )

    def fail(self, begun: PendingTurn) -> None:
        """Let a question stand without an answer; never waits for the disk."""
        self._let_go(begun)

    def _let_go(self, begun: PendingTurn) -> None:
        with self._asking_lock:
            # Free the conversation only if it still waits for this turn.
            if self._asking.get(begun.conversation) == begun.n:
                self._asking.pop(begun.conversation, None)

    # -- rows -------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, database.transaction(self._connection) as rows:
            yield rows

    def _found(self, requester: str, conversation: str) -> Conversation:
        row = self._connection.execute(
            f"{_LISTED} WHERE id = ? AND requester = ?",
            (conversation, requester),
        ).fetchone()
        if row is None:
            raise NotFound("there is no such conversation", "GET /v1/conversations lists them")
        return Conversation(*row)

    def _check_free(self, conversation: str) -> None:
        if conversation in self._asking:
            raise Occupied(
                "a question of this conversation is still being answered",
                "wait for its answer, or cancel it",
            )


# The shorter of what the site and the requester say; 0 says nothing.
_EXPIRED = f"""
SELECT id FROM conversations LEFT JOIN preferences USING (requester)
WHERE updated < :now - {DAY_MS} * min(
    ifnull(nullif(:keep_days, 0), 1000000), ifnull(nullif(preferences.keep_days, 0), 1000000)
)
"""  # noqa: S608
_LISTED = (
    "SELECT id, title, created, updated,"
    " (SELECT count(*) FROM turns WHERE conversation = id) FROM conversations"
)


def _holds(text: str | None, sought: str) -> bool:
    return sought in (text or "").casefold()


def title_of(question: str) -> str:
    """A title for a conversation that begins with ``question``."""
    title = " ".join(question.split())
    most = MOST_TITLE_CHARACTERS
    return title if len(title) <= most else title[: most - 1].rsplit(" ", 1)[0] + "…"


def query_id(answer: Answer) -> str:
    """The question's id in receipts and ledgers, hex; that of the first round."""
    return answer.rounds[0].query_id if answer.rounds else ""


def _answered(rows: sqlite3.Connection, conversation: str) -> tuple[Turn, ...]:
    """The last answered turns, oldest first."""
    found = rows.execute(
        "SELECT understood, answer FROM turns WHERE conversation = ? AND answer IS NOT NULL"
        " ORDER BY n DESC LIMIT ?",
        (conversation, TURNS_GIVEN),
    ).fetchall()
    return tuple(Turn(question, answer) for question, answer in reversed(found))


def _kept(row: tuple[object, ...], asking: bool) -> KeptTurn:
    _, n, asked, question, understood, answer, abstained, sources, missing, known_as = row
    state: TurnState = "answered" if answer is not None else "unanswered"
    return KeptTurn(
        n=int(str(n)),
        asked=int(str(asked)),
        question=str(question),
        state="asking" if asking and answer is None else state,
        understood=str(understood or ""),
        answer=str(answer or ""),
        abstained=bool(abstained),
        sources=tuple(Reference(**item) for item in json.loads(str(sources or "[]"))),
        missing=tuple(Missing(**item) for item in json.loads(str(missing or "[]"))),
        query_id=str(known_as or ""),
    )
