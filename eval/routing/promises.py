"""What a router promises to keep, what comes of it, and when it notices that it no longer holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from siloquy.eval.routing import measures
from siloquy.eval.routing.changes import half_known
from siloquy.eval.routing.routers import Rows, corrections, expected
from siloquy.eval.routing.rows import RowWriter, unnoted
from siloquy.eval.scene import Floats, Scene
from siloquy.router import calibration
from siloquy.router.atlas import Atlas
from siloquy.router.fitting import held_out, log_odds
from siloquy.router.learning import Lessons, learn

PROMISES = (0.90, 0.95, 0.99)
AUDITS = (200, 400)
REPEATS = 20


@dataclass(frozen=True, slots=True)
class PromiseResult:
    """A promised coverage and what came of it on questions that had no part in it.

    kept        mean over repeats, with the 2.5 and 97.5 percentiles of the repeats
    silos       asked; best: by the threshold that keeps the promise on the test questions exactly
    """

    promise: float
    audits: int
    learned: bool
    kept: float
    low: float
    high: float
    silos: float
    best: float


def promises(
    scene: Scene, atlas: Atlas, seed: int, note: RowWriter = unnoted
) -> list[PromiseResult]:
    """Calibrated on some questions, measured on the others, many times over."""
    every = np.arange(len(scene.asked.ids))
    shares = expected(scene, atlas, every)
    found = []
    for audits in AUDITS:
        if len(every) < audits + 150:
            continue
        for promise in PROMISES:
            found.append(_promise(scene, shares, promise, audits, seed, note))
            found.append(_promise(scene, shares, promise, audits, seed, note, repeats=3))
    return found


def _promise(
    scene: Scene,
    shares: Floats,
    promise: float,
    audits: int,
    seed: int,
    note: RowWriter,
    repeats: int = 0,
) -> PromiseResult:
    """With ``repeats``, what the audits teach is used too, and so many repeats are made."""
    kept, silos, best = [], [], []
    for repeat in range(repeats or REPEATS):
        order = np.random.default_rng([seed, repeat]).permutation(len(shares))
        known, test = order[:audits], order[audits:]
        if repeats:
            priorities, scores = _learnt(scene, shares, known, test)
        else:
            priorities = measures.with_first(shares[known])
            scores = shares[test]
        threshold = calibration.threshold(priorities, scene.shares[known], promise)
        asked = measures.above(scores, threshold if threshold is not None else 0.0)
        held = scene.held[test]
        shared, count = measures.kept(asked, held), asked.sum(axis=1)
        kept.append(float(shared.mean()))
        silos.append(float(count.mean()))
        best.append(measures.silos_for(scores, held, promise))
        note(
            "promises",
            promise=promise,
            audits=audits,
            learned=bool(repeats),
            repeat=repeat,
            questions=test,
            kept=shared,
            silos=count,
            best=best[-1],
        )
    low, high = np.quantile(kept, [0.025, 0.975])
    return PromiseResult(
        promise,
        audits,
        bool(repeats),
        float(np.mean(kept)),
        float(low),
        float(high),
        float(np.mean(silos)),
        float(np.mean(best)),
    )


def _learnt(scene: Scene, shares: Floats, known: Rows, test: Rows) -> tuple[Floats, Floats]:
    """Priorities of the audits, each from what the others taught, and shares of the test."""
    asked = scene.asked
    words = tuple(asked.words[i] for i in known)
    lessons = Lessons(asked.vectors[known], words, scene.shares[known], log_odds(shares[known]))
    priorities = held_out(lessons, np.ones(len(known), dtype=bool))
    return priorities, corrections(scene, learn(lessons), test, shares[test])


@dataclass(frozen=True, slots=True)
class DriftResult:
    """A promise whose silos changed behind their profiles.

    false_alarms   alarms on 200 audits before the change
    delay          audits after it until the alarm; -1 without one
    broken         share kept after the change by the old threshold, until the alarm
    kept, silos    after it, by the threshold calibrated anew on the next 200 audits; best: see
                   ``PromiseResult``; the old threshold's without an alarm
    """

    change: str
    promise: float
    false_alarms: int
    delay: int
    broken: float
    kept: float
    silos: float
    best: float


LEAST_QUESTIONS = 900


def drifts(
    scene: Scene, atlas: Atlas, seed: int, promise: float, note: RowWriter = unnoted
) -> list[DriftResult]:
    """Two changes: half of the documents came in since, and the four largest holders swapped."""
    every = np.arange(len(scene.asked.ids))
    if len(every) < LEAST_QUESTIONS:
        return []
    generator = np.random.default_rng(seed)
    shares = expected(scene, atlas, every)
    grown = expected(scene, half_known(scene, generator), every)
    most = np.argsort(-scene.held.sum(axis=0))[:4]
    swapped = shares.copy()
    swapped[:, most] = shares[:, np.roll(most, 1)]
    order = generator.permutation(len(every))
    changes = {"half of the documents are new": grown, "four silos swapped": swapped}
    return [
        _drift(scene, shares, changed, order, name, promise, partial(note, seed=seed))
        for name, changed in changes.items()
    ]


def _drift(
    scene: Scene,
    shares: Floats,
    changed: Floats,
    order: Rows,
    name: str,
    promise: float,
    note: RowWriter,
) -> DriftResult:
    known, before, after = order[:200], order[200:400], order[400:]
    threshold = _calibrated(scene, shares, known, promise)
    calm = _losses(scene, shares, before, threshold)
    quiet = calibration.wealth(calm, promise)
    losses = _losses(scene, changed, after, threshold)
    path = calibration.wealth(losses, promise)
    # What is left after a late alarm is too little to calibrate and measure on.
    alarm = bool((path[: len(after) - 300] >= calibration.ALARM).any())
    delay = int(np.argmax(path >= calibration.ALARM)) if alarm else -1
    test = after
    if alarm:
        fresh, test = after[delay : delay + 200], after[delay + 200 :]
        threshold = _calibrated(scene, changed, fresh, promise)
    asked = measures.above(changed[test], threshold)
    kept, silos = measures.kept(asked, scene.held[test]), asked.sum(axis=1)
    note("drift", change=name, phase="before", questions=before, kept=1 - np.array(calm))
    note("drift", change=name, phase="changed", questions=after, kept=1 - np.array(losses))
    note("drift", change=name, phase="anew", questions=test, kept=kept, silos=silos)
    return DriftResult(
        name,
        promise,
        int((quiet >= calibration.ALARM).any()),
        delay,
        float(1 - np.mean(losses[:delay] if alarm else losses)),
        float(kept.mean()),
        float(silos.mean()),
        measures.silos_for(changed[test], scene.held[test], promise),
    )


def _calibrated(scene: Scene, shares: Floats, rows: Rows, promise: float) -> float:
    """The threshold that keeps the promise by these audits; 0, everybody, when none does."""
    found = calibration.threshold(measures.with_first(shares[rows]), scene.shares[rows], promise)
    return found if found is not None else 0.0


def _losses(scene: Scene, shares: Floats, rows: Rows, threshold: float) -> list[float]:
    asked = measures.above(shares[rows], threshold)
    return [float(1 - value) for value in measures.kept(asked, scene.held[rows])]
