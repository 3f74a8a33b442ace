"""The log of sign-ins: who, when, from which kind, let in or not. No address, nothing typed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from siloquy import database
from siloquy.gateway.sign_in import records

MOST_ENTRIES = 100_000
# Made-up names and links are counted apart: they must not push out those that exist.
MOST_OF_NOBODY = 10_000
_FORGET_SOMEBODY = (
    "DELETE FROM sign_ins WHERE who <> '' AND n <="
    " (SELECT n FROM sign_ins WHERE who <> '' ORDER BY n DESC LIMIT 1 OFFSET ?)"
)
_FORGET_NOBODY = (
    "DELETE FROM sign_ins WHERE who = '' AND n <="
    " (SELECT n FROM sign_ins WHERE who = '' ORDER BY n DESC LIMIT 1 OFFSET ?)"
)


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """One attempt; ``at`` in ms since 1970.

    who      the ledgers' name; empty when it is nobody's: people type passwords into the wrong box
    kind     local, join or oidc
    reason   why it was refused; empty when it was not
    """

    n: int
    at: int
    who: str
    kind: str
    ok: bool
    reason: str


class SignInLog:
    """The log in a gateway's folder; beyond ``MOST_ENTRIES`` the oldest go, nobody's sooner."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._connection = records.connect(path)
        self._clock = clock
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, who: str, kind: str, refused: str = "") -> None:
        """Write an attempt down; ``refused`` says why it failed."""
        with self._lock, database.transaction(self._connection) as rows:
            rows.execute(
                "INSERT INTO sign_ins (at, who, kind, ok, reason) VALUES (?, ?, ?, ?, ?)",
                (self._clock(), who, kind, int(not refused), refused),
            )
            rows.execute(_FORGET_SOMEBODY, (MOST_ENTRIES,))
            rows.execute(_FORGET_NOBODY, (MOST_OF_NOBODY,))

    def last(self, limit: int, before: int | None = None) -> tuple[SignInAttempt, ...]:
        """The newest attempts, newest first; those before number ``before``."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT n, at, who, kind, ok, reason FROM sign_ins WHERE n < ?"
                " ORDER BY n DESC LIMIT ?",
                (2**62 if before is None else before, limit),
            ).fetchall()
        return tuple(
            SignInAttempt(n, at, who, kind, bool(ok), why) for n, at, who, kind, ok, why in rows
        )
