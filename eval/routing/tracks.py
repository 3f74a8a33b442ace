"""What happens to a router when silos join, leave, fall silent or change, and what it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from time import process_time

import numpy as np
from numpy.typing import NDArray

from siloquy.eval.routing import measures
from siloquy.eval.routing.routers import Rows, Trial, corrections, expected, taught
from siloquy.eval.routing.rows import RowWriter, unnoted
from siloquy.eval.scene import Floats, K, Scene
from siloquy.router import calibration
from siloquy.router.atlas import Atlas
from siloquy.router.choice import ChoiceLimits, Target, choose
from siloquy.router.fitting import held_out, log_odds
from siloquy.router.learning import Lessons, learn
from siloquy.types import NodeId, Profile

PART = 0.33
PROMISES = (0.90, 0.95, 0.99)
AUDITS = (200, 400)
REPEATS = 20
OFFLINE = 0.3
MANY = 1000


@dataclass(frozen=True, slots=True)
class ShareKept:
    """A share kept beside the mean number of silos asked for it."""

    name: str
    kept: float
    silos: float


# -- silos come and go ----------------------------------------------------------------------------


def unseen(trial: Trial, atlas: Atlas, note: RowWriter = unnoted) -> list[ShareKept]:
    """Winners at a silo that joined after the feedback, beside one that the feedback knew.

    Of the three silos that hold most: what is kept of their own winners at one threshold for all.
    """
    scene, known = trial.scene, trial.known[:200]
    rows = np.argsort(-scene.held.sum(axis=0))[:3]
    names = "its own winners, silo known to feedback", "its own winners, silo just joined"
    found: dict[str, list[Floats]] = {name: [] for name in names}
    whole = taught(scene, atlas, known, trial.test)
    silos = PART * len(scene.sites)
    for row in rows:
        blind = _taught_without(scene, atlas, known, trial.test, int(row))
        held = scene.held[trial.test][:, row]
        some = held > 0
        for name, scores in zip(names, (whole, blind), strict=True):
            asked = measures.chosen(scores, silos)
            kept = asked[some, row].astype(np.float64)
            found[name].append(kept)
            note("silos", name=name, seed=trial.seed, questions=trial.test[some], kept=kept)
    return [ShareKept(name, _mean(parts), silos) for name, parts in found.items()]


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
    return corrections(scene, learned, test, expected(scene, atlas, test))


def removed(
    trial: Trial, profiles: Sequence[Profile], note: RowWriter = unnoted
) -> list[ShareKept]:
    """The three largest holders gone in turn: what is kept of the ten best of the others."""
    scene, name = trial.scene, "a silo removed"
    found = []
    for row in np.argsort(-scene.held.sum(axis=0))[:3]:
        rest = [profile for i, profile in enumerate(profiles) if i != row]
        others = np.arange(len(scene.sites)) != row
        held = best_among(scene, trial.test, others)[:, others]
        scores = expected(scene, Atlas(rest, scene.topics, scene.lexicon), trial.test)
        kept = measures.kept(measures.chosen(scores, PART * len(rest)), held)
        found.append(kept)
        note("silos", name=name, seed=trial.seed, questions=trial.test, kept=kept)
    return [ShareKept(name, _mean(found), PART * (len(scene.sites) - 1))]


def best_among(scene: Scene, rows: Rows, silos: NDArray[np.bool_]) -> Floats:
    """(n, S) the ten best of some silos alone."""
    n = len(scene.sites)
    found = [
        np.bincount(scene.offers[i].silos[scene.offers[i].best(silos)], minlength=n) for i in rows
    ]
    return np.stack(found).astype(np.float64)


def stale(trial: Trial, note: RowWriter = unnoted) -> list[ShareKept]:
    """Profiles made when half of each silo's documents, drawn by chance, were there."""
    scene, generator = trial.scene, np.random.default_rng(trial.seed)
    scores = expected(scene, half_known(scene, generator), trial.test)
    asked = measures.chosen(scores, PART * len(scene.sites))
    kept, name = measures.kept(asked, scene.held[trial.test]), "profiles of half of the documents"
    note("silos", name=name, seed=trial.seed, questions=trial.test, kept=kept)
    return [ShareKept(name, float(kept.mean()), PART * len(scene.sites))]


def half_known(scene: Scene, generator: np.random.Generator) -> Atlas:
    """Profiles of a random half of each silo's documents."""
    rows = []
    for site in scene.sites:
        some = generator.random(int(site.documents.max(initial=0)) + 1) < 0.5
        rows.append(np.flatnonzero(some[site.documents]))
    return Atlas(scene.profiles(inf, rows), scene.topics, scene.lexicon)


def offline(trial: Trial, atlas: Atlas, note: RowWriter = unnoted) -> list[ShareKept]:
    """Three in ten silos silent: what is kept of the others' ten best, not known yet and known."""
    scene, generator = trial.scene, np.random.default_rng(trial.seed)
    n = len(scene.sites)
    up = np.ones(n, dtype=bool)
    up[generator.choice(n, round(OFFLINE * n), replace=False)] = False
    held = best_among(scene, trial.test, up)
    scores = expected(scene, atlas, trial.test)
    found = []
    for name, told in (
        ("30 % silent, not known yet", scores),
        ("30 % silent, known", np.where(up, scores, -1.0)),
    ):
        kept = measures.kept(measures.chosen(told, PART * n) & up, held)
        note("silos", name=name, seed=trial.seed, questions=trial.test, kept=kept)
        found.append(ShareKept(name, float(kept.mean()), PART * n))
    return found


def _mean(parts: Sequence[Floats]) -> float:
    return float(np.concatenate(parts).mean()) if parts else float("nan")


# -- promises -------------------------------------------------------------------------------------


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


# -- time and bytes -------------------------------------------------------------------------------


def milliseconds(
    scene: Scene, profiles: Sequence[Profile], note: RowWriter = unnoted, most: int = 200
) -> Mapping[str, float]:
    """CPU time of expecting and choosing, one question: these silos, and 1,000 copies of such."""
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
            target, limits = Target(0.016, None), ChoiceLimits()
            choose(atlas.silos, found.shares, K, "precise", target, limits, {})
            spent.append(1000 * (process_time() - start))
        times[name] = float(np.median(spent))
        note("cost", silos=name, questions=range(len(spent)), milliseconds=spent)
    return times


def _renamed(profile: Profile, name: str) -> Profile:
    return replace(profile, silo=NodeId(name))
