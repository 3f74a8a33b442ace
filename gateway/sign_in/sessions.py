"""Sessions: who has signed in on which browser, until they leave, go idle or their time is up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from siloquy import database
from siloquy.errors import StorageFailed
from siloquy.gateway.sign_in import records
from siloquy.gateway.sign_in.people import Requester, as_text, from_text

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
# The disk is not made to wait for every click: a session may end this much before its time.
SEEN_EVERY_MS = 10_000
# Browsers that one person is signed in on at a time; the oldest gives way.
MOST_OF_ONE = 10


class Sessions:
    """The sessions in a gateway's folder; they survive its restart."""

    def __init__(
        self, path: Path, clock: Callable[[], int], kind: str, idle_ms: int, most_ms: int
    ) -> None:
        self._connection = records.connect(path)
        self._clock = clock
        self._kind = kind
        self._idle_ms = idle_ms
        self._most_ms = most_ms
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def open(self, requester: Requester) -> str:
        """The token of a new session: the only time that it can be read."""
        token, now = records.new_token(), self._clock()
        values = (
            records.hash_of(token),
            self._kind,
            requester.owner,
            requester.name,
            requester.shown,
            as_text(requester.roles),
            now,
            now,
        )
        with self._lock, database.transaction(self._connection) as rows:
            rows.execute(
                "DELETE FROM sessions WHERE kind <> ? OR created <= ? OR seen <= ?",
                (self._kind, now - self._most_ms, now - self._idle_ms),
            )
            rows.execute(
                "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE owner = ?"
                " ORDER BY created DESC, rowid DESC LIMIT -1 OFFSET ?)",
                (requester.owner, MOST_OF_ONE - 1),
            )
            rows.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        return token

    def find(self, token: str, *, quiet: bool) -> Requester | None:
        """Whose session it is; None when there is none any more.

        quiet   look only: nobody did anything, so the idle time goes on
        """
        known_as, now = records.hash_of(token), self._clock()
        with self._lock:
            row = self._connection.execute(
                "SELECT owner, name, shown, roles, created, seen FROM sessions"
                " WHERE hash = ? AND kind = ?",
                (known_as, self._kind),
            ).fetchone()
            if row is None:
                return None
            owner, name, shown, roles, created, seen = row
            if now - created >= self._most_ms or now - seen >= self._idle_ms:
                return None
            if not quiet and now - seen >= min(SEEN_EVERY_MS, self._idle_ms // 4):
                self._touch(known_as, now)
        return Requester(owner, name, shown, from_text(roles))

    def _touch(self, known_as: bytes, now: int) -> None:
        # A full disk lets sessions go idle; what they may read, they may read until then.
        with suppress(StorageFailed), database.transaction(self._connection) as rows:
            rows.execute("UPDATE sessions SET seen = ? WHERE hash = ?", (now, known_as))

    def end(self, token: str) -> None:
        """End a session, if there is one."""
        with self._lock, database.transaction(self._connection) as rows:
            rows.execute("DELETE FROM sessions WHERE hash = ?", (records.hash_of(token),))


def csrf_of(token: str) -> str:
    """What a page must send along with what it changes; only who has the token can know it."""
    digest = hmac.digest(token.encode("utf-8", "replace"), b"siloquy csrf", hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
