"""Which silos answer, and how soon: kept in memory, so a restart forgets it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from siloquy.errors import MissingReason
from siloquy.types import Missing, NodeId

MISSES = 3
REST_MS = 30_000
REFUSAL_MS = 3600_000
# Weight of the newest reply in the running mean of a silo's reply times.
NEWEST = 0.2


@dataclass(frozen=True, slots=True)
class _Pulse:
    """Misses in a row, when the last was, when it last refused by policy, its usual time."""

    misses: int = 0
    missed: int = 0
    refused: int | None = None
    usual_ms: float | None = None


class Health:
    """The state of each silo, by what came of the last questions."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._pulses: dict[NodeId, _Pulse] = {}
        self._lock = threading.Lock()

    def note(
        self, asked: Collection[NodeId], missing: Collection[Missing], ms: Mapping[str, float]
    ) -> None:
        """Take in who of the asked silos was heard, and after what time."""
        gone = {item.silo: item.reason for item in missing}
        now = self._clock()
        with self._lock:
            pulses = dict(self._pulses)
            for silo in asked:
                pulse = pulses.get(silo, _Pulse())
                pulses[silo] = _after(pulse, gone.get(silo), now, ms.get(silo))
            # A new value, not a changed one: other threads read it meanwhile.
            self._pulses = pulses

    def unfit(self, silo: NodeId, patience_ms: float | None) -> str:
        """Why a silo should not be asked now, in words; empty when it may be.

        patience_ms   the longest usual time that a question waits for; None for any
        """
        return _why(self._pulses.get(silo, _Pulse()), self._clock(), patience_ms)

    def all_unfit(self, patience_ms: float | None) -> dict[NodeId, str]:
        """The silos that should not be asked now, and why."""
        now = self._clock()
        return {
            silo: why
            for silo, pulse in self._pulses.items()
            if (why := _why(pulse, now, patience_ms))
        }

    def refused(self, silo: NodeId) -> bool:
        """Whether the silo refused a question within the last hour."""
        last = self._pulses.get(silo, _Pulse()).refused
        return last is not None and self._clock() - last < REFUSAL_MS


def _why(pulse: _Pulse, now: int, patience_ms: float | None) -> str:
    if pulse.misses >= MISSES and now - pulse.missed < REST_MS:
        return f"did not answer the last {pulse.misses} questions; tried again in half a minute"
    if patience_ms is not None and pulse.usual_ms is not None and pulse.usual_ms > patience_ms:
        return f"usually takes {pulse.usual_ms:.0f} ms, too long for a fast answer"
    return ""


def _after(pulse: _Pulse, reason: MissingReason | None, now: int, ms: float | None) -> _Pulse:
    if reason == "refused":
        return replace(pulse, refused=now, misses=0)
    if reason in ("unreachable", "timeout"):
        return replace(pulse, misses=pulse.misses + 1, missed=now)
    if reason is None:
        return replace(pulse, misses=0, usual_ms=_usual(pulse.usual_ms, ms))
    return pulse


def _usual(old: float | None, new: float | None) -> float | None:
    if new is None:
        return old
    return new if old is None else (1 - NEWEST) * old + NEWEST * new
