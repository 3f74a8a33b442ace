"""Admission control: how many questions are worked on and wait; what is more comes back later."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from time import monotonic

from siloquy.web.refusals import Overloaded

MOST_RETRY_AFTER_S = 60
# Weight of the newest question in the running mean time between two that end.
_FRESH = 0.2


class Admission:
    """Places for ``at_once`` questions and ``waiting`` behind them, first come, first served."""

    def __init__(self, at_once: int, waiting: int, clock: Callable[[], float] = monotonic) -> None:
        self._at_once = at_once
        self._waiting = waiting
        self._clock = clock
        self._working = 0
        self._queue: dict[Place, None] = {}
        self._gap_s = 1.0

    @property
    def load(self) -> tuple[int, int]:
        """How many are worked on, and how many wait."""
        return self._working, len(self._queue)

    def reserve(self) -> Place:
        """A place, worked on at once or waiting; Overloaded when all are taken.

        Whoever holds it must ``leave`` it.
        """
        place = Place(self)
        if self._working < self._at_once:
            self._begin(place)
        elif len(self._queue) < self._waiting:
            self._queue[place] = None
        else:
            raise Overloaded(
                f"{self._working} questions are worked on and {len(self._queue)} wait",
                "try again after the seconds in Retry-After",
                self.retry_after_s,
            )
        return place

    @property
    def retry_after_s(self) -> int:
        """Seconds until those who wait now should be through, from the times of the last ones."""
        wait_s = (len(self._queue) + 1) * self._gap_s
        return min(MOST_RETRY_AFTER_S, max(1, math.ceil(wait_s)))

    def _begin(self, place: Place) -> None:
        self._working += 1
        place.begin(self._clock())

    def give_up(self, place: Place) -> None:
        """Take ``place`` out of the queue."""
        self._queue.pop(place, None)

    def end(self, began: float) -> None:
        """Count one question as done that was begun at ``began``, and let the next begin."""
        # With n worked on at once, one ends each nth of the time that one takes.
        gap_s = (self._clock() - began) / self._working
        self._gap_s += _FRESH * (gap_s - self._gap_s)
        self._working -= 1
        if self._queue:
            following = next(iter(self._queue))
            del self._queue[following]
            self._begin(following)


class Place:
    """One question's place, to be left in the end."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._turn = asyncio.Event()
        self._began = 0.0
        self._left = False

    @property
    def waits(self) -> bool:
        """Whether others are worked on first."""
        return not self._turn.is_set()

    async def turn(self) -> None:
        """Return when it is this one's turn."""
        await self._turn.wait()

    def begin(self, now: float) -> None:
        """Say that it is this one's turn."""
        self._began = now
        self._turn.set()

    def leave(self) -> None:
        """Make room for the next, whether the turn has come or not; more than once is no harm."""
        if self._left:
            return
        self._left = True
        if self.waits:
            self._admission.give_up(self)
        else:
            self._admission.end(self._began)
