"""The hospital's own switch: while a silo is paused nothing leaves it, whatever anybody asks.

A row of the silo's store, read anew at every request: it holds for a serving process at once, over
restarts, and for what was asked before. Who paused it, when and why stays at the silo.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from siloquy.database import transaction
from siloquy.errors import UsageError

SCHEMA = """
CREATE TABLE IF NOT EXISTS pauses (
    number INTEGER PRIMARY KEY AUTOINCREMENT, since INTEGER NOT NULL, "by" TEXT NOT NULL,
    reason TEXT NOT NULL, ended INTEGER, ended_by TEXT
);
"""
MOST_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause in force: since when in Unix milliseconds, by which user of the machine, and why."""

    since: int
    by: str
    reason: str


def current(connection: sqlite3.Connection) -> Pause | None:
    """The pause in force; None when there is none."""
    row = connection.execute(
        'SELECT since, "by", reason FROM pauses WHERE ended IS NULL'
    ).fetchone()
    return Pause(*row) if row else None


def begin(connection: sqlite3.Connection, now: int, by: str, reason: str) -> Pause:
    """The pause in force afterwards: the one that was, or one that begins now.

    UsageError when the reason is too long.
    """
    reason = " ".join(reason.split())
    if len(reason) > MOST_REASON_CHARACTERS:
        raise UsageError(
            f"the reason has {len(reason)} characters, at most {MOST_REASON_CHARACTERS}",
            "shorten it",
        )
    with transaction(connection):
        found = current(connection)
        if found is None:
            found = Pause(now, by, reason)
            row = (now, by, reason)
            connection.execute('INSERT INTO pauses (since, "by", reason) VALUES (?, ?, ?)', row)
    return found


def end(connection: sqlite3.Connection, now: int, by: str) -> Pause | None:
    """The pause that ended now; None when there was none."""
    with transaction(connection):
        found = current(connection)
        connection.execute(
            "UPDATE pauses SET ended = ?, ended_by = ? WHERE ended IS NULL", (now, by)
        )
    return found


def number(connection: sqlite3.Connection) -> int:
    """Changes with every pause and every end of one."""
    (turns,) = connection.execute("SELECT count(*) + count(ended) FROM pauses").fetchone()
    return int(turns)
