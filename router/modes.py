"""In which mode the chosen silos are asked, and whom that leaves out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from siloquy.types import Mode, NodeId, Plan, Sealing

WishedMode = Literal["auto", "open", "sealed"]

UNABLE = "cannot score sealed questions (siloquy[he] is not installed there)"
CLOSED = "answers sealed questions alone: ask in sealed mode"
DECOY = "a decoy: sealed questions are asked of a fixed number of silos"
CUT = "fewer silos were asked than were chosen: ask.fan_out"
WANTED = "asked in sealed mode, as a silo's policy wants it"


def in_mode(plan: Plan, wished: WishedMode, sealing: Mapping[NodeId, Sealing]) -> Plan:
    """``plan`` in its mode, without the silos that do not take part in it.

    auto is sealed when a chosen silo wants it, else open. A silo that tells nothing is asked: it
    can refuse. No coverage is promised in sealed mode: audits are of open questions.
    """
    mode = _mode(plan, wished, sealing)
    unfit: Sealing = "none" if mode == "sealed" else "all"
    out = tuple(silo for silo in plan.asked if sealing.get(silo) == unfit)
    kept = tuple(silo for silo in plan.asked if silo not in out)
    why = UNABLE if mode == "sealed" else CLOSED
    notes = plan.notes
    if mode == "sealed" and wished == "auto":
        notes = (*notes, WANTED)
    partly = [silo for silo in kept if sealing.get(silo) == "some"]
    if mode == "open" and partly:
        told = ", ".join(partly)
        notes = (*notes, f"collections that answer sealed questions alone are left out: {told}")
    return replace(
        plan,
        mode=mode,
        asked=kept,
        skipped=(*plan.skipped, *out),
        reasons={**plan.reasons, **dict.fromkeys(out, why)},
        coverage=None if out or mode == "sealed" else plan.coverage,
        notes=notes,
    )


def _mode(plan: Plan, wished: WishedMode, sealing: Mapping[NodeId, Sealing]) -> Mode:
    if wished != "auto":
        return wished
    wanted = any(sealing.get(silo) in ("some", "all") for silo in plan.asked)
    return "sealed" if wanted else "open"


def of_fixed_number(plan: Plan, fan_out: int, decoys: Sequence[NodeId]) -> Plan:
    """``plan`` for exactly ``fan_out`` silos, as far as there are so many; 0: as it is.

    How many are asked then says nothing of the question. Decoys are asked in earnest.

    decoys   silos that could be asked and are not, in random order
    """
    if not fan_out or len(plan.asked) == fan_out:
        return plan
    cut = plan.asked[fan_out:]
    more = tuple(decoys[: max(fan_out - len(plan.asked), 0)])
    asked = (*plan.asked[:fan_out], *more)
    return replace(
        plan,
        asked=asked,
        skipped=(*(silo for silo in plan.skipped if silo not in more), *cut),
        reasons={**plan.reasons, **dict.fromkeys(cut, CUT), **dict.fromkeys(more, DECOY)},
        coverage=None if cut else plan.coverage,
        notes=(*plan.notes, CUT) if cut else plan.notes,
    )
