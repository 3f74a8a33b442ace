"""API keys of a gateway: made once, shown once, kept as hashes, known to a running gateway at once.

A key is 32 random bytes: nobody finds one by trying, so a plain SHA-256 of it is enough.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from siloquy import database
from siloquy.errors import UsageError

FILE_NAME = "api_keys.sqlite"
PREFIX = "sq_"
MOST_FAILED = 30
FAILED_WINDOW_S = 60.0
# What the silos' ledgers call who has no key, and the router's own searches.
RESERVED = ("local", "router")
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    hash BLOB PRIMARY KEY, name TEXT NOT NULL, created INTEGER NOT NULL, revoked INTEGER
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS valid ON keys (name) WHERE revoked IS NULL;
"""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as it is listed: whose it is, and when it was made and revoked, in ms since 1970."""

    name: str
    created: int
    revoked: int | None


class Keys:
    """The keys in a gateway's folder."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._connection = database.connect(path, _SCHEMA)
        self._clock = clock
        self._lock = threading.Lock()

    def add(self, name: str) -> str:
        """A new key for ``name``: the only time that it can be read.

        UsageError when the name has one already, or is none.
        """
        if not _NAME.fullmatch(name) or name.casefold() in RESERVED:
            raise UsageError(
                f"{name!r} cannot be the name of a key",
                "1 to 64 letters, digits and . _ @ -; it stands in the silos' ledgers",
            )
        key = PREFIX + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        row = (_hash(key), name, self._clock())
        with self._lock, database.transaction(self._connection) as open_database:
            if open_database.execute(
                "SELECT 1 FROM keys WHERE name = ? AND revoked IS NULL", (name,)
            ).fetchone():
                raise UsageError(f"{name} has a key already", "revoke it first, or take a name")
            open_database.execute("INSERT INTO keys (hash, name, created) VALUES (?, ?, ?)", row)
        return key

    def revoke(self, name: str) -> None:
        """Make the key of ``name`` worthless; UsageError when there is none."""
        with self._lock, database.transaction(self._connection) as open_database:
            done = open_database.execute(
                "UPDATE keys SET revoked = ? WHERE name = ? AND revoked IS NULL",
                (self._clock(), name),
            )
            if not done.rowcount:
                raise UsageError(f"{name} has no key", "see `siloquy gateway key list`")

    def all(self) -> tuple[KeyRecord, ...]:
        """Every key that was ever made, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT name, created, revoked FROM keys ORDER BY created, name"
            ).fetchall()
        return tuple(KeyRecord(*row) for row in rows)

    def holds(self, name: str) -> bool:
        """Whether ``name``, in any case, has a key that is good."""
        wanted = name.casefold()
        return any(key.name.casefold() == wanted for key in self.all() if key.revoked is None)

    def requester(self, key: str) -> str | None:
        """Whose key this is; None for a wrong or revoked one."""
        if not _KEY.fullmatch(key):
            return None
        given = _hash(key)
        with self._lock:
            row = self._connection.execute(
                "SELECT name, hash FROM keys WHERE hash = ? AND revoked IS NULL", (given,)
            ).fetchone()
        # What the search's time tells is of the hash, which says nothing of the key.
        return str(row[0]) if row and hmac.compare_digest(row[1], given) else None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Attempts:
    """Counts wrong keys: beyond ``most`` in a window they have to wait; right ones never do."""

    def __init__(
        self,
        most: int = MOST_FAILED,
        window_s: float = FAILED_WINDOW_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._failed: deque[float] = deque(maxlen=most)

    def failed(self) -> int | None:
        """Count a wrong key; seconds to wait when there were too many before it."""
        now = self._clock()
        if len(self._failed) == self._most and now - self._failed[0] < self._window_s:
            return max(1, round(self._window_s - (now - self._failed[0])))
        self._failed.append(now)
        return None


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
