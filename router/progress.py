"""When a gateway has heard enough to learn anew."""

from __future__ import annotations

from dataclasses import dataclass

from siloquy.router.calibration import LEAST_AUDITS

# Questions after which to learn anew: so many, or this share of what was learned from.
REFIT_EVERY, REFIT_SHARE = 25, 0.05
REFIT_REST_MS = 10 * 60 * 1000
"""Least time between two refits for profiles that say something new of the same silos."""


@dataclass(slots=True)
class Progress:
    """What came in since the last refit; not safe to share between threads.

    taught     lessons of the last refit
    refitted   when it was, Unix milliseconds
    stale      whether profiles say something since that it did not know
    """

    taught: int = 0
    refitted: int = -REFIT_REST_MS
    stale: bool = False
    questions: int = 0
    audits: int = 0

    def begin(self, now: int) -> None:
        """A refit starts."""
        self.refitted, self.stale, self.questions, self.audits = now, False, 0, 0

    def count(self, *, audit: bool) -> None:
        """One question was heard."""
        self.questions += 1
        self.audits += audit

    def due(self, audits: int, now: int) -> bool:
        """Whether it is time to refit, with so many audits in the last one."""
        return (
            self.questions >= max(REFIT_EVERY, REFIT_SHARE * self.taught)
            or audits < LEAST_AUDITS <= audits + self.audits
            or (self.stale and now - self.refitted >= REFIT_REST_MS)
        )
