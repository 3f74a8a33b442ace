"""Which silos to ask: the fewest that keep the promise, within cost, patience and policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import SettingsError
from siloquy.types import Intent, NodeId, Plan

# Shares of the top-k under which a silo is not asked, while no audit has calibrated them: what kept
# the share on the left of mediqa_sites' and evidence_mix' best ten on average, the lower of both.
USUAL_THRESHOLDS = {0.8: 0.08, 0.9: 0.033, 0.95: 0.016, 0.98: 0.006, 0.99: 0.004}
LEAST_DIVERSE = 3
LEAST_LIKELY = 0.3
DIVERSE_QUOTA = 0.5
CUT = "fewer silos were asked than the promised coverage needs: most_silos"
LEFT_OUT = "no coverage is promised: a silo that may hold some of the best is left out"


@dataclass(frozen=True, slots=True)
class ChoiceLimits:
    """What a choice must keep to.

    most      silos at most; 0 for any number
    costs     what asking a silo costs beside the usual 1
    barred    silos that must not be asked, and why
    obliged   silos that are asked whatever is expected of them, and why
    """

    most: int = 0
    costs: Mapping[NodeId, float] = field(default_factory=dict)
    barred: Mapping[NodeId, str] = field(default_factory=dict)
    obliged: Mapping[NodeId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """How far down the ranking to go.

    threshold   least share of the top-k, for a silo's cost, for which it is asked
    promise     the share kept on average that audits calibrated it for; None: nothing did
    """

    threshold: float
    promise: float | None


def usual_threshold(coverage: float) -> float:
    """A threshold for the wanted coverage that other federations needed; promises nothing."""
    wanted = np.array(sorted(USUAL_THRESHOLDS))
    logs = np.log([USUAL_THRESHOLDS[share] for share in wanted.tolist()])
    return float(np.exp(np.interp(np.log1p(-coverage), np.log1p(-wanted)[::-1], logs[::-1])))


def priorities(
    silos: Sequence[NodeId], shares: NDArray[np.float64], costs: Mapping[NodeId, float]
) -> NDArray[np.float64]:
    """(..., S) expected shares for what asking each silo costs: what it is ranked by."""
    if not costs:
        return shares
    return np.asarray(shares / [max(costs.get(silo, 1.0), 1e-9) for silo in silos])


def choose(
    silos: Sequence[NodeId],
    shares: NDArray[np.float64],
    k: int,
    intent: Intent,
    target: Target,
    limits: ChoiceLimits,
    about: Mapping[NodeId, Sequence[str]],
) -> Plan:
    """The plan: silos whose expected share, for their cost, reaches the threshold, and the first.

    shares   (S,) expected share of the global top-``k``, summing to 1
    about    topics of the question that a silo holds much of
    """
    wanted = _wanted(priorities(silos, shares, limits.costs), silos, intent, target, limits)
    extra = [silo for silo in limits.obliged if silo not in limits.barred]
    needed = dict.fromkeys((*(silos[row] for row in wanted.rows), *extra))
    asked = list(needed)[: limits.most or None]
    cut = len(asked) < len(needed)
    left_out = wanted.left_out or any(silo in limits.barred for silo in limits.obliged)
    chosen = set(asked)
    wishes = {silos[row] for row in wanted.rows}
    reasons = _reasons(silos, shares, k, limits, about, wishes, chosen)
    return Plan(
        mode="open",
        asked=tuple(asked),
        skipped=cast("tuple[NodeId, ...]", tuple([s for s in reasons if s not in chosen])),
        reasons=reasons,
        coverage=None if cut or left_out or not asked else target.promise,
        intent=intent,
        notes=_notes(target, cut=cut, left_out=left_out),
    )


@dataclass(frozen=True, slots=True)
class _ChosenRows:
    """Rows of the silos to ask, best first, and whether one as good as them may not be asked."""

    rows: list[int]
    left_out: bool


def _wanted(
    priority: NDArray[np.float64],
    silos: Sequence[NodeId],
    intent: Intent,
    target: Target,
    limits: ChoiceLimits,
) -> _ChosenRows:
    free = priority > 0
    left_out = False
    if limits.barred and len(silos):
        barred = np.array([silo in limits.barred for silo in silos], dtype=bool)
        level = min(target.threshold, float(priority.max()))
        left_out = bool((barred & free & (priority >= level)).any())
        free &= ~barred
    least = LEAST_DIVERSE if intent == "diverse" else 1
    count = max(int(np.count_nonzero(free & (priority >= target.threshold))), least)
    order = np.argsort(np.where(free, -priority, 1.0), kind="stable")
    return _ChosenRows(order[: min(count, int(np.count_nonzero(free)))].tolist(), left_out)


def _notes(target: Target, *, cut: bool, left_out: bool) -> tuple[str, ...]:
    if target.promise is None:
        return ()
    notes = []
    if cut:
        notes.append(CUT)
    if left_out:
        notes.append(LEFT_OUT)
    return tuple(notes)


def _reasons(
    silos: Sequence[NodeId],
    shares: NDArray[np.float64],
    k: int,
    limits: ChoiceLimits,
    about: Mapping[NodeId, Sequence[str]],
    wanted: set[NodeId],
    asked: set[NodeId],
) -> dict[str, str]:
    """Why each silo is asked or not, in words for a clinician; in the order of expectation."""
    full = f"no more than {limits.most} silos are asked (most_silos)"
    order = np.argsort(-shares, kind="stable").tolist()
    reasons = _unlikely(silos, order, k * shares, k)
    for row in order:
        silo = silos[row]
        if silo in limits.barred:
            reasons[silo] = limits.barred[silo]
        elif silo in asked:
            expected = _expected(k * float(shares[row]), k, about.get(silo, ()))
            reasons[silo] = expected if silo in wanted else limits.obliged[silo]
        elif silo in wanted or silo in limits.obliged:
            reasons[silo] = full
    for silo, why in {**limits.obliged, **limits.barred}.items():
        if silo not in reasons:
            told = silo in asked or silo in limits.barred
            reasons[silo] = why if told else full
    return reasons


def _left(count: float, k: int) -> str:
    """Why a silo with so many expected passages is left out."""
    if count >= LEAST_LIKELY:
        return (
            f"may hold one of the best {k} passages ({count:.1f} expected), fewer than the others"
        )
    return f"unlikely to hold any of the best {k} passages ({count:.2f} expected)"


def _unlikely(
    silos: Sequence[NodeId], order: Sequence[int], counts: NDArray[np.float64], k: int
) -> dict[str, str]:
    """Why a silo that is not asked is not, in this order; equal words are made once."""
    hundredths = np.rint(100 * counts).astype(np.int64)
    words = {number: _left(number / 100, k) for number in np.unique(hundredths).tolist()}
    said = [words[number] for number in hundredths.tolist()]
    for row in np.flatnonzero(counts <= 0).tolist():
        said[row] = "holds no passages"
    return {silos[row]: said[row] for row in order}


def _expected(count: float, k: int, topics: Sequence[str]) -> str:
    covers = f"; covers {' and '.join(topics)}" if topics else ""
    if count < 0.95:
        return f"may hold one of the best {k} passages ({count:.1f} expected){covers}"
    return f"likely to hold about {count:.0f} of the best {k} passages{covers}"


def ask_all(silos: Sequence[NodeId], why: str = "all silos are asked") -> Plan:
    """A plan that asks every silo."""
    return Plan("open", tuple(silos), (), dict.fromkeys(silos, why))


def costs(entries: Sequence[str]) -> dict[NodeId, float]:
    """Entries such as ``["st-anna=2.5"]`` as numbers; SettingsError for another form."""
    found: dict[NodeId, float] = {}
    for entry in entries:
        name, _, cost = entry.partition("=")
        try:
            found[NodeId(name)] = float(cost)
        except ValueError:
            raise SettingsError(f"ask.costs has {entry!r}", 'write ["st-anna=2.5"]') from None
        if not found[NodeId(name)] > 0:
            raise SettingsError(f"ask.costs of {name} is {cost}", "a cost is above 0")
    return found
