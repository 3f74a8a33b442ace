"""Which silos to ask: the fewest that keep the promise, within cost, patience and policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from siloquy.types import Intent, NodeId, Plan

# Shares of the top-k under which a silo is not asked, while no audit has calibrated them: what kept
# the share on the left of mediqa_sites' and evidence_mix' best ten on average, the lower of both.
USUAL_THRESHOLDS = {0.8: 0.08, 0.9: 0.033, 0.95: 0.016, 0.98: 0.006, 0.99: 0.004}
LEAST_DIVERSE = 3
DIVERSE_QUOTA = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """What a choice must keep to.

    most          silos at most; 0 for any number
    costs         what asking a silo costs beside the usual 1
    barred        silos that must not be asked, and why
    obliged       silos that are asked whatever is expected of them, and why
    """

    most: int = 0
    costs: Mapping[NodeId, float] = field(default_factory=dict)
    barred: Mapping[NodeId, str] = field(default_factory=dict)
    obliged: Mapping[NodeId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """How far down the ranking to go.

    threshold   least share of the top-k for which a silo is asked
    promise     the share kept on average that audits calibrated it for; None: nothing did
    """

    threshold: float
    promise: float | None


def usual_threshold(coverage: float) -> float:
    """A threshold for the wanted coverage that other federations needed; promises nothing."""
    wanted = np.array(sorted(USUAL_THRESHOLDS))
    logs = np.log([USUAL_THRESHOLDS[share] for share in wanted.tolist()])
    return float(np.exp(np.interp(np.log1p(-coverage), np.log1p(-wanted)[::-1], logs[::-1])))


def choose(
    silos: Sequence[NodeId],
    shares: NDArray[np.float64],
    k: int,
    intent: Intent,
    target: Target,
    limits: Limits,
    about: Mapping[NodeId, Sequence[str]],
) -> Plan:
    """The plan: silos whose expected share, for their cost, reaches the threshold, and the first.

    shares   (S,) expected share of the global top-``k``, summing to 1
    about    topics of the question that a silo holds much of
    """
    free = np.array([silo not in limits.barred for silo in silos], dtype=bool)
    costs = np.array([limits.costs.get(silo, 1.0) for silo in silos])
    priority = np.where(free & (shares > 0), shares / np.maximum(costs, 1e-9), -1.0)
    order = [int(row) for row in np.argsort(-priority, kind="stable") if priority[row] >= 0]
    least = min(LEAST_DIVERSE, len(order)) if intent == "diverse" else min(1, len(order))
    wanted = sum(priority[row] >= target.threshold for row in order)
    rows = order[: max(wanted, least)]
    extra = [silo for silo in limits.obliged if silo not in limits.barred]
    if limits.most:
        rows = rows[: max(limits.most - len(extra), 1)]
    asked = [silos[row] for row in rows]
    asked += [silo for silo in extra if silo not in asked]
    kept_to = not limits.most or max(wanted, least) <= len(rows)
    barred = any(shares[row] >= target.threshold for row in np.flatnonzero(~free))
    reasons = _reasons(silos, shares, k, limits, about, asked)
    return Plan(
        mode="open",
        asked=tuple(asked),
        skipped=tuple(NodeId(silo) for silo in reasons if silo not in asked),
        reasons=reasons,
        coverage=target.promise if kept_to and not barred else None,
        intent=intent,
        notes=_notes(target, kept_to=kept_to, barred=barred),
    )


def _notes(target: Target, *, kept_to: bool, barred: bool) -> tuple[str, ...]:
    if target.promise is None:
        return ()
    notes = []
    if not kept_to:
        notes.append("fewer silos were asked than the promised coverage needs: most_silos")
    if barred:
        notes.append("no coverage is promised: a silo that may hold some of the best is left out")
    return tuple(notes)


def _reasons(
    silos: Sequence[NodeId],
    shares: NDArray[np.float64],
    k: int,
    limits: Limits,
    about: Mapping[NodeId, Sequence[str]],
    asked: Sequence[NodeId],
) -> dict[str, str]:
    """Why each silo is asked or not, in words for a clinician; in the order of expectation."""
    reasons: dict[str, str] = {}
    for row in np.argsort(-shares, kind="stable"):
        silo, count = silos[row], k * shares[row]
        if silo in limits.barred:
            reasons[silo] = limits.barred[silo]
        elif silo in asked:
            reasons[silo] = limits.obliged.get(silo) or _expected(count, k, about.get(silo, ()))
        elif not shares[row]:
            reasons[silo] = "holds no passages"
        else:
            reasons[silo] = f"unlikely to hold any of the best {k} passages ({count:.2f} expected)"
    reasons |= {silo: why for silo, why in limits.obliged.items() if silo not in reasons}
    return reasons | {silo: why for silo, why in limits.barred.items() if silo not in reasons}


def _expected(count: float, k: int, topics: Sequence[str]) -> str:
    covers = f"; covers {' and '.join(topics)}" if topics else ""
    if count < 0.95:
        return f"may hold one of the best {k} passages ({count:.1f} expected){covers}"
    return f"likely to hold about {count:.0f} of the best {k} passages{covers}"


def ask_all(silos: Sequence[NodeId], why: str = "all silos are asked") -> Plan:
    """A plan that asks every silo."""
    return Plan("open", tuple(silos), (), dict.fromkeys(silos, why))
