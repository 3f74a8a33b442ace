"""The tracks of ``siloquy bench routing``, on one scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from siloquy.codec import encode
from siloquy.eval.routing import attacked, changes, comparison, costs
from siloquy.eval.routing import promises as promised
from siloquy.eval.routing import rows as routing_rows
from siloquy.eval.routing.comparison import OURS_PLAIN
from siloquy.eval.routing.context import RoutingContext
from siloquy.eval.track import Track

DRIFTING_PROMISE = 0.95


def normal(context: RoutingContext) -> dict[str, Any]:
    """Every router, and how far ours is ahead of it."""
    trials = context.trials
    scores = comparison.score_all(trials, context.told)
    context.rows.extend(routing_rows.of_routers(trials, scores))
    context.normal.update(comparison.figures(trials, scores))
    differences = comparison.differences(trials, scores, context.config.seed)
    return {"normal": context.normal, "differences": differences}


def silos(context: RoutingContext) -> dict[str, Any]:
    """What is kept while silos come and go."""
    context.told("silos that join, leave, change and fall silent")
    return {"silos_tracks": changes.changes(context.trials, context.plain, context.note)}


def promises(context: RoutingContext) -> dict[str, Any]:
    """Whether a promised coverage holds, and how soon its end is noticed."""
    context.told("promised coverage")
    scene, plain, note = context.scene, context.plain, context.note
    found = promised.promises(scene, plain, context.config.seed, note)
    drifts = [
        item
        for trial in context.trials
        for item in promised.drifts(scene, plain, trial.seed, DRIFTING_PROMISE, note)
    ]
    return {"promises": list(map(asdict, found)), "drift": list(map(asdict, drifts))}


def attacks(context: RoutingContext) -> dict[str, Any]:
    """What forged profiles and inflated scores win."""
    scene, trials, note = context.scene, context.trials, context.note
    profiles = context.plain.profiles
    hijacks = attacked.hijacks(scene, trials, profiles, context.told, note)
    inflated = attacked.inflated(scene, profiles, trials[0].test[: attacked.STREAM], note)
    return {"attacks": hijacks, "inflated": asdict(inflated)}


def cost(context: RoutingContext) -> dict[str, Any]:
    """Time and bytes; those of a question only where the routers were compared."""
    context.told("time and bytes")
    scene, profiles = context.scene, context.plain.profiles
    found: dict[str, Any] = {
        "milliseconds": dict(costs.milliseconds(scene, profiles, context.note)),
        "profile_bytes": max(len(encode(profile)) for profile in profiles),
    }
    if context.normal:
        ours = context.normal[OURS_PLAIN]["silos for 0.98"]
        found["bytes"] = costs.question_bytes(scene, ours)
    return found


TRACKS: Mapping[str, Track[RoutingContext]] = {
    "normal": Track("silos that each router asks for the same evidence", normal),
    "silos": Track("what is kept while silos join, leave, change and fall silent", silos),
    "promises": Track("promised coverage, and when a broken promise is noticed", promises),
    "attacks": Track("what forged profiles and inflated scores win", attacks),
    "cost": Track("CPU time and bytes of one question, bytes of a profile", cost),
}
