"""What a gateway remembers of questions and silos, to ask fewer silos and believe the right ones.

A question leaves its vector, its words and how many of the best passages each asked silo held:
as private as the questions themselves, and kept in the gateway's folder as they are.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siloquy.database import connect, reading, transaction
from siloquy.types import NodeId, Vector

MOST_QUESTIONS, MOST_AUDITS = 4000, 1000
CALIBRATED_FROM = "calibrated from"
"""Mark: the newest question whose audit an alarm has made void."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS questions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, created INTEGER NOT NULL, audit INTEGER NOT NULL,
    vector BLOB NOT NULL, words TEXT NOT NULL, held TEXT NOT NULL, missed REAL
);
CREATE INDEX IF NOT EXISTS questions_by_kind ON questions (audit, number);
CREATE TABLE IF NOT EXISTS words_of_silos (
    silo TEXT PRIMARY KEY, verified INTEGER NOT NULL, strikes INTEGER NOT NULL,
    struck INTEGER NOT NULL, profile BLOB NOT NULL, probe REAL
);
CREATE TABLE IF NOT EXISTS promises (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

ROUTER_FILE = "router.sqlite"
"""In a gateway's folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One question that was asked.

    vector   (d,) float32
    words    every word of it, in order
    held     how many of the winners each asked silo held; a silo that was not asked, or did not
             answer, is not in it
    audit    whether every silo that may be asked was
    missed   of an audit: the share of the winners that the promise in force would have missed;
             None where none was
    """

    vector: Vector
    words: tuple[str, ...]
    held: dict[NodeId, int]
    audit: bool
    missed: float | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class SiloStanding:
    """What a silo's word has been worth.

    verified   released passages whose claimed scores fitted
    strikes    questions in which a claim did not
    struck     when the last one was, Unix milliseconds
    profile    hash of the profile's content that ``probe`` speaks of
    probe      observed over expected passages near what the profile claims, None before probes
    """

    verified: int = 0
    strikes: int = 0
    struck: int = 0
    profile: bytes = b""
    probe: float | None = None


def standings(connection: sqlite3.Connection) -> dict[NodeId, SiloStanding]:
    """Every silo that was heard of, by name."""
    rows = connection.execute(
        "SELECT silo, verified, strikes, struck, profile, probe FROM words_of_silos ORDER BY silo"
    )
    return {NodeId(silo): SiloStanding(*rest) for silo, *rest in rows}


class Experience:
    """One connection to the gateway's ``router.sqlite``; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._connection: sqlite3.Connection = connect(path, _SCHEMA, durable=False)
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    # -- questions ------------------------------------------------------------------------------

    def learn(self, lesson: Lesson, now: int) -> None:
        """Remember a question; the oldest beyond 1,000 audits and 4,000 others are forgotten.

        Audits are few among the questions: counted with them, 200 would never be remembered.
        """
        row = (
            now,
            lesson.audit,
            lesson.vector.astype("<f2").tobytes(),
            json.dumps(lesson.words),
            json.dumps(lesson.held),
            lesson.missed,
        )
        most = MOST_AUDITS if lesson.audit else MOST_QUESTIONS
        with self._lock, transaction(self._connection) as connection:
            connection.execute(
                "INSERT INTO questions (created, audit, vector, words, held, missed) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            connection.execute(
                "DELETE FROM questions WHERE audit = ?1 AND number <= (SELECT number "
                "FROM questions WHERE audit = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                (lesson.audit, most),
            )

    def lessons(self, most: int, *, audits: bool | None = None, after: int = 0) -> list[Lesson]:
        """The newest ``most`` questions above number ``after``, oldest first.

        audits   True: audits alone; False: the others alone; None: both
        """
        kinds = (0, 1) if audits is None else (int(audits), int(audits))
        with self._lock, reading(self._connection):
            rows = self._connection.execute(
                "SELECT number, audit, vector, words, held, missed FROM questions "
                "WHERE number > ? AND audit BETWEEN ? AND ? ORDER BY number DESC LIMIT ?",
                (after, *kinds, most),
            ).fetchall()
        return [_lesson(*row) for row in reversed(rows)]

    # -- silos ----------------------------------------------------------------------------------

    def standings(self) -> dict[NodeId, SiloStanding]:
        """Every silo that was heard of."""
        with self._lock, reading(self._connection):
            return standings(self._connection)

    def checked(self, verified: Mapping[NodeId, int], struck: Sequence[NodeId], now: int) -> None:
        """Count passages whose claims fitted, and a strike for each silo with one that did not."""
        silos = dict.fromkeys((*verified, *struck))
        rows = [
            (silo, verified.get(silo, 0), int(silo in struck), now if silo in struck else 0)
            for silo in silos
        ]
        with self._lock, transaction(self._connection) as connection:
            connection.executemany(
                "INSERT INTO words_of_silos VALUES (?, ?, ?, ?, x'', NULL) ON CONFLICT (silo) "
                "DO UPDATE SET verified = verified + excluded.verified, "
                "strikes = strikes + excluded.strikes, struck = max(struck, excluded.struck)",
                rows,
            )

    def probed(self, silo: NodeId, profile: bytes, probe: float) -> None:
        """Keep what the probes of a profile's content came to."""
        with self._lock, transaction(self._connection) as connection:
            connection.execute(
                "INSERT INTO words_of_silos VALUES (?, 0, 0, 0, ?, ?) ON CONFLICT (silo) "
                "DO UPDATE SET profile = excluded.profile, probe = excluded.probe",
                (silo, profile, probe),
            )

    def pardon(self, silo: NodeId) -> bool:
        """Forget a silo's strikes and probes; whether there was anything to forget."""
        with self._lock, transaction(self._connection) as connection:
            return bool(
                connection.execute("DELETE FROM words_of_silos WHERE silo = ?", (silo,)).rowcount
            )

    # -- promises -------------------------------------------------------------------------------

    def mark(self, name: str, number: int) -> None:
        """Keep a number under a name, such as the first audit after an alarm."""
        with self._lock, transaction(self._connection) as connection:
            connection.execute("INSERT OR REPLACE INTO promises VALUES (?, ?)", (name, number))

    def marked(self, name: str) -> int:
        """The number kept under a name; 0 without one."""
        with self._lock, reading(self._connection):
            row = self._connection.execute(
                "SELECT value FROM promises WHERE name = ?", (name,)
            ).fetchone()
        return int(row[0]) if row else 0


def _lesson(
    number: int, audit: int, vector: bytes, words: str, held: str, missed: float | None
) -> Lesson:
    return Lesson(
        vector=np.frombuffer(vector, dtype="<f2").astype(np.float32),
        words=tuple(json.loads(words)),
        held={NodeId(silo): int(count) for silo, count in json.loads(held).items()},
        audit=bool(audit),
        missed=missed,
        number=number,
    )
