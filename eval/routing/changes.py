"""What happens to a router when silos join, leave, fall silent or change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from siloquy.eval.routing import measures
from siloquy.eval.routing.routers import Rows, Trial, corrections, expected, taught
from siloquy.eval.routing.rows import RowWriter, unnoted
from siloquy.eval.scene import Floats, Scene
from siloquy.router.atlas import Atlas
from siloquy.router.fitting import log_odds
from siloquy.router.learning import Lessons, learn
from siloquy.types import Profile

PART = 0.33
OFFLINE = 0.3


@dataclass(frozen=True, slots=True)
class ShareKept:
    """A share kept beside the mean number of silos asked for it."""

    name: str
    kept: float
    silos: float


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


def changes(
    trials: Sequence[Trial], atlas: Atlas, note: RowWriter = unnoted
) -> dict[str, dict[str, float]]:
    """Means over the trials, by what happened to the silos."""
    found: dict[str, list[ShareKept]] = {}
    for trial in trials:
        kept = [
            *unseen(trial, atlas, note),
            *removed(trial, atlas.profiles, note),
            *stale(trial, note),
            *offline(trial, atlas, note),
        ]
        for item in kept:
            found.setdefault(item.name, []).append(item)
    return {
        name: {
            "kept": round(float(np.mean([item.kept for item in items])), 4),
            "silos": round(float(np.mean([item.silos for item in items])), 2),
        }
        for name, items in found.items()
    }
