"""What a gateway's experience comes to: corrections, thresholds that keep a promise. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from siloquy.router import calibration
from siloquy.router.atlas import Atlas
from siloquy.router.experience import Lesson
from siloquy.router.learning import LearnedCorrection, Lessons, learn
from siloquy.types import NodeId, Term, Vector

FOLDS = 5
# Shares are kept this far from 0 and 1 before their log odds are taken.
_LEAST_SHARE = 1e-4

Floats = NDArray[np.float64]
Rank = Callable[[Floats], Floats]
"""(..., S) expected shares to the priorities that silos are asked by."""
Weigh = Callable[[Sequence[str]], Sequence[Term]]


@dataclass(frozen=True, slots=True, eq=False)
class RouterFit:
    """What the experience came to, for the silos of an atlas.

    thresholds   by promised coverage; None where the audits do not carry it
    audits       how many there are
    drifted      whether the promise broke and has not been calibrated again
    new          silos that fewer than 200 of the audits asked: with a promise they are always asked
    """

    silos: tuple[NodeId, ...]
    learned: LearnedCorrection | None
    thresholds: Mapping[float, float | None]
    audits: int
    drifted: bool
    new: tuple[NodeId, ...] = ()


def unfitted(silos: tuple[NodeId, ...], *, drifted: bool = False) -> RouterFit:
    """No experience."""
    return RouterFit(silos, None, {}, 0, drifted)


def broken(fitted: RouterFit) -> RouterFit:
    """The same without its promise."""
    return replace(fitted, thresholds={}, audits=0, drifted=True, new=())


def fit(
    atlas: Atlas,
    lessons: Sequence[Lesson],
    weigh: Weigh,
    rank: Rank,
    promises: Sequence[float],
    start: int,
) -> RouterFit:
    """What ``lessons`` say of the silos of ``atlas``; seconds of CPU with many.

    start   number of the newest lesson that an alarm has made void as an audit; 0 for none
    """
    if not lessons or not len(atlas):
        return unfitted(atlas.silos, drifted=start > 0)
    records = records_of(atlas, lessons, weigh)
    usable = np.array([item.audit and item.number > start for item in lessons], dtype=bool)
    audits = int(usable.sum())
    learned = learn(records)
    if audits < calibration.LEAST_AUDITS:
        none = dict.fromkeys(promises, None)
        return RouterFit(atlas.silos, learned, none, audits, drifted=start > 0)
    held = records.targets[usable]
    priorities = held_out(records, usable, rank)
    thresholds = {
        promise: calibration.threshold(priorities, np.nan_to_num(held), promise)
        for promise in promises
    }
    asked = np.isfinite(held).sum(axis=0) >= calibration.LEAST_AUDITS
    new = tuple(silo for silo, enough in zip(atlas.silos, asked, strict=True) if not enough)
    return RouterFit(atlas.silos, learned, thresholds, audits, drifted=False, new=new)


def records_of(atlas: Atlas, lessons: Sequence[Lesson], weigh: Weigh) -> Lessons:
    """What lessons say of the atlas' silos: shares of the winners, NaN where not asked."""
    targets = np.full((len(lessons), len(atlas)), np.nan)
    offsets = np.zeros((len(lessons), len(atlas)))
    for row, lesson in enumerate(lessons):
        found = max(sum(lesson.held.values()), 1)
        for silo, count in lesson.held.items():
            if silo in atlas.rows:
                targets[row, atlas.rows[silo]] = count / found
        terms = weigh(lesson.words) if atlas.reads_words else ()
        offsets[row] = log_odds(atlas.expect(lesson.vector, terms, found).shares)
    vectors = np.stack([lesson.vector for lesson in lessons])
    return Lessons(vectors, tuple(lesson.words for lesson in lessons), targets, offsets)


def corrected(
    learned: LearnedCorrection, vector: Vector, words: Sequence[str], shares: Floats
) -> Floats:
    """Expected shares with what past questions say, as log odds; they sum to 1."""
    odds = log_odds(shares)
    changed = expit(odds + learned.adjust(vector, words, odds)) * (shares > 0)
    return np.asarray(changed / max(float(changed.sum()), 1e-12))


def held_out(
    records: Lessons, wanted: NDArray[np.bool_], rank: Rank = lambda shares: shares
) -> Floats:
    """(n, S) priorities in the ``wanted`` records, each from what the other folds taught.

    The first silo of each counts as infinite: it is always asked.
    """
    rows = np.flatnonzero(wanted)
    result = np.zeros((len(rows), records.targets.shape[1]))
    for fold in range(min(FOLDS, len(rows))):
        inside = rows[fold::FOLDS]
        outside = np.setdiff1d(np.arange(len(records.vectors)), inside)
        learned = learn(_some(records, outside))
        for at, row in zip(range(fold, len(rows), FOLDS), inside, strict=True):
            assert records.offsets is not None  # noqa: S101 - records_of gives them
            shares = expit(records.offsets[row])
            result[at] = corrected(learned, records.vectors[row], records.words[row], shares)
    return always_asked(rank(result), records.targets[rows])


def always_asked(priorities: Floats, held: Floats) -> Floats:
    """(n, S) the same, infinite for the first of each question: it is asked in any case.

    held   (n, S) NaN for a silo that was not asked
    """
    among = np.where(np.isnan(held), -1.0, priorities)
    result = among.copy()
    result[np.arange(len(among)), among.argmax(axis=1)] = np.inf
    return result


def _some(records: Lessons, rows: NDArray[np.int64]) -> Lessons:
    offsets = None if records.offsets is None else records.offsets[rows]
    words = tuple(records.words[row] for row in rows)
    return Lessons(records.vectors[rows], words, records.targets[rows], offsets)


def log_odds(shares: Floats) -> Floats:
    """Log odds of shares, those under 1 in 10,000 as that."""
    return np.asarray(logit(np.clip(shares, _LEAST_SHARE, 1 - _LEAST_SHARE)))
