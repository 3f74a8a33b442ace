"""What happens to a router when silos join, leave, fall silent or change, and what it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from time import process_time

import numpy as np
from numpy.typing import NDArray

from siloquy.eval import routing_measures as measures
from siloquy.eval.routers import Rows, Trial, expected, taught
from siloquy.eval.scene import Floats, K, Scene
from siloquy.router import calibration
from siloquy.router.atlas import Atlas
from siloquy.router.fitting import corrected, held_out, log_odds
from siloquy.router.learning import Lessons, learn
from siloquy.types import NodeId, Profile

PART = 0.33
PROMISES = (0.90, 0.95, 0.99)
AUDITS = (200, 400)
REPEATS = 20
OFFLINE = 0.3
MANY = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """A share kept beside the mean number of silos asked for it."""

    name: str
    kept: float
    silos: float


# -- silos come and go ----------------------------------------------------------------------------


def unseen(trial: Trial, atlas: Atlas) -> list[Kept]:
    """Winners at a silo that joined after the feedback, beside one that the feedback knew.

    Of the three silos that hold most: what is kept of their own winners at one threshold for all.
    """
    scene, known = trial.scene, trial.known[:200]
    rows = np.argsort(-scene.held.sum(axis=0))[:3]
    before, after = list[Floats](), list[Floats]()
    whole = taught(scene, atlas, known, trial.test)
    for row in rows:
        blind = _taught_without(scene, atlas, known, trial.test, int(row))
        for scores, kept in ((whole, after), (blind, before)):
            asked = measures.chosen(scores, PART * len(scene.sites))
            held = scene.held[trial.test][:, row]
            kept.append((held * asked[:, row])[held > 0] / held[held > 0])
    silos = PART * len(scene.sites)
    return [
        Kept("its own winners, silo known to feedback", _mean(after), silos),
        Kept("its own winners, silo just joined", _mean(before), silos),
    ]


def _taught_without(scene: Scene, atlas: Atlas, known: Rows, test: Rows, row: int) -> Floats:
    """Shares when the feedback knew nothing of one silo."""
    asked = scene.asked
    others = np.arange(len(scene.sites)) != row
    held = np.where(others, scene.held[known], 0.0)
    targets = held / np.maximum(held.sum(axis=1, keepdims=True), 1)
    targets[:, row] = np.nan
    before = expected(scene, atlas, known)
    rest = before * others
    rest = rest / np.maximum(rest.sum(axis=1, keepdims=True), 1e-12)
    words = tuple(asked.words[i] for i in known)
    learned = learn(Lessons(asked.vectors[known], words, targets, log_odds(rest)))
    prior = expected(scene, atlas, test)
    return np.stack(
        [
            corrected(learned, asked.vectors[i], asked.words[i], shares)
            for i, shares in zip(test, prior, strict=True)
        ]
    )


def removed(trial: Trial, profiles: Sequence[Profile]) -> list[Kept]:
    """The three largest holders gone in turn: what is kept of the ten best of the others."""
    scene = trial.scene
    found = []
    for row in np.argsort(-scene.held.sum(axis=0))[:3]:
        rest = [profile for i, profile in enumerate(profiles) if i != row]
        others = np.arange(len(scene.sites)) != row
        held = best_among(scene, trial.test, others)[:, others]
        scores = expected(scene, Atlas(rest, scene.topics, scene.lexicon), trial.test)
        asked = measures.chosen(scores, PART * len(rest))
        found.append(measures.kept(asked, held).mean())
    return [Kept("a silo removed", float(np.mean(found)), PART * (len(scene.sites) - 1))]


def best_among(scene: Scene, rows: Rows, silos: NDArray[np.bool_]) -> Floats:
    """(n, S) the ten best of some silos alone."""
    n = len(scene.sites)
    found = [
        np.bincount(scene.offers[i].silos[scene.offers[i].best(silos)], minlength=n) for i in rows
    ]
    return np.stack(found).astype(np.float64)


def stale(trial: Trial, epsilon: float = inf) -> list[Kept]:
    """Profiles made when half of each silo's documents, drawn by chance, were there."""
    scene, generator = trial.scene, np.random.default_rng(trial.seed)
    scores = expected(scene, half_known(scene, generator, epsilon), trial.test)
    asked = measures.chosen(scores, PART * len(scene.sites))
    kept = measures.kept(asked, scene.held[trial.test]).mean()
    return [Kept("profiles of half of the documents", float(kept), PART * len(scene.sites))]


def half_known(scene: Scene, generator: np.random.Generator, epsilon: float = inf) -> Atlas:
    """Profiles of a random half of each silo's documents."""
    rows = []
    for site in scene.sites:
        some = generator.random(int(site.documents.max(initial=0)) + 1) < 0.5
        rows.append(np.flatnonzero(some[site.documents]))
    return Atlas(scene.profiles(epsilon, rows), scene.topics, scene.lexicon)


def offline(trial: Trial, atlas: Atlas) -> list[Kept]:
    """Three in ten silos silent: what is kept of the others' ten best, not known yet and known."""
    scene, generator = trial.scene, np.random.default_rng(trial.seed)
    n = len(scene.sites)
    up = np.ones(n, dtype=bool)
    up[generator.choice(n, round(OFFLINE * n), replace=False)] = False
    held = best_among(scene, trial.test, up)
    scores = expected(scene, atlas, trial.test)
    blind = measures.chosen(scores, PART * n)
    aware = measures.chosen(np.where(up, scores, -1.0), PART * n)
    return [
        Kept("30 % silent, not known yet", float(measures.kept(blind & up, held).mean()), PART * n),
        Kept("30 % silent, known", float(measures.kept(aware & up, held).mean()), PART * n),
    ]


def _mean(parts: Sequence[Floats]) -> float:
    return float(np.concatenate(parts).mean()) if parts else float("nan")


# -- promises -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
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


def promises(scene: Scene, atlas: Atlas, seed: int) -> list[Promise]:
    """Calibrated on some questions, measured on the others, many times over."""
    every = np.arange(len(scene.asked.ids))
    shares = expected(scene, atlas, every)
    found = []
    for audits in AUDITS:
        if len(every) < audits + 150:
            continue
        for promise in PROMISES:
            found.append(_promise(scene, shares, promise, audits, seed))
            found.append(_promise(scene, shares, promise, audits, seed, repeats=3))
    return found


def _promise(
    scene: Scene, shares: Floats, promise: float, audits: int, seed: int, repeats: int = 0
) -> Promise:
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
        kept.append(float(measures.kept(asked, held).mean()))
        silos.append(float(asked.sum(axis=1).mean()))
        best.append(measures.silos_for(scores, held, promise))
    low, high = np.quantile(kept, [0.025, 0.975])
    return Promise(
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
    learned = learn(lessons)
    scores = [corrected(learned, asked.vectors[i], asked.words[i], shares[i]) for i in test]
    return priorities, np.stack(scores)


@dataclass(frozen=True, slots=True)
class Drifted:
    """A promise whose silos changed behind their profiles.

    false_alarms   alarms on 200 audits before the change
    delay          audits after it until the alarm; -1 without one
    broken         share kept after the change by the old threshold, until the alarm
    kept, silos    after it, by the threshold calibrated anew on the next 200 audits; best: see
                   ``Promise``; the old threshold's without an alarm
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


def drifts(scene: Scene, atlas: Atlas, seed: int, promise: float) -> list[Drifted]:
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
        _drift(scene, shares, changed, order, name, promise) for name, changed in changes.items()
    ]


def _drift(
    scene: Scene, shares: Floats, changed: Floats, order: Rows, name: str, promise: float
) -> Drifted:
    known, before, after = order[:200], order[200:400], order[400:]
    threshold = _calibrated(scene, shares, known, promise)
    quiet = calibration.wealth(_losses(scene, shares, before, threshold), promise)
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
    return Drifted(
        name,
        promise,
        int((quiet >= calibration.ALARM).any()),
        delay,
        float(1 - np.mean(losses[:delay] if alarm else losses)),
        float(measures.kept(asked, scene.held[test]).mean()),
        float(asked.sum(axis=1).mean()),
        measures.silos_for(changed[test], scene.held[test], promise),
    )


def _calibrated(scene: Scene, shares: Floats, rows: Rows, promise: float) -> float:
    """The threshold that keeps the promise by these audits; 0, everybody, when none does."""
    found = calibration.threshold(measures.with_first(shares[rows]), scene.shares[rows], promise)
    return found if found is not None else 0.0


def _losses(scene: Scene, shares: Floats, rows: Rows, threshold: float) -> list[float]:
    asked = measures.above(shares[rows], threshold)
    return [float(1 - value) for value in measures.kept(asked, scene.held[rows])]


# -- time and bytes -------------------------------------------------------------------------------


def milliseconds(scene: Scene, profiles: Sequence[Profile], most: int = 200) -> Mapping[str, float]:
    """CPU time of expecting and choosing, one question: these silos, and 1,000 copies of such."""
    from siloquy.router.choice import Limits, Target, choose

    many = [
        _renamed(profile, f"{profile.silo}-{i}")
        for i in range(MANY // len(profiles) + 1)
        for profile in profiles
    ][:MANY]
    times = {}
    for name, some in (("these", profiles), ("1,000", many)):
        atlas = Atlas(some, scene.topics, scene.lexicon)
        spent = []
        for row in range(min(most if name == "these" else 30, len(scene.asked.ids))):
            start = process_time()
            found = atlas.expect(scene.asked.vectors[row], scene.asked.terms[row], K)
            target, limits = Target(0.016, None), Limits()
            choose(atlas.silos, found.shares, K, "precise", target, limits, {})
            spent.append(1000 * (process_time() - start))
        times[name] = float(np.median(spent))
    return times


def _renamed(profile: Profile, name: str) -> Profile:
    from dataclasses import replace

    return replace(profile, silo=NodeId(name))
