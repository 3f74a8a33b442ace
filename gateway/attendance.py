"""Which silos took part in the last questions: for people, in memory alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from siloquy.errors import MissingReason
from siloquy.types import Missing, NodeId

REMEMBERED = 100
"""Questions of each silo."""


@dataclass(frozen=True, slots=True)
class Absence:
    """One question in which a silo was missing: when, in Unix milliseconds, and why."""

    at: int
    reason: MissingReason
    detail: str


@dataclass(frozen=True, slots=True)
class SiloAttendance:
    """Of the last questions, how many a silo was asked and missing in, and when it last was."""

    asked: int = 0
    missing: int = 0
    last: Absence | None = None


class Attendance:
    """The last questions of each silo; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[NodeId, deque[Absence | None]] = {}

    def note(self, asked: Collection[NodeId], missing: Collection[Missing], now: int) -> None:
        """Take in who was asked and who of them did not take part."""
        gone = {item.silo: Absence(now, item.reason, item.detail) for item in missing}
        with self._lock:
            for silo in asked:
                seen = self._seen.setdefault(silo, deque(maxlen=REMEMBERED))
                seen.append(gone.get(silo))

    def of(self, silo: NodeId) -> SiloAttendance:
        """How it went with one silo."""
        with self._lock:
            seen = list(self._seen.get(silo, ()))
        absences = [item for item in seen if item is not None]
        return SiloAttendance(len(seen), len(absences), absences[-1] if absences else None)
