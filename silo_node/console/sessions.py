"""Who is signed in at a console: one-time links into sessions, all in memory alone.

A link is printed in the terminal of whoever started the console: who can read that may use it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

TOKEN_BYTES = 32
LINK_S = 600.0
IDLE_S = 900.0
MOST_S = 8 * 3600.0
# Browsers signed in at a time; the oldest gives way.
MOST_SESSIONS = 8


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """One browser's session; ``csrf`` must come with everything that changes something."""

    csrf: str
    opened: float
    seen: float

    def lives(self, now: float) -> bool:
        """Whether it has neither been left alone for too long nor lasted too long."""
        return now - self.seen < IDLE_S and now - self.opened < MOST_S


class ConsoleSessions:
    """One link at a time, and the sessions that links have opened; gone with the process."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._link: tuple[bytes, float] | None = None
        self._open: dict[bytes, ConsoleSession] = {}

    def invite(self) -> str:
        """The token of a new link; the one before is worthless then."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._link = _hash(token), self._clock()
        return token

    def enter(self, token: str) -> str | None:
        """The secret of a new session, for a link's token: once, within ten minutes; else None."""
        link, now = self._link, self._clock()
        if link is None or now - link[1] >= LINK_S:
            return None
        if not hmac.compare_digest(link[0], _hash(token)):
            return None
        self._link = None
        return self._opened(now)

    def _opened(self, now: float) -> str:
        self._open = {key: one for key, one in self._open.items() if one.lives(now)}
        while len(self._open) >= MOST_SESSIONS:
            del self._open[min(self._open, key=lambda key: self._open[key].opened)]
        secret = secrets.token_urlsafe(TOKEN_BYTES)
        self._open[_hash(secret)] = ConsoleSession(secrets.token_urlsafe(TOKEN_BYTES), now, now)
        return secret

    def find(self, secret: str, *, quiet: bool = False) -> ConsoleSession | None:
        """The session of a cookie's secret; None when there is none any more.

        quiet   look only: nobody did anything, so the idle time goes on
        """
        key, now = _hash(secret), self._clock()
        session = self._open.get(key)
        if session is None or not session.lives(now):
            self._open.pop(key, None)
            return None
        if not quiet:
            session = self._open[key] = replace(session, seen=now)
        return session

    def leave(self, secret: str) -> None:
        """End a session, if there is one."""
        self._open.pop(_hash(secret), None)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
