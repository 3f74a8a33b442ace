"""Shares of few cases, with how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True, slots=True)
class Share:
    """``hits`` of ``n`` with the 95 % Wilson interval; 0 to 1 where n is 0."""

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; not a number where n is 0."""
        return self.hits / self.n if self.n else float("nan")


def share(flags: Sequence[bool]) -> Share:
    """How many are true, with the interval of Wilson (1927).

    >>> found = share([True] * 9 + [False])
    >>> round(found.low, 3), round(found.high, 3)
    (0.596, 0.982)
    """
    hits, n = sum(flags), len(flags)
    if not n:
        return Share(0, 0, 0.0, 1.0)
    z, p = 1.96, hits / n
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return Share(hits, n, max(0.0, low), min(1.0, high))
