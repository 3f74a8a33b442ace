"""How far down the ranking of silos to ask so that a promise is kept, and when it no longer is.

Pure. An *audit* is a question that every silo was asked: it tells how many of the global top-k each
silo held. A pair of question and silo has a *priority*; a silo is asked when its priority reaches
a threshold. The more audits, the closer the threshold comes to the best one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAST_AUDITS = 200
# What the drift alarm bets, as shares of the largest bet that cannot lose all its wealth.
_BETS = (0.1, 0.25, 0.5)
_RICHEST = 1e100
ALARM = 1000.0
"""Wealth at which a promise is called broken: a false alarm comes once in 1,000 audits or more."""

Priorities = NDArray[np.float64]
Shares = NDArray[np.float64]


def threshold(priorities: Priorities, held: Shares, promise: float) -> float | None:
    """The highest threshold that keeps ``promise`` of the top-k on average; None when none can.

    Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814, eq. 4): with n audits
    exchangeable with the next question, E[share missed] <= 1 - promise when the mean share missed
    in the audits, (n * mean + 1) / (n + 1), is.

    priorities   (n, S)
    held         (n, S) share of the top-k that lay at each silo; rows sum to 1, or to 0 where the
                 question had no winner
    promise      in (0, 1)
    """
    n = len(priorities)
    if not n:
        return None
    order = np.argsort(-priorities, axis=None, kind="stable")
    kept = np.cumsum(held.ravel()[order]) / n
    missed = np.clip(held.sum() / n - kept, 0.0, None)
    enough = np.flatnonzero((n * missed + 1) / (n + 1) <= 1 - promise + 1e-12)
    return float(priorities.ravel()[order[enough[0]]]) if len(enough) else None


def missed(priorities: Priorities, held: Shares, least: float) -> Shares:
    """(n,) share of each question's top-k that lies at silos under the threshold ``least``."""
    return np.asarray((held * (priorities < least)).sum(axis=1))


def wealth(losses: Sequence[float], promise: float) -> NDArray[np.float64]:
    """(n + 1,) how strongly the losses up to each audit speak against the promise; begins at 1.

    A gambler who bets that losses exceed 1 - promise; his wealth, never below 1, is a CUSUM
    e-detector (Shin, Ramdas and Rinaldo 2022, arXiv 2203.03532): while the promise holds, the mean
    time until it reaches W is at least W audits. A threshold of 200 audits keeps the promise on
    average over such thresholds, one by itself somewhat more or less: simulated, 2 to 9 of 100 came
    to an alarm within 1,000 audits.
    """
    alpha = 1 - promise
    path = np.ones((len(_BETS), len(losses) + 1))
    for i, loss in enumerate(losses):
        for j, bet in enumerate(_BETS):
            gain = 1 + bet * (loss - alpha) / alpha
            path[j, i + 1] = min(max(path[j, i], 1.0) * max(gain, 0.0), _RICHEST)
    return np.asarray(path.mean(axis=0))
