"""The router of a gateway: which silos to ask, of what is known and learned of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from siloquy.router import choice, trust
from siloquy.router.choice import ChoiceLimits, Target
from siloquy.router.experience import Experience, SiloStanding
from siloquy.router.fitting import RouterFit
from siloquy.router.health import Health
from siloquy.router.learner import Learner
from siloquy.router.view import View
from siloquy.settings import AskSettings
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.types import (
    Intent,
    NodeId,
    Plan,
    Probe,
    Profile,
    RouteRequest,
    SearchFeedback,
    Term,
)

DRIFTED = "recent questions broke the promised coverage: all silos are asked until it holds again"
AUDITED = "asked to check the router's promise"
NEVER = "this gateway does not ask it"
STRUCK_OUT = "its claimed scores did not fit its passages; an administrator can clear it"
NEW = "new to the audits that the promised coverage rests on"
NO_PROFILE = "shows this gateway no profile"
NOT_IN_ROSTER = "is not in the roster"
_chance = secrets.SystemRandom().random


class LearningRouter:
    """``ports.Router``: plans, while its ``learner`` learns."""

    def __init__(
        self,
        topics: Topics,
        lexicon: Lexicon,
        experience: Experience,
        settings: AskSettings,
        clock: Callable[[], int],
        chance: Callable[[], float] = _chance,
    ) -> None:
        self.learner = Learner(topics, lexicon, experience, settings, clock)
        self.health = Health(clock)
        self._settings = settings
        self._clock = clock
        self._chance = chance

    # -- planning -------------------------------------------------------------------------------

    def plan(self, sought: RouteRequest) -> Plan:
        """The silos to ask, most expected first, with a reason for each."""
        view = self.learner.view
        limits, resting = self._limits(view, sought)
        allowed = [silo for silo in sought.silos if silo not in limits.barred]
        all_may_be_asked = not limits.most or len(allowed) <= limits.most
        drifted = view.fitted.drifted
        if all_may_be_asked and (drifted or self._chance() < self._settings.audit):
            # While a silo rests its winners are unknown, so the question cannot count as an audit.
            return _audit(allowed, limits, sought.intent, drifted=drifted, audit=not resting)
        shares, towards = view.expected(sought.vector, sought.words, sought.k)
        target = self._target(view.fitted, sought.intent)
        silos = view.atlas.silos
        about: dict[NodeId, tuple[str, ...]] = {}
        if len(silos):
            ranked = view.priorities(shares)
            rows = np.flatnonzero(ranked >= min(target.threshold, float(ranked.max()))).tolist()
            named = view.atlas.about(rows, towards)
            about = {silos[row]: names for row, names in zip(rows, named, strict=True)}
        return choice.choose(silos, shares, sought.k, sought.intent, target, limits, about)

    def terms(self, words: Sequence[str]) -> tuple[Term, ...]:
        """A question's words without stop words, each weighed alike for all silos."""
        return self.learner.view.weigh(words)

    def quotas(self, plan: Plan, k: int) -> dict[NodeId, int]:
        """How many of ``k`` winners silos may have that may not have all."""
        diverse = plan.intent == "diverse" and len(plan.asked) > 1
        most = max(1, round(choice.DIVERSE_QUOTA * k)) if diverse else k
        return trust.quotas(self.learner.view.standings, plan.asked, k, most)

    def _target(self, fitted: RouterFit, intent: Intent) -> Target:
        settings = self._settings
        coverage = settings.fast_coverage if intent == "fast" else settings.coverage
        found = fitted.thresholds.get(coverage)
        if found is None:
            return Target(choice.usual_threshold(coverage), None)
        return Target(found, coverage)

    def barred(self, silos: Sequence[NodeId]) -> dict[NodeId, str]:
        """Those of ``silos`` that no question is asked of for now, all silos' ones included."""
        now, standings = self._clock(), self.learner.view.standings
        never = set(self._settings.never)
        struck = {s for s, standing in standings.items() if trust.struck_out(standing, now)}
        return {
            silo: NEVER if silo in never else STRUCK_OUT
            for silo in silos
            if silo in never or silo in struck
        }

    def _limits(self, view: View, sought: RouteRequest) -> tuple[ChoiceLimits, bool]:
        """Whom policy, trust and health leave out and whom they oblige; whether one just rests."""
        roster, known = set(sought.silos), view.atlas.rows
        barred = self.barred(sought.silos)
        obliged: dict[NodeId, str] = {}
        for silo in sought.silos:
            if silo not in known and silo not in barred:
                if self._settings.unprofiled and not self.health.refused(silo):
                    obliged[silo] = f"{NO_PROFILE}, so it is asked"
                else:
                    barred[silo] = NO_PROFILE
        patience = self._settings.patience_ms if sought.intent == "fast" else None
        unfit = self.health.all_unfit(patience)
        resting = {s: why for s, why in unfit.items() if s in roster and s not in barred}
        gone = dict.fromkeys((silo for silo in known if silo not in roster), NOT_IN_ROSTER)
        for silo in view.fitted.new:
            if silo not in barred and silo not in gone and view.beliefs[known[silo]] == 1.0:
                obliged[silo] = NEW
        most, all_barred = self._settings.most_silos, barred | resting | gone
        return ChoiceLimits(most, view.costs, all_barred, obliged), bool(resting)

    # -- learning -------------------------------------------------------------------------------

    def follow(self, profiles: Sequence[Profile]) -> None:
        """Plan with these profiles from now on; refits when they say something new."""
        self.learner.follow(profiles)

    def heard(self, heard: SearchFeedback) -> None:
        """Learn where the winners of a question lay; refits now and then."""
        self.health.note(heard.plan.asked, heard.missing, heard.silo_ms)
        self.learner.heard(heard)

    def checked(self, verified: Mapping[NodeId, int], false: Mapping[NodeId, int]) -> None:
        """Believe silos by whether the claims of their released passages fitted."""
        self.learner.checked(verified, false)

    def unprobed(self) -> list[Probe]:
        """Probes for profiles whose content has not been probed yet."""
        return self.learner.unprobed()

    def probed(self, probe: Probe, claims: Sequence[Sequence[float]]) -> None:
        """Keep what the probes of a silo came to; without probes it is believed."""
        self.learner.probed(probe, claims)

    # -- telling --------------------------------------------------------------------------------

    @property
    def silos(self) -> tuple[NodeId, ...]:
        """Silos with a profile, in the order of the atlas."""
        return self.learner.view.atlas.silos

    @property
    def fitted(self) -> RouterFit:
        """What the experience came to."""
        return self.learner.view.fitted

    @property
    def standings(self) -> dict[NodeId, SiloStanding]:
        """What silos' words have been worth."""
        return dict(self.learner.view.standings)


def _audit(
    allowed: Sequence[NodeId], limits: ChoiceLimits, intent: Intent, *, drifted: bool, audit: bool
) -> Plan:
    plan = choice.ask_all(allowed, DRIFTED if drifted else AUDITED)
    return replace(
        plan,
        skipped=tuple(limits.barred),
        reasons=plan.reasons | dict(limits.barred),
        intent=intent,
        audit=audit,
        notes=(DRIFTED,) if drifted else (),
    )
