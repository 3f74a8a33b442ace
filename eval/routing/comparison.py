"""All routers on the same questions: silos asked for the same evidence, and ours against each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from siloquy.eval import metrics
from siloquy.eval.routing import measures
from siloquy.eval.routing.routers import OURS, ROUTERS, Trial
from siloquy.eval.scene import Floats
from siloquy.types import Progress

OURS_PLAIN = f"{OURS}, no noise"
Scores = Mapping[str, Sequence[Floats]]
"""By router, for each trial: (n, S)."""


def score_all(trials: Sequence[Trial], told: Progress) -> Scores:
    """Scores of each router in each trial."""
    found: dict[str, list[Floats]] = {}
    for name, router in ROUTERS.items():
        for trial in trials:
            told(f"router {name}")
            scores = np.asarray(router(trial), dtype=np.float64)
            # Ties are broken by chance, for all routers alike.
            scores = scores + 1e-12 * np.random.default_rng(trial.seed).random(scores.shape)
            found.setdefault(name, []).append(scores)
    return found


def figures(trials: Sequence[Trial], scores: Scores) -> dict[str, dict[str, float]]:
    """Measures of each router, means over the trials."""
    results = {}
    for name, found in scores.items():
        parts = [_figures(trial, s, name) for trial, s in zip(trials, found, strict=True)]
        means = {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
        results[name] = {key: round(value, 4) for key, value in means.items()}
    return results


def _figures(trial: Trial, scores: Floats, name: str) -> dict[str, float]:
    """Measures of one router in one trial; ``all`` asks everybody."""
    scene = trial.scene
    held, n = scene.held[trial.test], len(scene.sites)
    offers = [scene.offers[i] for i in trial.test]
    relevant = [scene.asked.relevant[i] for i in trial.test]
    whole = np.nanmean(measures.recall(np.ones_like(held, dtype=bool), offers, relevant))
    figures = {"ndcg@3": float(measures.ndcg(scores, held).mean())}
    for wanted in measures.KEPT:
        silos = n if name == "all" else measures.silos_for(scores, held, wanted)
        figures[f"silos for {wanted:.2f}"] = float(silos)
    for part in measures.PARTS:
        asked = measures.chosen(scores, n if name == "all" else part * n)
        figures[f"kept at {part:.2f}"] = float(measures.kept(asked, held).mean())
        found = np.nanmean(measures.recall(asked, offers, relevant))
        figures[f"recall at {part:.2f}"] = float(found / whole)
        figures[f"all hit at {part:.2f}"] = float(
            np.nanmean(measures.all_hit(asked, relevant, scene.of))
        )
    return figures


def differences(trials: Sequence[Trial], scores: Scores, seed: int) -> dict[str, dict[str, float]]:
    """Ours without noise minus each other router: share kept at a third of the silos, paired."""
    part = measures.PARTS[0]

    def kept(name: str) -> Floats:
        found = []
        for trial, values in zip(trials, scores[name], strict=True):
            asked = measures.chosen(values, part * len(trial.scene.sites))
            found.append(measures.kept(asked, trial.scene.held[trial.test]))
        return np.concatenate(found)

    mine = kept(OURS_PLAIN)
    return {
        name: asdict(metrics.estimate(list(mine - kept(name)), seed))
        for name in scores
        if name not in (OURS_PLAIN, "all")
    }
