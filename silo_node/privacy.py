"""Differential privacy for what a silo publishes of itself: bound, noise, account.

The unit is the group whose numbers ``bounded`` gets, a document or a patient, added or removed.
``bounded`` limits what a group adds to a sum, ``noised`` hides that much, and ``Releases`` keeps
the account over a year before anything leaves. dp-accounting is imported on first use: with scipy
it takes three seconds and 85 MB, where the encoder has not brought scipy already.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from siloquy.database import reading, transaction
from siloquy.errors import BudgetExhausted

SCHEMA = """
CREATE TABLE IF NOT EXISTS profile_releases (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    created INTEGER NOT NULL,
    sigma REAL NOT NULL,
    epsilon REAL NOT NULL,
    delta REAL NOT NULL,
    period TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS profile_contents (
    recipe TEXT PRIMARY KEY, content BLOB NOT NULL, made INTEGER NOT NULL,
    fingerprint BLOB NOT NULL, passages INTEGER NOT NULL
) WITHOUT ROWID;
"""
Draw = Callable[[int], bytes]
"""That many random bytes."""

MOST_SIGMA = 2.0**50
"""Above it a discrete Laplace sample would not fit 64 bits."""

_WORD = 2.0**64
# exp(-44) < 2 ** -63: a geometric sample above 44 never comes of 64 random bits.
_TAILS = (np.exp(-np.arange(44.0, 0.0, -1.0)) * _WORD).astype(np.uint64)
_ROUND = 1 << 16
_GRID = 1024
_MOST_STEPS = 2.0**53
# The accountant's grid, per unit of 1 / sigma: 0.07 s a call, epsilon at most 1e-5 of it too high
# from sigma .01 to 1e6 and delta 1e-3 to 1e-9. Its own default takes 24 s and 1.4 GB at sigma .05.
_INTERVAL = 1e-3
_ROUNDED_UP = 1e-4
_STRONGEST = 100.0


# -- the account ----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def sigma(epsilon: float, delta: float) -> float:
    """Standard deviation of Gaussian noise for L2 sensitivity 1; 0 for infinite ``epsilon``.

    The least that is (epsilon, delta)-private: Balle and Wang 2018, arXiv 1805.06530.
    ValueError unless epsilon > 0 and 0 < delta < 1.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}")
    _check_delta(delta)
    if epsilon == math.inf:
        return 0.0
    import dp_accounting

    # Far too little noise on the way to the right one has log(0) for its private part.
    with np.errstate(divide="ignore"):
        return float(dp_accounting.get_sigma_gaussian(epsilon, delta))


def composed(sigmas: Sequence[float], delta: float) -> float:
    """Epsilon of Gaussian releases with noise multipliers ``sigmas`` together; 0 for none.

    Together they tell as much as one of 1 / sigma = sqrt(sum 1 / sigma_i ** 2): Dong, Roth and Su
    2022, arXiv 1905.02383, corollary 3.3. dp-accounting's privacy loss distribution gives its
    epsilon, rounded up. Infinite once that one sigma is under .01, which would be epsilon 5,000.
    ValueError unless every sigma >= 0 and 0 < delta < 1.
    """
    _check_delta(delta)
    for one in sigmas:
        _check_sigma(one)
    strength = math.hypot(*(1 / one if one else math.inf for one in sigmas))
    if strength == 0:
        return 0.0
    if strength > _STRONGEST:
        return math.inf
    import dp_accounting

    accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=_INTERVAL * strength)
    accountant.compose(dp_accounting.GaussianDpEvent(1 / strength))
    return float(accountant.get_epsilon(delta))


def period_of(now_ms: int) -> str:
    """The UTC calendar year of ``now_ms``, over which releases are added up."""
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC).year:04d}"


class Releases:
    """The releases of a silo's profile, each written down before it leaves.

    A release without noise has sigma 0 and epsilon infinity (SQLite keeps it as a REAL). It counts
    against no budget: ``spent`` tells what the noised releases cost, and nothing of the others.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def spent(self, period: str, delta: float) -> float:
        """Epsilon of all noised releases of ``period`` together, at ``delta``."""
        with reading(self._connection):
            return composed(self._sigmas(period), delta)

    def charge(
        self,
        created_ms: int,
        sigma: float,
        epsilon: float,
        delta: float,
        period: str,
        most: float,
    ) -> None:
        """Record a release; call it before drawing the noise, so that a crash costs budget only.

        sigma     noise multiplier, 0 for a release without noise
        epsilon   what this release costs by itself, at ``delta``
        most      epsilon that all noised releases of ``period`` may come to, at ``delta``

        BudgetExhausted, and nothing is recorded, when they would come to more.
        """
        if sigma:
            # Before the write lock is taken: the first call takes seconds.
            import dp_accounting  # noqa: F401
        with transaction(self._connection) as connection:
            if sigma:
                self._check(sigma, delta, period, most)
            connection.execute(
                "INSERT INTO profile_releases (created, sigma, epsilon, delta, period) "
                "VALUES (?, ?, ?, ?, ?)",
                (created_ms, sigma, epsilon, delta, period),
            )

    def _check(self, sigma: float, delta: float, period: str, most: float) -> None:
        sigmas = self._sigmas(period)
        total = composed([*sigmas, sigma], delta)
        # The accountant rounds up: one release made for ``most`` must fit.
        if total > most * (1 + _ROUNDED_UP):
            raise BudgetExhausted(
                f"a profile with noise {sigma:.4g} after {len(sigmas)} others would bring "
                f"{period} to epsilon {total:.4g} at delta {delta:.2g}, the most is {most:.4g}",
                "the budget renews on 1 January at 00:00 UTC; "
                "what was published before may be sent again unchanged, at no cost",
            )

    def _sigmas(self, period: str) -> list[float]:
        rows = self._connection.execute(
            "SELECT sigma FROM profile_releases WHERE period = ? AND sigma > 0", (period,)
        )
        return [float(row[0]) for row in rows]


# -- the bound ------------------------------------------------------------------------------------


def bounded(groups: NDArray[np.int64], most: int = 1) -> NDArray[np.float64]:
    """(n,) weights in (0, 1] of passages; those of a group sum to at most ``most``.

    groups   (n,) number of each passage's document or patient
    most     passages of a group that count in full

    With rows of length 1 a group then moves the weighted sum by at most ``most`` in L2. Take that
    sum in float64: of 100,000 float32 rows the rounding alone can exceed a group's part.
    ValueError unless most >= 1.

    >>> bounded(np.array([7, 7, 9, 7, 7])).tolist()
    [0.25, 0.25, 1.0, 0.25, 0.25]
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return (most / sizes).clip(max=1.0)[members]


# -- the noise ------------------------------------------------------------------------------------


def noised(
    values: NDArray[np.float64], sensitivity: float, sigma: float, draw: Draw = os.urandom
) -> NDArray[np.float64]:
    """``values`` on a fixed grid, with discrete Gaussian noise; unchanged with ``sigma`` 0.

    sensitivity   L2 distance that a group can move all of ``values`` together
    sigma         noise multiplier, as ``sigma`` gives it

    What comes out is a whole number of steps whatever went in, so no low bit of a float tells of
    it (Mironov 2012). Rounding n coordinates to steps of g moves a vector by at most g sqrt(n) / 2
    and two neighbours apart by g sqrt(n): noise is made for sensitivity + g sqrt(n). The step, a
    power of two, keeps that within .1 % and is at most 1 / 1024 of the noise, where the discrete
    Gaussian's delta differs from the continuous one's by less than a part in 100,000. It depends
    on sensitivity, sigma and n alone, which must be no secrets.

    ValueError unless 0 < sensitivity < infinity and 0 <= sigma, and when a value is not finite or
    beyond 2 ** 53 steps.
    """
    if not 0 < sensitivity < math.inf:
        raise ValueError(f"sensitivity must be above 0 and finite, got {sensitivity}")
    _check_sigma(sigma)
    if sigma == 0:
        return np.array(values, dtype=np.float64)
    step = _step(sensitivity, sigma, values.size)
    if not np.all(np.abs(values) <= step * _MOST_STEPS):
        raise ValueError(f"a value is not finite or too large for sensitivity {sensitivity}")
    scale = sigma * (sensitivity / step + math.sqrt(values.size))
    noise = discrete_gaussian(scale, values.size, draw).reshape(values.shape)
    steps = np.rint(values / step).astype(np.int64) + noise
    return steps.astype(np.float64) * step


def discrete_gaussian(sigma: float, n: int, draw: Draw = os.urandom) -> NDArray[np.int64]:
    """(n,) independent integers x, each with probability proportional to exp(-(x / sigma)^2 / 2).

    Algorithms 2 and 3 of Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), many at a time, with
    64 random bits a decision in place of fractions of whole numbers: each probability is right to
    a part in 2 ** 44, but for 2 ** -58 in all. For 40,000 samples that adds 1e-12 to delta.
    ValueError unless 0 <= sigma <= 2 ** 50.
    """
    _check_sigma(sigma)
    if sigma > MOST_SIGMA:
        raise ValueError(f"sigma must be at most 2 ** 50, got {sigma}")
    if sigma == 0:
        return np.zeros(n, dtype=np.int64)
    rounds = [np.zeros(0, dtype=np.int64)]
    missing = n
    while missing > 0:
        # Just under half of the proposals are kept at a large sigma, more at a small one.
        rounds.append(_accepted(sigma, min(2 * missing + 64, _ROUND), draw))
        missing -= len(rounds[-1])
    return np.concatenate(rounds)[:n]


def _accepted(sigma: float, proposals: int, draw: Draw) -> NDArray[np.int64]:
    """Samples of the discrete Gaussian out of so many of the discrete Laplace."""
    t = int(sigma) + 1
    size, kept = _laplace(t, draw, proposals)
    # Beyond 64 the probability is 0 in any case, and the square would overflow at a small sigma.
    distance = np.minimum(np.abs(size) / sigma - sigma / t, 64.0)
    kept &= _happens(np.exp(-(distance**2) / 2), draw)
    accepted: NDArray[np.int64] = size[kept]
    return accepted


def _laplace(t: int, draw: Draw, n: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(n,) proposals and which of them to keep: those are discrete Laplace samples of scale t."""
    words = _words(draw, n)
    low = (words % np.uint64(t)).astype(np.int64)
    # Values whose remainder would be likelier than others are not kept.
    even = words <= np.uint64(2**64 - 1 - 2**64 % t)
    high = len(_TAILS) - np.searchsorted(_TAILS, _words(draw, n), side="right")
    size = low + t * high
    negative = _words(draw, n) >= np.uint64(2**63)
    kept = even & _happens(np.exp(-low / t), draw) & ~(negative & (size == 0))
    return np.where(negative, -size, size), kept


def _happens(probability: NDArray[np.float64], draw: Draw) -> NDArray[np.bool_]:
    return _words(draw, len(probability)).astype(np.float64) < probability * _WORD


def _words(draw: Draw, n: int) -> NDArray[np.uint64]:
    return np.frombuffer(draw(8 * n), dtype=np.uint64)


def _step(sensitivity: float, sigma: float, n: int) -> float:
    """The greatest power of two that meets both bounds of ``noised``."""
    finest = sensitivity * min(sigma, 1 / math.sqrt(max(n, 1))) / _GRID
    return float(2.0 ** math.floor(math.log2(finest)))


def _check_sigma(sigma: float) -> None:
    if not sigma >= 0:
        raise ValueError(f"sigma must be at least 0, got {sigma}")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must be between 0 and 1, got {delta}")
