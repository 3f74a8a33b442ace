"""Rate limits of sign-in: each attempt is counted before it is known to be wrong."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import monotonic

from siloquy.web.refusals import Overloaded

FREE_TRIES = 3
MOST_WAIT_S = 300.0
FORGET_S = 3600.0
MOST_NAMES = 10_000


class RateLimit:
    """At most ``most`` attempts within ``window_s``."""

    def __init__(
        self, most: int, window_s: float = 60.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._window_s = window_s
        self._clock = clock
        self._taken: deque[float] = deque()
        self._most = most

    def take(self) -> None:
        """Count an attempt; Overloaded when there were too many."""
        now = self._clock()
        while self._taken and now - self._taken[0] >= self._window_s:
            self._taken.popleft()
        if len(self._taken) >= self._most:
            raise _too_many(self._window_s - (now - self._taken[0]))
        self._taken.append(now)

    def give_back(self) -> None:
        """Forget the last attempt: it was a right one."""
        if self._taken:
            self._taken.pop()


@dataclass(slots=True)
class _Tries:
    count: int = 0
    next_at: float = 0.0


class Waits:
    """For each name three attempts, then a wait that doubles with every further one.

    Names that there are not are counted like others, so that the wait tells nothing.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def check(self, name: str) -> None:
        """Overloaded while ``name`` has to wait; it is no attempt."""
        now, tries = self._clock(), self._tries.get(name.casefold())
        if tries is not None and now < tries.next_at:
            raise _too_many(tries.next_at - now)

    def take(self, name: str) -> None:
        """Count an attempt for ``name``; Overloaded while it has to wait."""
        self.check(name)
        now, known_as = self._clock(), name.casefold()
        tries = self._tries.setdefault(known_as, _Tries())
        self._tries.move_to_end(known_as)
        if now - tries.next_at > FORGET_S:
            tries.count = 0
        tries.count += 1
        tries.next_at = now + wait_s(tries.count)
        while len(self._tries) > MOST_NAMES:
            self._tries.popitem(last=False)

    def forget(self, name: str) -> None:
        """Start anew for ``name``: its password was right."""
        self._tries.pop(name.casefold(), None)


def wait_s(count: int) -> float:
    """Seconds from the attempt of this number to the next.

    >>> [wait_s(n) for n in (1, 2, 3, 4, 12)]
    [0.0, 0.0, 1.0, 2.0, 300.0]
    """
    if count < FREE_TRIES:
        return 0.0
    return min(MOST_WAIT_S, 2.0 ** min(count - FREE_TRIES, 20))


def _too_many(left_s: float) -> Overloaded:
    return Overloaded(
        "too many attempts to sign in",
        "try again after the seconds in Retry-After",
        max(1, ceil(left_s)),
    )
