"""Whom a round asks and in which mode: the router's choice within policy, settings and wishes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from siloquy.errors import PolicyDenied, SettingsError
from siloquy.gateway.asking import AskOptions
from siloquy.gateway.profiles import ProfileBook
from siloquy.ports import Router
from siloquy.router.choice import ask_all
from siloquy.router.modes import in_mode, of_fixed_number
from siloquy.settings import AskSettings
from siloquy.trust.identity import Identity
from siloquy.trust.roster import PinnedRoster, shared_organisation
from siloquy.types import Intent, NodeId, Plan, RouteRequest, Vector

AUDITED = "asked to check the router's promise; nothing leaves"


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question as it is planned for.

    vector   (d,) float32, unit length
    words    every word, in order
    among    the only silos that may be asked; None for all
    """

    vector: Vector
    words: tuple[str, ...]
    k: int
    among: tuple[NodeId, ...] | None = None


class Planner:
    """Plans of one gateway."""

    def __init__(
        self,
        identity: Identity,
        pinned: PinnedRoster,
        router: Router,
        profiles: ProfileBook,
        settings: AskSettings,
    ) -> None:
        self._identity = identity
        self._pinned = pinned
        self._router = router
        self._profiles = profiles
        self._settings = settings

    def askable(self, silos: Sequence[NodeId]) -> tuple[NodeId, ...]:
        """Those of ``silos`` that neither the settings nor what they have claimed rules out."""
        barred = self._router.barred(silos)
        return tuple(silo for silo in silos if silo not in barred)

    def plan(self, question: Question, options: AskOptions) -> Plan:
        """Whom to ask; PolicyDenied when that is nobody."""
        silos = self._silos()
        intent = options.intent or self._settings.intent
        if question.among is not None:
            plan = _wider(silos, self.askable(question.among), intent)
        elif (options.route or self._settings.route) == "all":
            plan = _all(silos, self._router.barred(silos), intent)
        else:
            plan = self._router.plan(
                RouteRequest(question.vector, question.words, question.k, intent, tuple(silos))
            )
        return self._in_mode(plan, options)

    def _in_mode(self, plan: Plan, options: AskOptions) -> Plan:
        """``plan`` in the mode that is wished for or wanted, without who does not take part."""
        sealing = self._profiles.sealing()
        plan = in_mode(plan, options.mode or self._settings.mode, sealing)
        if plan.mode == "sealed":
            barred = self._router.barred(plan.skipped)
            decoys = [s for s in plan.skipped if s not in barred and sealing.get(s) != "none"]
            random.SystemRandom().shuffle(decoys)
            plan = of_fixed_number(plan, self._settings.fan_out, decoys)
            shared = shared_organisation(self._pinned.current, self._identity.card, plan.asked)
            plan = dataclasses.replace(plan, notes=(*plan.notes, *shared))
        if not plan.asked:
            raise _nobody(plan)
        return plan

    def settled(self, options: AskOptions) -> AskOptions:
        """``options`` in one mode for several rounds: sealed when any silo wants it."""
        if (options.mode or self._settings.mode) != "auto":
            return options
        wanted = any(told in ("some", "all") for told in self._profiles.sealing().values())
        return dataclasses.replace(options, mode="sealed" if wanted else "open")

    def audit(self) -> Plan:
        """Every silo that may be asked openly; PolicyDenied when there is none."""
        silos = self._silos()
        plan = _all(silos, self._router.barred(silos), self._settings.intent, AUDITED)
        plan = in_mode(dataclasses.replace(plan, audit=True), "open", self._profiles.sealing())
        if not plan.asked:
            raise _nobody(plan)
        return plan

    def _silos(self) -> list[NodeId]:
        silos = [card.node for card in self._pinned.current.of_role("silo")]
        if not silos:
            raise SettingsError("the roster names no silo", "enrol a silo first")
        return silos


def merge_plans(plans: Sequence[Plan]) -> Plan:
    """One plan of all rounds: asked is who was asked in any, skipped who was in none.

    It is sealed when every round was: a silo that was asked openly has read the question.
    """
    first = plans[0]
    asked = tuple(dict.fromkeys(silo for plan in plans for silo in plan.asked))
    seen = dict.fromkeys(silo for plan in plans for silo in plan.skipped)
    reasons = {silo: why for plan in reversed(plans) for silo, why in plan.reasons.items()}
    for plan in reversed(plans):
        reasons |= {silo: plan.reasons[silo] for silo in plan.asked if silo in plan.reasons}
    return dataclasses.replace(
        first,
        mode="sealed" if all(plan.mode == "sealed" for plan in plans) else "open",
        asked=asked,
        skipped=tuple(silo for silo in seen if silo not in asked),
        reasons=reasons,
        coverage=first.coverage if len(plans) == 1 else None,
        audit=any(plan.audit for plan in plans),
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
    )


def _wider(silos: Sequence[NodeId], among: Sequence[NodeId], intent: Intent) -> Plan:
    asked = tuple(silo for silo in silos if silo in among)
    why = "asked in a second round: the first found too little"
    left = tuple(silo for silo in silos if silo not in among)
    return Plan("open", asked, left, dict.fromkeys(asked, why), intent=intent)


def _all(
    silos: Sequence[NodeId],
    barred: Mapping[NodeId, str],
    intent: Intent,
    why: str = "all silos are asked",
) -> Plan:
    """Every silo but those that are ruled out whatever the question."""
    plan = ask_all([silo for silo in silos if silo not in barred], why)
    reasons = plan.reasons | {str(silo): told for silo, told in barred.items()}
    return dataclasses.replace(plan, skipped=tuple(barred), reasons=reasons, intent=intent)


def _nobody(plan: Plan) -> PolicyDenied:
    whom = "" if plan.mode == "open" else " in sealed mode"
    return PolicyDenied(
        f"no silo may be asked{whom}",
        "silos approve gateways in policy.gateways; `siloquy gateway router` tells why",
    )
